"""Ask the tables: `python -m flexres_tune.query leaderboard`, or a SQL query over trials, epochs and decisions.

Each command imports what it needs when it is called, so that --help answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from flexres_tune import cli
from flexres_tune.cli import Format
from flexres_tune.errors import ResultsError
from flexres_tune.text import did_you_mean

if TYPE_CHECKING:
    from flexres_tune.query.output import Answer
    from flexres_tune.results.reader import Results

EXAMPLES = """Examples:

  python -m flexres_tune.query leaderboard

  python -m flexres_tune.query trials --sweep optim --format csv --out trials.csv

  python -m flexres_tune.query compare optimizer --by lr --sweep optim

  python -m flexres_tune.query diff optim lr

  python -m flexres_tune.query "SELECT optimizer, lr, max(best_val_accuracy) FROM trials GROUP BY ALL"

  python -m flexres_tune.query "SELECT epoch, avg(val_accuracy) FROM epochs WHERE sweep = 'optim' GROUP BY ALL"
"""

Sweep = Annotated[str | None, typer.Option(help="Only this sweep; without it, all sweeps.")]
Folder = Annotated[str, typer.Option(metavar="FOLDER|URL", help="Results folder, or s3://... or gs://...")]
AsFormat = Annotated[Format, typer.Option(help="How to print or write the answer.")]
File = Annotated[str | None, typer.Option(metavar="FILE", help="Write to this file instead of printing.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum rows per leaderboard, per sweep or of a query.")]


class CommandOrSql(TyperGroup):
    """A first argument that is no single word is a SQL query. Options may also precede the command."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        leading: list[str] = []
        while args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            num_words = 1 if "=" in args[0] else 2  # every option takes a value
            leading += args[:num_words]
            args = args[num_words:]
        return super().parse_args(ctx, [*args, *leading])

    def resolve_command(self, ctx: typer.Context, args: list[str]):
        name = args[0].strip()
        if name in self.commands:
            return super().resolve_command(ctx, [name, *args[1:]])
        if re.search(r"[^\w.-]", name):
            return "sql", self.commands["sql"], args
        commands = [key for key, command in self.commands.items() if not command.hidden]
        raise ResultsError(
            f"no command {name[:50]!r}{did_you_mean(name.lower(), commands)}; commands: {', '.join(commands)}; "
            'or a query in quotes, such as "SELECT * FROM trials"'
        )


app = typer.Typer(
    cls=CommandOrSql,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True, epilog=EXAMPLES, subcommand_metavar='COMMAND|"SQL" ...')
def query(context: typer.Context) -> None:
    """Ask the tables that sweeps write, also while they run: with a command, or with a SQL query in quotes.

    COMMAND --help shows the command's options.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def leaderboard(
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """Configurations ranked by mean validation accuracy."""
    from flexres_tune.query.views import answer_leaderboard

    _print_answer(lambda opened: answer_leaderboard(opened, sweep, limit), results, format, out, limit)


@app.command()
def trials(
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """All trials, best first."""
    from flexres_tune.query.views import answer_trials

    _print_answer(lambda opened: answer_trials(opened, sweep, limit), results, format, out, limit)


@app.command()
def curves(
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """Validation accuracy of each trial over its epochs."""
    from flexres_tune.query.views import answer_curves

    _print_answer(lambda opened: answer_curves(opened, sweep, limit), results, format, out, limit)


@app.command()
def published(
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """Published result tables, next to our own runs of them."""
    _check_output(format, out)
    from flexres_tune.query.published import answer_published
    from flexres_tune.results import open_results
    from flexres_tune.storage import make_path

    opened = open_results(results) if sweep or make_path(results).exists() else None  # None: nothing was run yet
    _write(answer_published(opened, sweep, limit), format, out, limit)


@app.command()
def compare(
    parameter: Annotated[str, typer.Argument(metavar="PARAMETER", help="A parameter that varies, such as optimizer.")],
    by: Annotated[str | None, typer.Option(help="A second parameter: a grid of the two.")] = None,
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """Effect of a parameter, or of two, with intervals."""
    from flexres_tune.query.evidence import answer_compare

    _print_answer(
        lambda opened: answer_compare(opened, sweep, parameter, by).limited(limit), results, format, out, limit
    )


@app.command()
def equal_cost(
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """The best at equal epochs, and at equal device-seconds."""
    from flexres_tune.query.evidence import answer_equal_cost

    _print_answer(lambda opened: answer_equal_cost(opened, sweep).limited(limit), results, format, out, limit)


@app.command()
def pareto(
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """Pareto fronts: accuracy against parameters and time."""
    from flexres_tune.query.evidence import answer_pareto

    _print_answer(lambda opened: answer_pareto(opened, sweep).limited(limit), results, format, out, limit)


@app.command()
def stops(
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """Trials that were stopped early, and what that saved."""
    from flexres_tune.query.evidence import answer_stops

    _print_answer(lambda opened: answer_stops(opened, sweep).limited(limit), results, format, out, limit)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A sweep, or the beginning of a config_id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one of the same kind.")],
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """Differences between two configurations or two sweeps."""
    from flexres_tune.query.evidence import answer_diff

    _print_answer(lambda opened: answer_diff(opened, sweep, a, b).limited(limit), results, format, out, limit)


@app.command()
def importance(
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """Each parameter's share of the variance of accuracy."""
    from flexres_tune.query.evidence import answer_importance

    _print_answer(lambda opened: answer_importance(opened, sweep).limited(limit), results, format, out, limit)


@app.command()
def status(
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """What is done and missing, why trials failed, what to do."""
    from flexres_tune.query.views import answer_status

    _print_answer(lambda opened: answer_status(opened, sweep, limit), results, format, out, limit)


@app.command(hidden=True)
def sql(
    words: Annotated[list[str], typer.Argument(metavar='"SELECT ..."', help="The query, as one argument.")],
    sweep: Sweep = None,
    results: Folder = "results",
    format: AsFormat = Format.TABLE,
    out: File = None,
    limit: Limit = None,
) -> None:
    """Rows of a SQL query."""
    from flexres_tune.query.views import answer_sql

    if len(words) > 1:
        raise ResultsError(
            f'a SQL query must be one argument in quotes, such as "SELECT * FROM trials", but got {len(words)}'
        )
    _print_answer(lambda opened: answer_sql(opened, words[0], sweep, limit), results, format, out, limit)


def _print_answer(
    ask: Callable[[Results], Answer], folder: str, format: Format, out: str | None, limit: int | None
) -> None:
    """Open the results, ask, and print the answer or write it to the file `out`."""
    _check_output(format, out)
    from flexres_tune.results import open_results

    _write(ask(open_results(folder)), format, out, limit)


def _check_output(format: Format, out: str | None) -> None:
    """Raise ResultsError if the answer could not be written, before any table is read."""
    if format is Format.PARQUET and out is None:
        raise ResultsError(
            "--format parquet is binary and cannot be printed; add --out FILE, such as --out answer.parquet"
        )
    from flexres_tune.storage import make_path

    if out is not None and make_path(out).is_dir():
        raise ResultsError(f"{out}: --out must be a file, but is a folder")


def _write(answer: Answer, format: Format, out: str | None, limit: int | None) -> None:
    from flexres_tune.query.output import write_answer
    from flexres_tune.storage import make_path

    write_answer(answer, format, None if out is None else make_path(out), limit)


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
