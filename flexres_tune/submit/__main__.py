"""Run a sweep on a cluster: `python -m flexres_tune.submit cluster.yaml sweeps/optim.yaml`."""

from __future__ import annotations

import secrets
import shlex
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import flexres_tune
from flexres_tune import cli
from flexres_tune.errors import FlexResError

if TYPE_CHECKING:
    from flexres_tune.spec import SweepSpec
    from flexres_tune.submit.client import RunClient
    from flexres_tune.submit.cluster_file import ClusterFile

EPILOG = """
Once per account of AWS or Google Cloud; it asks before it creates anything:

  python -m flexres_tune.submit --prepare cluster/gpu.yaml

Then, after `ray up -y cluster/gpu.yaml`:

  python -m flexres_tune.submit cluster/gpu.yaml sweeps/optim.yaml --dry-run    # also before it: time and cost

  python -m flexres_tune.submit cluster/gpu.yaml sweeps/optim.yaml

  python -m flexres_tune.submit cluster/gpu.yaml sweeps/optim.yaml --profile none --max-concurrent 8

  python -m flexres_tune.submit cluster/gpu.yaml sweeps/optim.yaml --attach

  python -m flexres_tune.submit cluster/gpu.yaml sweeps/optim.yaml --fetch

All other options are passed to `run`. Ctrl-C, or closing the laptop, stops following the run but not the run itself.
"""
EXIT_NO_COMMAND = 127  # of a shell that does not find a command
REFUSED_OPTIONS = {
    "local": "--local would train on the head alone; leave it out",
    "address": "--address must be that of the head; leave it out",
}

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog=EPILOG, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def submit(
    ctx: typer.Context,
    cluster: Annotated[Path, typer.Argument(help="The cluster file that `ray up` was given.", show_default=False)],
    sweep: Annotated[
        Path | None, typer.Argument(help="The sweep file, such as sweeps/optim.yaml.", show_default=False)
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Create what the cluster needs in its account: roles, bucket. Asks first.")
    ] = False,
    destroy: Annotated[
        bool, typer.Option("--destroy", help="Remove what --prepare created; the results stay. Asks first.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --prepare or --destroy: do not ask.")] = False,
    attach: Annotated[bool, typer.Option("--attach", help="Follow a run that was submitted before.")] = False,
    fetch: Annotated[bool, typer.Option("--fetch", help="Copy the sweep's tables and report to this machine.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Interrupt the run: it saves its trials and ends.")] = False,
    last: Annotated[int | None, typer.Option(min=0, help="With --attach: show only the last N lines first.")] = None,
    into: Annotated[Path, typer.Option(help="With --fetch: the results folder on this machine.")] = Path("results"),
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="With --fetch: also copy checkpoints.")] = False,
    storage: Annotated[
        str | None, typer.Option(help="Results folder on the cluster; by default that of the cluster file.")
    ] = None,
    python: Annotated[
        str | None, typer.Option(help="Python on the cluster's head; by default that of the cluster file.")
    ] = None,
) -> None:
    """Send the code to the head of a cluster, run a sweep there, and follow it. The exit status is that of the run."""
    from flexres_tune.display.terminal import escape_for_console, make_console
    from flexres_tune.results.paths import SweepPaths, query_command
    from flexres_tune.submit.accounts.command import destroy_account, prepare_account
    from flexres_tune.submit.client import RunClient
    from flexres_tune.submit.cluster_file import read_cluster_file
    from flexres_tune.submit.ray_exec import HeadNode
    from flexres_tune.text import plural

    _check_options(ctx.params, ctx.args)
    console = make_console()

    def show(line: str) -> None:
        console.print(escape_for_console(line), soft_wrap=True)

    if prepare or destroy:
        has_changed = (prepare_account if prepare else destroy_account)(cluster, show, yes)
        raise typer.Exit(0 if has_changed else cli.EXIT_FAILED)
    assert sweep is not None  # _check_options
    if "--dry-run" in ctx.args:
        raise typer.Exit(_dry_run(read_cluster_file(cluster, python, storage), sweep, ctx.args))
    spec = None if attach or fetch or stop else _check_sweep(sweep, ctx.args)
    name = spec.name if spec else _read_name(sweep)
    head = HeadNode(read_cluster_file(cluster, python, storage))
    client = RunClient(head, name, show)
    command = shlex.join(["python", "-m", "flexres_tune.submit", str(cluster), str(sweep)])
    try:
        if stop:
            status = client.stop()
        elif attach:
            status = client.attach(last)
        else:
            archive, sweep_sent = _send_code(client, sweep, _code_files(sweep, spec) if spec else [])
            if fetch:
                num_files = client.fetch(archive, into, checkpoints)
                show(
                    f"{into / name}: {plural(num_files, 'file')}; next: {query_command(SweepPaths(into, name), 'leaderboard')}"
                )
                return
            show(f"to detach: Ctrl-C; to follow it again: {command} --attach")
            status = client.start(archive, [sweep_sent, *ctx.args], _environment(console.width))
    except KeyboardInterrupt:
        _detach(client, command)
    except FlexResError as error:
        if not client.is_followed:
            raise
        raise FlexResError(f"{error}\nthe run continues; to follow it again: {command} --attach") from None
    if status == EXIT_NO_COMMAND:
        raise FlexResError(
            f"{head.cluster.python}: must be a Python on the head of {cluster}, but is not; name another with --python"
        )
    raise typer.Exit(status)


