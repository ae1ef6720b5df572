"""Look whether every node can run a sweep: `python -m flexres_tune.doctor --storage results`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flexres_tune import cli

if TYPE_CHECKING:
    from rich.console import Console

    from flexres_tune.doctor.checks import Check

EPILOG = """
Examples:

  python -m flexres_tune.doctor

  python -m flexres_tune.doctor --storage /mnt/results --dataset cifar10

  python -m flexres_tune.doctor --storage s3://bucket/results

  python -m flexres_tune.doctor --address 10.0.0.1:6379 --dataset parquet:/data/images

The exit status is 1 if anything is wrong.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
def doctor(
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to look at, or auto for one on this machine.")
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Look at this machine only, even if a cluster is there.")
    ] = False,
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Read all images of this data set on every node; may be repeated."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="FOLDER|URL", help="Write there from every node, and look whether they share it."),
    ] = None,
) -> None:
    """Versions, GPUs, memory, disk, data, storage and clock of every node: a table, a verdict, and what to do."""
    from rich.console import Console

    from flexres_tune.cluster.connection import connect, find_address
    from flexres_tune.cluster.resources import num_visible_gpus
    from flexres_tune.doctor.checks import collect_cluster, collect_here, run_checks
    from flexres_tune.storage import make_path

    place = make_path(storage) if storage else None
    found = find_address(address, local=here)
    if found is None:
        patients = collect_here(dataset or (), place, num_visible_gpus() or 0)
    else:
        with connect(found):
            patients = collect_cluster(dataset or (), place)
    findings = run_checks(patients, storage)
    raise typer.Exit(show(findings, len(patients), found, Console(highlight=False)))


def show(findings: Sequence[Check], num_nodes: int, address: str | None, console: Console) -> int:
    """Print the table, the verdict, and what to do; the exit status."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("", "check", "found", "where"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        sign = "[green]ok[/]" if finding.is_fine else "[red]no[/]"
        table.add_row(sign, escape(finding.check), escape(finding.found), escape(finding.where))
    console.print(table)
    wrong = [finding for finding in findings if not finding.is_fine]
    for finding in wrong:
        text = f"{finding.check}, {finding.where}: {finding.found}; {finding.advice}"
        console.print(text, markup=False, soft_wrap=True)
    place = f"{num_nodes} nodes at {address}" if address else "this machine"
    verdict = f"{place}: {len(wrong)} things are wrong" if wrong else f"{place}: all is well"
    console.print(verdict, style="bold red" if wrong else "bold green", markup=False, soft_wrap=True)
    return cli.EXIT_FAILED if wrong else 0


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
