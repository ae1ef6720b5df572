"""What `submit` does on the head: `python -m flexres_tune.submit.head OPTIONS -- start|follow|stop|pack SWEEP`."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from flexres_tune.errors import FlexResError
from flexres_tune.submit.bundle import unpack_tree
from flexres_tune.submit.run_folder import FOLDER, RunFolder
from flexres_tune.submit.supervisor import start_keeper

LOOK_S = 0.2
OLD_S = 86_400  # an archive that nobody fetched
POSITION = "\x1e"  # begins the line that says how many lines of the log are left out
EDGE = "\x1f"  # begins and ends each line of the log: what Ray and ssh say of a lost connection, and half lines, do not
EXIT_NEVER = 2
EXIT_UNKNOWN = 1


def start(run: RunFolder, sent: Path, storage: Path, arguments: Sequence[str]) -> int:
    """Put what was sent in its place, start the run in it, and follow it.

    Args:
        arguments: the sweep file, as it lies in the tree, and the options of `run`.
    """
    lock = run.acquire()
    if lock is None:
        since = run.read_record().get("started_at", "just now")
        print(f"{run.sweep} already runs on this cluster, since {since}: --attach follows it, --stop ends it")
        sent.unlink(missing_ok=True)
        return EXIT_NEVER
    run.begin()
    fresh = run.folder / f"tree-{secrets.token_hex(4)}"
    unpack_tree(sent, fresh)
    run.replace_tree(fresh)
    sweep, *options = arguments
    # auto: a Ray that is gone from the head is an error, and not a reason to train there
    command = [
        sys.executable,
        "-m",
        "flexres_tune.run",
        sweep,
        "--storage",
        str(storage),
        "--address",
        "auto",
        *options,
    ]
    start_keeper(run, lock, command, {"PYTHONUNBUFFERED": "1"})
    sent.unlink(missing_ok=True)
    return follow(run, sys.stdout.buffer)


def follow(run: RunFolder, out: BinaryIO, skip: int = 0, last: int | None = None) -> int:
    """Copy the log as it grows until the run ends; the run's exit status.

    Args:
        skip: lines that were seen before.
        last: begin with so many lines before the log's end; None for all.
    """
    if not run.log.exists():
        print(f"{run.sweep} was never submitted to this cluster from this account")
        return EXIT_NEVER
    if last is not None:
        skip = max(0, num_lines(run) - last)
    out.write(f"{POSITION}{skip}\n".encode())
    with open(run.log, "rb") as log:
        while True:
            has_ended = not run.is_running()  # asked first: what it wrote last is still read below
            while line := log.readline():
                if not line.endswith(b"\n") and not has_ended:
                    log.seek(-len(line), os.SEEK_CUR)  # half a line: the rest comes
                    break
                if skip:
                    skip -= 1
                else:
                    out.write(EDGE.encode() + line.rstrip(b"\r\n") + EDGE.encode() + b"\n")
            out.flush()
            if has_ended:
                break
            time.sleep(LOOK_S)
    status = run.read_status()
    if status is None:
        print(
            f"{run.sweep}: nobody was left to say how it ended: the head was started again, or its processes were "
            "killed; the same submit goes on"
        )
        return EXIT_UNKNOWN
    return status


def stop(run: RunFolder) -> int:
    """Ctrl-C for the run, and follow it until it has saved and ended."""
    pid = run.read_record().get("pid")
    if not run.is_running() or not isinstance(pid, int):
        print(f"{run.sweep} does not run on this cluster")
        return EXIT_NEVER
    seen = num_lines(run)
    os.kill(pid, signal.SIGINT)
    follow(run, sys.stdout.buffer, seen)
    return 0


def num_lines(run: RunFolder) -> int:
    """Whole lines of the log by now."""
    with open(run.log, "rb") as log:
        return sum(line.endswith(b"\n") for line in log)


def pack(run: RunFolder, storage: Path, with_checkpoints: bool) -> int:
    """Put the sweep's tables in an archive for `submit --fetch`, and print its path."""
    from flexres_tune.submit.fetch import pack_results

    folder = run.home / FOLDER / ".fetch"  # hidden: no sweep has such a name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in folder.iterdir():
        if time.time() - left.stat().st_mtime > OLD_S:
            left.unlink(missing_ok=True)
    archive = folder / f"{secrets.token_hex(8)}.tar"
    pack_results(storage, run.sweep, with_checkpoints, archive)
    print(archive.relative_to(run.home))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and do; the exit status."""
    parser = argparse.ArgumentParser(prog="head", allow_abbrev=False)
    parser.add_argument("verb", choices=("start", "follow", "stop", "pack"))
    parser.add_argument("sweep")
    parser.add_argument("--sent", type=Path)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--last", type=int)
    parser.add_argument("--storage", type=Path)
    parser.add_argument("--checkpoints", action="store_true")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args(arguments)
    run = RunFolder(Path.home(), options.sweep)
    try:
        match options.verb:
            case "start":
                return start(run, options.sent, options.storage.expanduser(), options.arguments)
            case "follow":
                return follow(run, sys.stdout.buffer, options.skip, options.last)
            case "stop":
                return stop(run)
            case _:
                return pack(run, options.storage.expanduser(), options.checkpoints)
    except FlexResError as error:
        print(error)
        return error.exit_status
    except OSError as error:
        print(f"{run.folder}: {error}; free some space on the head, or make the folder writable")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