def _check_options(params: dict[str, Any], args: list[str]) -> None:
    """Raise FlexResError if an option would have no effect."""
    if options := [str(params[name]) for name in ("cluster", "sweep") if str(params[name]).startswith("-")]:
        raise FlexResError(
            f"the cluster file and the sweep file must come first, but got {options[0]}; put options after them"
        )
    chosen = [f"--{name}" for name in ("prepare", "destroy", "attach", "fetch", "stop") if params[name]]
    is_about_account = bool(params["prepare"] or params["destroy"])
    if params["sweep"] is None and not is_about_account:
        raise FlexResError("the sweep file is missing; give it after the cluster file, such as sweeps/optim.yaml")
    if params["sweep"] is not None and is_about_account and len(chosen) == 1:
        raise FlexResError(f"{chosen[0]} takes no sweep file, but got {params['sweep']}; leave it out")
    if params["yes"] and not is_about_account:
        raise FlexResError("--yes needs --prepare or --destroy")
    if len(chosen) > 1:
        raise FlexResError(f"{' and '.join(chosen)} exclude each other; give one of them")
    if chosen and args:
        raise FlexResError(f"{chosen[0]} takes no options of run, but got {' '.join(args)[:100]}; leave them out")
    if params["last"] is not None and not params["attach"]:
        raise FlexResError("--last needs --attach")
    if (params["checkpoints"] or params["into"] != Path("results")) and not params["fetch"]:
        raise FlexResError("--checkpoints and --into need --fetch")


def _dry_run(cluster: ClusterFile, sweep: Path, args: list[str]) -> int:
    """The dry run of `run`, for the workers and prices of the cluster file. It asks the cluster nothing."""
    from flexres_tune.run.__main__ import app as run_app

    options = list(args)
    if not any(arg.split("=")[0] == "--profile" for arg in args):
        options += ["--profile", "none"]  # the workers have GPUs, whatever this machine has
    if cluster.worker_usd_per_hour is not None and not any(arg.split("=")[0] == "--price" for arg in args):
        options += ["--price", str(cluster.worker_usd_per_hour), "--workers", str(cluster.max_workers or 1)]
        options += ["--head-price", str(cluster.head_usd_per_hour or 0.0)]
    return run_app([str(sweep), *options], standalone_mode=False) or 0


def _check_sweep(sweep: Path, args: list[str]) -> SweepSpec:
    """Check the options for `run` and the whole sweep file before anything is sent; returns the sweep."""
    from flexres_tune.run.__main__ import app as run_app
    from flexres_tune.spec import load_sweep

    params = typer.main.get_command(run_app).make_context("run", [str(sweep), *args]).params
    for name, message in REFUSED_OPTIONS.items():
        if params[name]:
            raise FlexResError(message)
    overrides, allow_code = tuple(params["set_"] or ()), params["allow_code"]
    return load_sweep(str(sweep), profile=params["profile"], overrides=overrides, allow_code=allow_code)


def _read_name(sweep: Path) -> str:
    """The name in the sweep file. The rest is not checked: the user may have changed it since the run was submitted."""
    from flexres_tune.names import name_problem
    from flexres_tune.spec.document.yaml_reader import read_yaml

    name = read_yaml(str(sweep)).data.get("name")
    if problem := name_problem(name):
        raise FlexResError(f"{sweep}: name: {problem}")
    return name


def _code_files(sweep: Path, spec: SweepSpec) -> list[Path]:
    """Files of the user's own code that the sweep names, which the head finds in the same place beside the sweep file.

    Raises FlexResError if one is outside of the sweep file's folder.
    """
    files = {
        Path(source.folder, name): reference for reference, source in spec.code.items() for name, _ in source.files
    }
    for path, reference in files.items():
        if not path.is_relative_to(sweep.resolve().parent):
            raise FlexResError(
                f"{reference}: must be in the folder of {sweep} to be sent, but is {path}; move it there"
            )
    return sorted(files)


def _send_code(client: RunClient, sweep: Path, code: list[Path]) -> tuple[str, str]:
    """Send the working tree to the head's home; returns the archive's name, and the sweep file's path in it."""
    from flexres_tune.submit.bundle import pack_tree

    name = f".flexres_tune-{secrets.token_hex(6)}.zip"
    with tempfile.TemporaryDirectory(prefix="flexres_tune_") as folder:
        archive = Path(folder) / name
        bundle = pack_tree(Path(flexres_tune.__file__).parents[1], sweep, archive, code)
        size = f"{bundle.num_files} files ({bundle.num_bytes / 1e3:,.0f} kB)"
        client.show(f"{client.sweep}: sending {size} to cluster {client.head.cluster.name}")
        client.head.put(archive, f"~/{name}")
    return name, bundle.sweep


def _environment(num_columns: int) -> list[str]:
    """Assignments for the run: the width of this terminal, and the commit of this working tree."""
    from flexres_tune.provenance import SENT_COMMIT, git_commit

    commit = git_commit()
    return [f"COLUMNS={num_columns}", *([f"{SENT_COMMIT}={commit}"] if commit else [])]


def _detach(client: RunClient, command: str) -> NoReturn:
    if client.is_followed:
        client.show(
            f"detached: the run continues; to follow it again: {command} --attach; to stop it: {command} --stop"
        )
    else:
        client.show(f"interrupted before the head answered; to see whether the run has started: {command} --attach")
    raise SystemExit(cli.EXIT_INTERRUPTED)


def main() -> None:
    """Entry point. SIGTERM and SIGHUP do what Ctrl-C does, so that no `ray exec` is left running."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP, and so do we then
            signal.signal(number, signal.default_int_handler)
    cli.main(app)


if __name__ == "__main__":
    main()
