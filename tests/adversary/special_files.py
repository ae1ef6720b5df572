"""Attacks with files that are no regular files, or have no end, in every place from which a file is read."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from helpers.factories import make_sweep

from adversary.attack import Call, Place, command, read
from adversary.tables import check_pages
from flexres_tune.results.lock import sweep_lock
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter, check_writable
from flexres_tune.submit.cluster_file import read_cluster_file
from flexres_tune.submit.fetch import unpack_results
from flexres_tune.sweep.history import read_history, read_reports
from flexres_tune.training.checkpoint import load_checkpoint


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # a socket's path has at most 107 bytes


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 40)


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o020666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        path.symlink_to("/dev/zero")


SPECIAL: Mapping[str, Callable[[Path], None]] = {
    "fifo": os.mkfifo,
    "socket": _socket,
    "device": _device,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "full": lambda path: path.symlink_to("/dev/full"),
    "terabyte": _sparse,
    "folder": Path.mkdir,
    "root": lambda path: path.symlink_to("/"),
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("missing"),
    "parent": lambda path: path.symlink_to(".."),
    "empty": lambda path: path.touch(),
    "unreadable": lambda path: path.touch(0o000),
}


def put_special_file(chance: random.Random, place: Place) -> Iterator[Call]:
    """One file or folder, anywhere, is replaced by a special file; then something reads it."""
    target = chance.choice(_targets(place))
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    SPECIAL[chance.choice(list(SPECIAL))](target)
    yield from _readers(chance, place, target)
    yield check_pages(place)


def _targets(place: Place) -> list[Path]:
    sweep = place.results / "alpha"
    data = place.folder / "images"
    return [
        place.results,
        *(path for path in sweep.rglob("*") if path.suffix != ".pt"),
        *sorted(sweep.glob("checkpoints/*.pt"))[:2],
        sweep,
        sweep / ".fetched.json",
        sweep / "report.html",
        place.results / "beta" / "report.html",
        place.results / "index.html",
        place.results / "new",
        *(place.folder / name for name in ("sweep.yaml", "cluster.yaml", "results.tar", "answer.csv")),
        *(data / name for name in ("train.parquet", "test.parquet")),
        data,
    ]


def _readers(chance: random.Random, place: Place, target: Path) -> Iterator[Call]:
    """What reads the target."""
    sweep = place.folder / "sweep.yaml"
    if target.is_relative_to(place.results):
        yield read(chance, place)
        yield command("report", "--results", place.results, "--index")
        yield open_as_driver(place)
        yield Call("fetch", lambda: unpack_results(place.folder / "good.tar", place.results, "alpha", "ours:/x"))
        if target.suffix == ".pt":
            yield Call("load", lambda: load_checkpoint(target, target.stem))
        yield command("run", sweep, "--dry-run", "--profile", "none", "--storage", place.results)
    elif target.is_relative_to(place.folder / "images"):
        dataset = f"base.dataset=parquet:{place.folder / 'images'}"
        yield command("run", sweep, "--dry-run", "--profile", "none", "--set", dataset)
    elif target.name == "sweep.yaml":
        yield command("run", sweep, "--dry-run")
    elif target.name == "cluster.yaml":
        yield Call("read", lambda: read_cluster_file(target))
    elif target.name == "results.tar":
        yield Call("fetch", lambda: unpack_results(target, place.results, "alpha", "ours:/x"))
    else:
        yield command("query", "trials", "--results", place.results, "--format", "csv", "--out", target)


def open_as_driver(place: Place) -> Call:
    """What `run` does with a sweep's folder before and while trials run."""

    def open_folder() -> None:
        paths, spec = SweepPaths(place.results, "alpha"), make_sweep(name="alpha")
        with sweep_lock(paths):
            check_writable(paths)
            read_history(paths, spec)
            read_reports(paths, spec.metric)
            SweepWriter(paths).compact()

    return Call("open as a driver", open_folder)
