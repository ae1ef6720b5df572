"""Ask the tables: `python -m flexres_tune.query leaderboard`, or a SQL query over trials, epochs and decisions."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flexres_tune import cli
from flexres_tune.cli import Format
from flexres_tune.errors import ResultsError

if TYPE_CHECKING:
    from flexres_tune.query.views import Answer
    from flexres_tune.storage import AnyPath

COMMANDS = {
    "leaderboard": "a row a configuration, ranked by mean validation accuracy over seeds",
    "trials": "a row a trial, best first",
    "curves": "validation accuracy of each trial over its epochs",
    "published": "the published tables beside what sweeps/published/ measured; rows not run say so",
    "compare": "the effect of PARAMETER, with intervals; with --by OTHER the grid of the two",
    "equal-cost": "the best configuration at equal epochs, and at equal device-seconds",
    "pareto": "the configurations that nothing beats: accuracy against parameters, and against device-seconds",
    "stops": "what the scheduler stopped, at which rung, against which cutoff, and what that saved",
    "diff": "what differs between two configurations, or two sweeps, A and B",
    "importance": "each parameter's share of the variance of accuracy (fANOVA)",
    "status": "done, stopped, failed and missing trials of each sweep, why, and how to go on",
}
EVIDENCE = ("compare", "equal-cost", "pareto", "stops", "diff", "importance")  # results/evidence.py answers these
ARGUMENTS = {"compare": ("PARAMETER",), "diff": ("A", "B")}
EXAMPLES = """Examples:

  python -m flexres_tune.query leaderboard

  python -m flexres_tune.query trials --sweep optim --format csv --out trials.csv

  python -m flexres_tune.query compare optimizer --by lr --sweep optim

  python -m flexres_tune.query diff optim lr

  python -m flexres_tune.query "SELECT optimizer, lr, max(best_val_accuracy) FROM trials GROUP BY ALL"

  python -m flexres_tune.query "SELECT epoch, avg(val_accuracy) FROM epochs WHERE sweep = 'optim' GROUP BY ALL"
"""


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
def query(
    context: typer.Context,
    what: Annotated[
        str | None, typer.Argument(metavar="COMMAND|SQL", help=f"{', '.join(COMMANDS)}, or a SQL query in quotes.")
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGUMENT]...", help="compare PARAMETER, diff A B.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="compare: the second parameter, for a grid of two.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Only this sweep; all if absent.")] = None,
    results: Annotated[
        str, typer.Option(metavar="FOLDER|URL", help="Where the results are: a folder, s3://... or gs://...")
    ] = "results",
    format: Annotated[Format, typer.Option(help="How to print or write it.")] = Format.TABLE,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write to this file instead of printing.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Rows at most: a board's, a sweep's trials or curves, a query's.")
    ] = None,
) -> None:
    """Ask the tables that sweeps leave behind, also while they run."""
    if what is None:
        typer.echo(context.get_help())
        return
    if format is Format.PARQUET and out is None:
        raise ResultsError("--format parquet is no text: add --out FILE, such as --out answer.parquet")
    from flexres_tune.storage import make_path

    file = None if out is None else make_path(out)
    if file is not None and file.is_dir():
        raise ResultsError(f"{file}: --out must be a file, but is a folder")
    _check_arguments(what, arguments or [], by)
    _write(_answer(what, make_path(results), sweep, limit, arguments or [], by), format, file, limit)


def _check_arguments(what: str, arguments: list[str], by: str | None) -> None:
    wanted = ARGUMENTS.get(what, ())
    if by is not None and what != "compare":
        raise ResultsError(f"--by belongs to compare, such as: compare optimizer --by {by}")
    if len(arguments) != len(wanted):
        usage = " ".join([what, *wanted]) if what in COMMANDS else '"SELECT ... FROM trials", in quotes'
        number = f"{len(wanted) or 'no'} argument{'s' * (len(wanted) != 1)}"
        raise ResultsError(f"{what[:50]} takes {number}, but got {len(arguments)}: {usage}")


def _answer(
    what: str, folder: AnyPath, sweep: str | None, limit: int | None, arguments: list[str], by: str | None
) -> Answer:
    if re.fullmatch(r"[\w.-]*", what := what.strip()) and what not in COMMANDS:
        from flexres_tune.text import did_you_mean

        raise ResultsError(
            f"no command {what[:50]!r}{did_you_mean(what.lower(), COMMANDS)}; commands: {', '.join(COMMANDS)}; "
            'or a query in quotes, such as "SELECT * FROM trials"'
        )
    from flexres_tune.query import views as answers
    from flexres_tune.results import open_results

    if what == "published":
        from flexres_tune.query.published import answer_published

        return answer_published(open_results(folder) if folder.exists() or sweep else None, sweep, limit)
    opened = open_results(folder)
    if what in EVIDENCE:
        from flexres_tune.query import evidence

        options = {"by": by} if what == "compare" else {}
        answer = getattr(evidence, f"answer_{what.replace('-', '_')}")(opened, sweep, *arguments, **options)
        return dataclasses.replace(answer, table=answer.table.slice(0, limit))
    if what in COMMANDS:
        return getattr(answers, f"answer_{what}")(opened, sweep, limit)
    return answers.answer_sql(opened, what, sweep, limit)


def _write(answer: Answer, format: Format, out: AnyPath | None, limit: int | None) -> None:
    from flexres_tune.display import render as present

    if format is Format.PARQUET:
        present.save_parquet(answer.table, out)
    elif format is Format.TABLE:
        if out:
            present.save_text(_terminal_text(answer, limit), out)
        else:
            _print_sections(answer, limit, None)
    else:
        text = {Format.CSV: present.to_csv, Format.JSON: present.to_json, Format.MARKDOWN: present.to_markdown}[format](
            answer.table
        )
        if out:
            present.save_text(text, out)
        else:
            _print_text(text)
    if out:
        from flexres_tune.text import plural

        typer.echo(f"{plural(answer.table.num_rows, 'row')} written to {out}", err=True)


def _print_text(text: str) -> None:
    if sys.stdout.isatty():
        from flexres_tune.text import escape

        text = escape(text, keep="\n\t")  # a file gets the values as they are; a terminal would obey some of them
    _tolerant(sys.stdout)
    sys.stdout.write(text)
    sys.stdout.flush()


def _terminal_text(answer: Answer, limit: int | None) -> str:
    import io

    text = io.StringIO()
    _print_sections(answer, limit, text)
    return text.getvalue()


def _print_sections(answer: Answer, limit: int | None, file) -> None:
    from flexres_tune.display.render import make_console, print_section

    _tolerant(sys.stdout)
    console = make_console(file)
    for index, section in enumerate(answer.sections):
        if index:
            console.print()
        print_section(section, console, limit)
    if file is None:
        sys.stdout.flush()


def _tolerant(stream) -> None:
    """An encoding that has no ± or ▁ (an old locale) shows ? instead of failing."""
    with contextlib.suppress(AttributeError, ValueError):
        stream.reconfigure(errors="replace")


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
