"""Ask the tables: `python -m flexres_tune.query leaderboard`, or a SQL query over the tables.

Each command imports what it needs when it is called, so that --help answers at once.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from flexres_tune import cli
from flexres_tune.cli import Format
from flexres_tune.errors import ResultsError
from flexres_tune.query.table_options import Columns, Limit, Sort, TableOptions, Where, chosen
from flexres_tune.sweep_option import CommandOfSweep
from flexres_tune.text import did_you_mean

if TYPE_CHECKING:
    from flexres_tune.query.output import Answer
    from flexres_tune.results.reader import Results

EXAMPLES = """Examples:

  python -m flexres_tune.query leaderboard

  python -m flexres_tune.query trials --sweep optim --format csv --out trials.csv

  python -m flexres_tune.query trials --where "lr >= 0.01" --sort test_accuracy:desc --columns trial_id,lr,test_accuracy

  python -m flexres_tune.query compare optimizer --by lr --sweep optim

  python -m flexres_tune.query diff optim lr

  python -m flexres_tune.query "SELECT optimizer, lr, max(best_val_accuracy) FROM trials GROUP BY ALL"

  python -m flexres_tune.query "SELECT epoch, avg(val_accuracy) FROM epochs WHERE sweep = 'optim' GROUP BY ALL"
"""


SHARED_OPTIONS = (
    "Further options: --sweep, --results, --format, --out, --limit, --where, --sort, --columns; see query --help."
)


@dataclass(frozen=True)
class Request:
    """The options that all commands share."""

    sweep: str | None
    results: str
    format: Format
    out: str | None
    table: TableOptions
    time_limit_s: float | None  # of a SQL query; None: the default

    def open_results(self) -> Results:
        from flexres_tune.results import open_results

        return open_results(self.results)

    def answer(self, ask: Callable[..., Answer], *arguments: str | float | bool | None) -> None:
        """Print ask(results, sweep, *arguments, number of rows), or write it to the file `out`."""
        self.write(ask(self.open_results(), self.sweep, *arguments, self.table.num_rows_asked))

    def write(self, answer: Answer) -> None:
        """Print the answer, or write it to the file `out`."""
        from flexres_tune.query.output import write_answer
        from flexres_tune.storage import make_path

        if self.table.choose:
            answer = chosen(answer, self.table)
        write_answer(answer, self.format, None if self.out is None else make_path(self.out), self.table.num_rows)


class CommandOrSql(TyperGroup):
    """A group of commands whose first argument may also be a SQL query: anything that is not a single word.

    Its options may stand before or after the command.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Move the group's options in front of the command."""
        shared = {name for parameter in self.params for name in parameter.opts}
        options, others = [], list(args)
        while at := [index for index, word in enumerate(others) if word.partition("=")[0] in shared]:
            first = at[0]
            end = first + (1 if "=" in others[first] else 2)  # every option takes a value
            if end > len(others):
                return super().parse_args(ctx, others[first:])  # which refuses an option without a value
            options += others[first:end]
            del others[first:end]
        return super().parse_args(ctx, [*options, *others])

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
    rich_markup_mode="rich",
)


# Typer's layout keeps the line breaks of a docstring's second paragraph
HELP = (
    "Ask the tables that sweeps write, also while they run: with a command, or with a SQL query in quotes.\n\n"
    "The options may also follow the command. On a terminal, a column of a SQL query has the percent or unit of the "
    "column that it is made of, also through an alias and functions such as max and avg; other expressions are plain "
    "numbers."
)


