"""What `run` ends with: the leaderboard, where the tables and the report are, what to type next, the answer."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console

from flexres_tune.raytune.terminal import harmless
from flexres_tune.results.paths import SweepPaths


def print_ending(console: Console, paths: SweepPaths, has_new_rows: bool) -> None:
    """The report is written anew only if there are new rows, or it is not there."""
    from flexres_tune.results import open_results
    from flexres_tune.results.answer import answer_sentence
    from flexres_tune.results.answers import answer_leaderboard
    from flexres_tune.results.present import print_section

    for section in answer_leaderboard(open_results(paths.root), paths.sweep, limit=10).sections:
        print_section(section, console)
    _say(console, f"tables: {paths.folder}")
    _say(console, write_report(paths) if has_new_rows or not paths.report.exists() else f"report: {paths.report}")
    next_command = ["python", "-m", "flexres_tune.query", "leaderboard", "--sweep", paths.sweep]
    if paths.root != Path("results"):
        next_command += ["--results", str(paths.root)]
    _say(console, f"next:   {shlex.join(next_command)}")
    _say(console, answer_sentence(open_results(paths.root), paths.sweep))


def write_report(paths: SweepPaths) -> str:
    """The line that says where it is, or why it is not."""
    from flexres_tune.results import open_results
    from flexres_tune.results.report.write import try_report

    return try_report(open_results(paths.root), paths.sweep)


def _say(console: Console, text: str) -> None:
    console.print(harmless(text), soft_wrap=True)
