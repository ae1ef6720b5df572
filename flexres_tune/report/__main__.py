"""The report of a sweep as one HTML file: `python -m flexres_tune.report`; as pictures, live, or an index of all."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from flexres_tune import cli
from flexres_tune.errors import ResultsError

EXAMPLES = """Examples:

  python -m flexres_tune.report

  python -m flexres_tune.report --sweep optim --png figures

  python -m flexres_tune.report --sweep optim --watch

  python -m flexres_tune.report --index
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
def report(
    sweep: Annotated[str | None, typer.Option(help="Only this sweep; all if absent.")] = None,
    results: Annotated[
        str, typer.Option(metavar="FOLDER|URL", help="Where the results are: a folder, s3://... or gs://...")
    ] = "results",
    png: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write the plots as pictures to this folder instead.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve a page on 127.0.0.1 that refreshes while the sweep runs.")
    ] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="With --watch: this port, not a free one.")] = None,
    index: Annotated[bool, typer.Option("--index", help="Write one page over all sweeps instead.")] = False,
) -> None:
    """Write results/<sweep>/report.html: one file that opens offline in any browser."""
    _check(sweep, png, watch, port, index)
    from flexres_tune.results import open_results
    from flexres_tune.storage import make_path

    opened = open_results(results)
    if watch:
        _serve(opened, _one(opened, sweep, "--watch"), port or 0)
    elif index:
        from flexres_tune.report.files import write_index

        typer.echo(write_index(opened))
    elif png is not None:
        from flexres_tune.report.data import read_data
        from flexres_tune.report.png import write_pictures

        for path in write_pictures(read_data(opened, _one(opened, sweep, "--png")), make_path(png)):
            typer.echo(path)
    else:
        from flexres_tune.report.files import write_report

        for name in opened.choose(sweep):
            typer.echo(write_report(opened, name))


def _check(sweep: str | None, png: str | None, watch: bool, port: int | None, index: bool) -> None:
    """One thing at a time, and no option that would be ignored."""
    asked = [name for name, is_on in (("--png", png is not None), ("--watch", watch), ("--index", index)) if is_on]
    if len(asked) > 1:
        raise ResultsError(f"{' and '.join(asked)} do different things; give one of them")
    if port is not None and not watch:
        raise ResultsError("--port belongs to --watch, which is absent; add --watch or leave --port out")
    if index and sweep is not None:
        raise ResultsError("--index is over all sweeps, but --sweep names one; leave one of them out")


def _one(opened, sweep: str | None, option: str) -> str:
    names = opened.choose(sweep)
    if len(names) > 1:
        raise ResultsError(f"{option} is for one sweep, but {opened.root} has {', '.join(names)}; add --sweep NAME")
    return names[0]


def _serve(opened, sweep: str, port: int) -> None:
    from flexres_tune.report.live import make_server

    with make_server(opened, sweep, port) as server:
        host, taken = server.server_address[:2]
        typer.echo(f"http://{host}:{taken}/  (this machine only; Ctrl-C ends it)")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.2)


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
