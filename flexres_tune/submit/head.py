"""The head's side of `submit`: `python -m flexres_tune.submit.head OPTIONS -- VERB SWEEP [ARGUMENTS]`.

What it prints is read by client.py. A line of the run's log has LINE_MARK at both ends, so that it differs from what
Ray and ssh print when the connection is lost, and from half a line. The log begins with SKIPPED_MARK and the number of
lines that are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flexres_tune.cli import EXIT_FAILED, EXIT_USAGE
from flexres_tune.errors import FlexResError
from flexres_tune.submit.run_folder import FOLDER, RunFolder

if TYPE_CHECKING:
    from flexres_tune.storage import AnyPath

SKIPPED_MARK = "\x1e"
LINE_MARK = "\x1f"
POLL_PERIOD_S = 0.2
STALE_ARCHIVE_S = 86_400  # then an archive that was not fetched is removed


def start(run: RunFolder, archive: Path, storage: AnyPath, arguments: Sequence[str]) -> int:
    """Unpack the code, start the run in it, and follow it.

    `arguments` are the path of the sweep file in the archive, and options of `run`.
    """
    lock = run.acquire()
    if lock is None:
        since = run.read_record().get("started_at", "just now")
        print(f"{run.sweep} is already running on this cluster, since {since}: --attach follows it, --stop stops it")
        archive.unlink(missing_ok=True)
        return EXIT_USAGE
    run.unpack(archive)
    archive.unlink(missing_ok=True)
    sweep, *options = arguments
    command = [sys.executable, "-m", "flexres_tune.run", sweep, "--storage", str(storage)]
    command += ["--address", "auto"]  # if Ray is not running here, this is an error; else the head would train alone
    run.start_supervisor(lock, [*command, *options], {"PYTHONUNBUFFERED": "1"})
    return follow(run)


def follow(run: RunFolder, skip: int = 0, last: int | None = None) -> int:
    """Copy the log as it grows, until the run ends; returns the run's exit status.

    It begins after `skip` lines, or with the `last` lines if that is not None.
    """
    if not run.log.exists():
        print(f"{run.sweep} was never submitted to this cluster from this account")
        return EXIT_USAGE
    if last is not None:
        skip = max(0, num_lines(run) - last)
    out = sys.stdout.buffer
    out.write(f"{SKIPPED_MARK}{skip}\n".encode())
    with open(run.log, "rb") as log:
        while True:
            has_ended = not run.is_running()  # before reading: the last lines are still copied below
            while line := log.readline():
                if not line.endswith(b"\n") and not has_ended:
                    log.seek(-len(line), os.SEEK_CUR)  # half a line: wait for the rest
                    break
                if skip:
                    skip -= 1
                else:
                    out.write(LINE_MARK.encode() + line.rstrip(b"\r\n") + LINE_MARK.encode() + b"\n")
            out.flush()
            if has_ended:
                break
            time.sleep(POLL_PERIOD_S)
    status = run.read_status()
    if status is None:
        print(
            f"{run.sweep}: has no exit status: the head was restarted, or the run's processes were killed; submit it "
            "again to resume"
        )
        return EXIT_FAILED
    return status


def stop(run: RunFolder) -> int:
    """Send the run what Ctrl-C sends, and follow it until it has saved and ended."""
    pid = run.read_record().get("pid")
    if not run.is_running() or not isinstance(pid, int):
        print(f"{run.sweep} is not running on this cluster")
        return EXIT_USAGE
    skip = num_lines(run)
    with contextlib.suppress(ProcessLookupError):  # it has just ended, and its last lines are shown
        os.kill(pid, signal.SIGINT)
    follow(run, skip)
    return 0


def num_lines(run: RunFolder) -> int:
    """Whole lines in the log."""
    with open(run.log, "rb") as log:
        return sum(line.endswith(b"\n") for line in log)


def pack(run: RunFolder, storage: AnyPath, with_checkpoints: bool) -> int:
    """Pack the sweep's tables into an archive for `submit --fetch`, and print its path."""
    from flexres_tune.submit.fetch import pack_results

    folder = run.home / FOLDER / ".fetch"  # hidden: no sweep has such a name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in folder.iterdir():
        if time.time() - path.stat().st_mtime > STALE_ARCHIVE_S:
            path.unlink(missing_ok=True)
    archive = folder / f"{secrets.token_hex(8)}.tar"
    pack_results(storage, run.sweep, with_checkpoints, archive)
    print(archive.relative_to(run.home))
    return 0


def _find_storage(text: str) -> AnyPath:
    """The results of this cluster: a folder of this machine, or an address with this account filled in."""
    from flexres_tune.storage import make_path
    from flexres_tune.submit.accounts.bucket import resolve_storage

    return make_path(resolve_storage(os.path.expanduser(text)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    parser = argparse.ArgumentParser(prog="head", allow_abbrev=False)
    parser.add_argument("verb", choices=("start", "follow", "stop", "pack", "supervise"))
    parser.add_argument("sweep")
    parser.add_argument("--sent", type=Path)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--last", type=int)
    parser.add_argument("--storage", type=str)
    parser.add_argument("--checkpoints", action="store_true")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args(arguments)
    run = RunFolder(Path.home(), options.sweep)
    try:
        match options.verb:
            case "start":
                return start(run, options.sent, _find_storage(options.storage), options.arguments)
            case "follow":
                return follow(run, options.skip, options.last)
            case "stop":
                return stop(run)
            case "supervise":
                return run.supervise(options.arguments)
            case _:
                return pack(run, _find_storage(options.storage), options.checkpoints)
    except FlexResError as error:
        print(error)
        return error.exit_status
    except OSError as error:
        print(f"{run.folder}: {error}; free some space on the head, or make the folder writable")
        return EXIT_USAGE


if __name__ == "__main__":
    raise SystemExit(main())
