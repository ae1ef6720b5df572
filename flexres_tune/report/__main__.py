"""Write the report of a sweep, its plots as PNG files, or an index of all sweeps; or serve the report live."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Annotated

import typer

from flexres_tune import cli
from flexres_tune.errors import ResultsError
from flexres_tune.sweep_option import CommandOfSweep

EXAMPLES = """Examples:

  python -m flexres_tune.report

  python -m flexres_tune.report --sweep optim --png figures

  python -m flexres_tune.report --sweep optim --watch

  python -m flexres_tune.report --sweep optim --checklist > checklist.md

  python -m flexres_tune.report --index
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command(cls=CommandOfSweep, epilog=EXAMPLES)
def report(
    sweep: Annotated[str | None, typer.Option(help="Only this sweep; default: all.")] = None,
    results: Annotated[
        str, typer.Option(metavar="FOLDER|URL", help="Where the results are: a folder, s3://... or gs://...")
    ] = "results",
    png: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write the plots as PNG files to this folder instead of a report.")
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Serve the report on 127.0.0.1 instead, and refresh it while the sweep runs."),
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="With --watch: the port to use; default: any free port.")
    ] = None,
    index: Annotated[bool, typer.Option("--index", help="Write one page that lists all sweeps instead.")] = False,
    checklist: Annotated[
        bool,
        typer.Option(
            "--checklist",
            help="Print answers to the checklists of NeurIPS and ACL instead, as Markdown; > FILE keeps them.",
        ),
    ] = False,
) -> None:
    """Write results/<sweep>/report.html: one file that opens offline in any browser."""
    chosen = {"--png": png is not None, "--watch": watch, "--index": index, "--checklist": checklist}
    _check_options([name for name, is_on in chosen.items() if is_on], sweep, port)
    from flexres_tune.results import open_results
    from flexres_tune.storage import make_path

    opened = open_results(results)
    names = opened.choose(sweep)
    if len(names) > 1 and (watch or checklist or png is not None):
        option = next(name for name, is_on in chosen.items() if is_on)
        raise ResultsError(f"{option} needs one sweep, but {opened.root} has {', '.join(names)}; add --sweep NAME")
    if watch:
        from flexres_tune.report.live import make_server

        with make_server(opened, names[0], port or 0) as server, contextlib.suppress(KeyboardInterrupt):
            host, actual_port = server.server_address[:2]
            typer.echo(f"http://{host}:{actual_port}/  (reachable from this machine only; Ctrl-C ends it)")
            server.serve_forever(poll_interval=0.2)
    elif checklist:
        from flexres_tune.report.checklist import checklist as answers
        from flexres_tune.report.data import read_data

        typer.echo(answers(read_data(opened, names[0])), nl=False)
    elif index:
        from flexres_tune.report.files import write_index

        typer.echo(write_index(opened))
    elif png is not None:
        from flexres_tune.report.data import read_data
        from flexres_tune.report.png import write_png_files

        for path in write_png_files(read_data(opened, names[0]), make_path(png)):
            typer.echo(path)
    else:
        from flexres_tune.report.files import write_report

        for name in names:
            typer.echo(write_report(opened, name))


def _check_options(asked: Sequence[str], sweep: str | None, port: int | None) -> None:
    """Refuse options that exclude each other, and options that would be ignored."""
    if len(asked) > 1:
        raise ResultsError(f"{' and '.join(asked)} exclude each other; give only one of them")
    if port is not None and "--watch" not in asked:
        raise ResultsError("--port has no effect without --watch; add --watch, or remove --port")
    if "--index" in asked and sweep is not None:
        raise ResultsError("--index lists all sweeps, but --sweep names one; remove one of the two")


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
