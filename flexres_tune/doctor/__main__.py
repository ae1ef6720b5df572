"""Check that every node can run a sweep: `python -m flexres_tune.doctor --storage results`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flexres_tune import cli
from flexres_tune.text import plural

if TYPE_CHECKING:
    from rich.console import Console

    from flexres_tune.doctor.checks import Check

EPILOG = """
Examples:

  python -m flexres_tune.doctor

  python -m flexres_tune.doctor --storage /mnt/results --dataset cifar10

  python -m flexres_tune.doctor --speed

  python -m flexres_tune.doctor --storage s3://bucket/results

  python -m flexres_tune.doctor --address 10.0.0.1:6379 --dataset parquet:/data/images

The exit status is 1 if a check fails.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
def doctor(
    address: Annotated[str | None, typer.Option(help="Ray cluster to check, or auto for one on this machine.")] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Check only this machine, even if it belongs to a cluster.")
    ] = False,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Read all images of this data set, or of FILE.py:NAME, on every node; may be repeated."
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="FOLDER|URL", help="Write there from every node, and check that all nodes share it."),
    ] = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="Multiply matrices for 5 s on every GPU (or CPU), and compare the nodes.")
    ] = False,
) -> None:
    """Check versions, GPUs, memory, disk, data, storage and clock of every node, with advice for what fails."""
    from rich.console import Console

    from flexres_tune.cluster.connection import connect, find_address
    from flexres_tune.cluster.gpu_health import MEASURE_S
    from flexres_tune.cluster.resources import num_visible_gpus
    from flexres_tune.doctor.checks import collect_cluster, collect_here, run_checks
    from flexres_tune.storage import make_path

    place = make_path(storage) if storage else None
    datasets = read_datasets(dataset or ())
    measure_s = MEASURE_S if speed else 0.0
    found = find_address(address, local=here)
    if found is None:
        reports = collect_here(datasets, place, num_visible_gpus() or 0, measure_s)
    else:
        with connect(found):
            reports = collect_cluster(datasets, place, measure_s)
    checks = run_checks(reports, storage)
    print_checks(checks, f"{len(reports)} nodes at {found}" if found else "this machine", Console(highlight=False))
    raise typer.Exit(0 if all(check.passed for check in checks) else cli.EXIT_FAILED)


def read_datasets(names: Sequence[str]) -> list[str]:
    """The names of --dataset; one that names own code has its source, relative to the working folder.

    Raises:
        CodeError: a source cannot be read.
    """
    from flexres_tune.spec.own_code.references import read_references
    from flexres_tune.spec.own_code.source import CodeError, CodeName

    code, problems = read_references(((("dataset",), "dataset", name) for name in names), Path(), allow_any=True)
    if problems:
        raise CodeError(f"--dataset {problems[0][1]}")
    return [CodeName(name, code[name]) if name in code else name for name in names]


def print_checks(checks: Sequence[Check], place: str, console: Console) -> None:
    """A table, the advice for each check that failed, and a summary."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("", "check", "found", "where"):
        table.add_column(name, overflow="fold")
    for check in checks:
        sign = "[green]ok[/]" if check.passed else "[red]no[/]"
        table.add_row(sign, escape(check.name), escape(check.found), escape(check.where))
    console.print(table)
    failed = [check for check in checks if not check.passed]
    for check in failed:
        text = f"{check.name}, {check.where}: {check.found}; {check.advice}"
        console.print(text, markup=False, soft_wrap=True)
    summary = f"{place}: {plural(len(failed), 'problem')} found" if failed else f"{place}: no problems found"
    console.print(summary, style="bold red" if failed else "bold green", markup=False, soft_wrap=True)


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
