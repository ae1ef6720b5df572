"""Paths of the files of a sweep: one folder per table, checkpoints, plan.json, report.html, logs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from flexres_tune.errors import ResultsError
from flexres_tune.names import name_problem
from flexres_tune.storage import AnyPath, is_remote, make_path

TABLES = ("trials", "epochs", "decisions", "predictions", "labels")


@dataclass(frozen=True)
class SweepPaths:
    """All paths of one sweep in a results folder, on this machine or on object storage.

    Raises:
        ResultsError: the sweep's name is not a safe name of a folder, such as `../x`.
    """

    root: AnyPath
    sweep: str

    def __post_init__(self):
        object.__setattr__(self, "root", make_path(self.root))
        if problem := name_problem(self.sweep):
            raise ResultsError(f"{self.root}: the sweep's name {problem}")

    @property
    def folder(self) -> AnyPath:
        return self.root / self.sweep

    @property
    def trials(self) -> AnyPath:
        return self.folder / "trials"

    @property
    def epochs(self) -> AnyPath:
        return self.folder / "epochs"

    @property
    def decisions(self) -> AnyPath:
        return self.folder / "decisions"

    @property
    def checkpoints(self) -> AnyPath:
        return self.folder / "checkpoints"

    @property
    def plan(self) -> AnyPath:
        return self.folder / "plan.json"

    @property
    def report(self) -> AnyPath:
        return self.folder / "report.html"

    @property
    def tags(self) -> AnyPath:
        """The folder of what people say of trials; see results/tags.py."""
        return self.folder / "tags"

    @property
    def notes(self) -> AnyPath:
        """What people say of the sweep; the report shows it."""
        return self.folder / "notes.md"

    @property
    def lock(self) -> AnyPath:
        return self.folder / "driver.lock"

    @property
    def fetched(self) -> AnyPath:
        """Which files `submit --fetch` copied, and from where."""
        return self.folder / ".fetched.json"

    def logs(self, name: str) -> Path:
        """Where one of `run --logger`'s loggers writes; always on this machine.

        Loggers append to their files for as long as a trial runs, and objects cannot be appended to.
        """
        if is_remote(self.root):
            return Path("results") / self.sweep / "logs" / name
        return self.folder / "logs" / name

    def table(self, name: str) -> AnyPath:
        """The folder of one of TABLES."""
        return self.folder / name

    def checkpoint(self, trial_id: str) -> AnyPath:
        """The one checkpoint of a trial, whichever process writes it."""
        if problem := name_problem(trial_id):
            raise ResultsError(f"{self.checkpoints}: a trial_id {problem}")
        return self.checkpoints / f"{trial_id}.pt"


def query_command(paths: SweepPaths, answer: str) -> str:
    """What to type to see an answer about a sweep, such as its leaderboard."""
    words = ["python", "-m", "flexres_tune.query", answer, "--sweep", paths.sweep]
    return shlex.join([*words, *(["--results", str(paths.root)] if paths.root != Path("results") else [])])


def steer_command(paths: SweepPaths, act: str) -> str:
    """What to type to steer a sweep that runs."""
    words = ["python", "-m", "flexres_tune.steer", paths.sweep, act]
    return shlex.join([*words, *(["--results", str(paths.root)] if paths.root != Path("results") else [])])


def index_path(root: AnyPath) -> AnyPath:
    """The page that lists all sweeps of a results folder."""
    return make_path(root) / "index.html"