@app.callback(invoke_without_command=True, help=HELP, epilog=EXAMPLES, subcommand_metavar='COMMAND|"SQL" [ARGUMENTS]')
def query(
    context: typer.Context,
    sweep: Annotated[str | None, typer.Option(help="Only this sweep; without it, all sweeps.")] = None,
    results: Annotated[
        str, typer.Option(metavar="FOLDER|URL", help="Results folder, or s3://... or gs://...")
    ] = "results",
    format: Annotated[Format, typer.Option(help="How to print or write the answer.")] = Format.TABLE,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write to this file instead of printing.")] = None,
    where: Where = None,
    sort: Sort = None,
    columns: Columns = None,
    limit: Limit = None,
    time_limit: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="SECONDS", help="A SQL query that takes longer is ended.", show_default="60"),
    ] = None,
) -> None:
    """Ask the tables that sweeps write, also while they run: with a command, or with a SQL query in quotes."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        return
    if format is Format.PARQUET and out is None:
        raise ResultsError(
            "--format parquet is binary and cannot be printed; add --out FILE, such as --out answer.parquet"
        )
    if out is not None:
        from flexres_tune.storage import make_path

        if make_path(out).is_dir():
            raise ResultsError(f"{out}: --out must be a file, but is a folder")
    if time_limit is not None and context.invoked_subcommand != "sql":
        raise ResultsError(
            f"--time-limit is for SQL queries, but got the command {context.invoked_subcommand}; remove it"
        )
    context.obj = Request(sweep, results, format, out, TableOptions(where, sort, columns, limit), time_limit)


def _add_command(name: str, module: str, answer: str, help: str) -> None:
    """Add a command without arguments, answered by a function of a module of this package."""

    @app.command(name, cls=CommandOfSweep, help=help, epilog=SHARED_OPTIONS)
    def command(context: typer.Context) -> None:
        context.obj.answer(getattr(importlib.import_module(f"flexres_tune.query.{module}"), answer))


_add_command("answer", "answers", "answer_answer", "The best of each level of compare, and which levels differ.")
_add_command("leaderboard", "views", "answer_leaderboard", "Configurations, ranked by the mean of the sweep's metric.")
_add_command("trials", "views", "answer_trials", "All trials, best first.")
_add_command("curves", "views", "answer_curves", "Validation accuracy of each trial over its epochs.")


@app.command(cls=CommandOfSweep, epilog=SHARED_OPTIONS)
def published(context: typer.Context) -> None:
    """Published result tables, next to our own runs of them."""
    from flexres_tune.query.published import answer_published
    from flexres_tune.storage import make_path

    request: Request = context.obj
    nothing_run = request.sweep is None and not make_path(request.results).exists()
    opened = None if nothing_run else request.open_results()
    request.write(answer_published(opened, request.sweep, request.table.num_rows_asked))


@app.command(cls=CommandOfSweep, epilog=SHARED_OPTIONS)
def compare(
    context: typer.Context,
    parameter: Annotated[str, typer.Argument(metavar="PARAMETER", help="A parameter that varies, such as optimizer.")],
    by: Annotated[str | None, typer.Option(metavar="OTHER", help="A second parameter: a grid of the two.")] = None,
) -> None:
    """Effect of a parameter, or of two, with intervals."""
    from flexres_tune.query.evidence import answer_compare

    context.obj.answer(answer_compare, parameter, by)


@app.command(cls=CommandOfSweep, epilog=SHARED_OPTIONS)
def power(
    context: typer.Context,
    difference: Annotated[
        float, typer.Option(min=1e-6, help="Difference of two means: points of accuracy, or nats of a loss.")
    ],
) -> None:
    """Seeds and device-hours needed to separate a difference with 80 % power."""
    from flexres_tune.query.answers import answer_power

    context.obj.answer(answer_power, difference)


_add_command("equal-cost", "evidence", "answer_equal_cost", "The best at equal epochs, and at equal device-seconds.")
_add_command("pareto", "evidence", "answer_pareto", "Pareto fronts: the metric against parameters and time.")
_add_command("decisions", "evidence", "answer_decisions", "Why trials were paused, promoted, stopped or run again.")
_add_command("stops", "evidence", "answer_stops", "Trials that were stopped early, and what that saved.")


@app.command(cls=CommandOfSweep, epilog=SHARED_OPTIONS)
def diff(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="A sweep, the beginning of a config_id, or a trial_id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one of the same kind.")],
) -> None:
    """Differences between two configurations, two trials or two sweeps."""
    from flexres_tune.query.evidence import answer_diff

    context.obj.answer(answer_diff, a, b)


SPLIT = typer.Option(help="Images: val, on which configurations are chosen, or test.")


class Split(StrEnum):
    """Images that are predicted and not trained on."""

    VAL = "val"
    TEST = "test"


@app.command(cls=CommandOfSweep, epilog=SHARED_OPTIONS)
def classes(context: typer.Context, split: Annotated[Split, SPLIT] = Split.VAL) -> None:
    """Accuracy per class and configuration, with intervals."""
    from flexres_tune.query.predictions import answer_classes

    context.obj.answer(answer_classes, split)


@app.command(cls=CommandOfSweep, epilog=SHARED_OPTIONS)
def confusion(
    context: typer.Context,
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="The beginning of a config_id.")],
    split: Annotated[Split, SPLIT] = Split.VAL,
) -> None:
    """Confusion matrix of a configuration."""
    from flexres_tune.query.predictions import answer_confusion

    context.obj.answer(answer_confusion, config, split)


@app.command(cls=CommandOfSweep, epilog=SHARED_OPTIONS)
def disagree(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="The beginning of a config_id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    split: Annotated[Split, SPLIT] = Split.VAL,
) -> None:
    """Images that A gets right and B wrong, and the reverse; intervals over seeds and images."""
    from flexres_tune.query.predictions import answer_disagree

    context.obj.answer(answer_disagree, a, b, split)


@app.command(cls=CommandOfSweep, epilog=SHARED_OPTIONS)
def hardest(context: typer.Context, split: Annotated[Split, SPLIT] = Split.VAL) -> None:
    """Images that the most trials get wrong."""
    from flexres_tune.query.predictions import answer_hardest

    context.obj.answer(answer_hardest, split)


@app.command(cls=CommandOfSweep, epilog=SHARED_OPTIONS)
def ensemble(
    context: typer.Context,
    top: Annotated[int, typer.Argument(metavar="TOP", min=1, max=1000, help="How many of the best trials.")],
    split: Annotated[Split, SPLIT] = Split.TEST,
) -> None:
    """Accuracy of the averaged probabilities of the best trials."""
    from flexres_tune.query.predictions import answer_ensemble

    context.obj.answer(answer_ensemble, top, split)


@app.command(cls=CommandOfSweep, epilog=SHARED_OPTIONS)
def effort(
    context: typer.Context,
    parameter: Annotated[str, typer.Argument(metavar="PARAMETER", help="A parameter that varies, such as optimizer.")],
) -> None:
    """Expected best accuracy after n configurations, per value of a parameter."""
    from flexres_tune.query.effort import answer_effort

    context.obj.answer(answer_effort, parameter)


_add_command("importance", "evidence", "answer_importance", "Each parameter's share of the variance of the metric.")
_add_command("status", "views", "answer_status", "What is done and missing, why trials failed, what to do.")


@app.command(cls=CommandOfSweep, epilog=SHARED_OPTIONS)
def tag(
    context: typer.Context,
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="Its trial_id, or how it begins.")],
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The tag; without it, list the tags.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the tag TEXT instead.")] = False,
) -> None:
    """Add a tag to a trial, which the report shows; or list its tags."""
    from flexres_tune.query.tags import answer_tag

    context.obj.answer(answer_tag, trial, text, remove)


@app.command(hidden=True)
def sql(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar='"SELECT ..."', help="The query, as one argument.")],
) -> None:
    """Rows of a SQL query."""
    from flexres_tune.query.views import answer_sql

    if len(words) > 1:
        raise ResultsError(
            f'a SQL query must be one argument in quotes, such as "SELECT * FROM trials", but got {len(words)}'
        )
    context.obj.answer(answer_sql, words[0], context.obj.time_limit_s)


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
