"""Copy a sweep's tables from the head's results folder to a local one: packed there, unpacked here.

An archive is used, and not `rsync` of the folder, because a running sweep merges its parts meanwhile. The parts that
were merged there must be removed here too, or pandas and Spark would count their rows twice.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from flexres_tune.errors import ResultsError
from flexres_tune.results.lock import SweepLock
from flexres_tune.results.parts import list_parts
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.storage import atomic_write, atomic_write_text

MAX_PACKINGS = 20


def pack_results(storage: Path, sweep: str, with_checkpoints: bool, archive: Path) -> None:
    """Write a tar archive of a sweep's folder: tables, plan, report and logs, and checkpoints if wanted.

    Raises ResultsError if there is no such sweep.
    """
    paths = SweepPaths(storage, sweep)
    if not any(paths.table(name).is_dir() for name in TABLES):
        raise ResultsError(f"{paths.folder}: has no tables of sweep {sweep} yet; is it the folder of --storage?")
    for _ in range(MAX_PACKINGS):
        try:
            with tarfile.open(archive, "w") as target:
                for path in sweep_files(paths, with_checkpoints):
                    target.add(path, path.relative_to(paths.folder).as_posix(), recursive=False)
            return
        except FileNotFoundError:
            continue  # parts were merged after the folder was listed; the next listing has the merged part
    raise ResultsError(f"{paths.folder}: its files change faster than they can be packed; try again")


def unpack_results(archive: Path, root: Path, sweep: str, origin: str) -> int:
    """Copy a sweep's files into a results folder; returns how many. `origin` is the cluster and folder they are from.

    Parts of an earlier fetch that the archive no longer has are removed. Raises ResultsError if the folder has rows
    that were not fetched from `origin`; nothing is changed then.
    """
    paths = SweepPaths(root, sweep)
    with SweepLock(paths):
        before = _fetched_parts(paths, origin)
        written: set[Path] = set()
        with tarfile.open(archive) as source:
            for member in source:
                target = paths.folder / _safe_path(member, archive)
                with atomic_write(target) as temporary, open(temporary, "wb") as file:
                    shutil.copyfileobj(source.extractfile(member), file)
                written.add(target)
        stamps = {str(path.relative_to(paths.folder)): _stamp(path) for path in sorted(written)}
        # before parts are removed: the next fetch must know them all
        atomic_write_text(paths.fetched, json.dumps({"origin": origin, "files": stamps}))
        for path in before - written:
            path.unlink()
    return len(written)


def sweep_files(paths: SweepPaths, with_checkpoints: bool) -> Iterator[Path]:
    """Files of a sweep, without the lock and hidden files, which are temporary."""
    for folder, folders, names in os.walk(paths.folder):
        if not with_checkpoints and Path(folder) == paths.folder and paths.checkpoints.name in folders:
            folders.remove(paths.checkpoints.name)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if not name.startswith(".") and path != paths.lock and path.is_file():
                yield path


def _fetched_parts(paths: SweepPaths, origin: str) -> set[Path]:
    """Parts in the local folder; an error unless all of them were fetched from `origin` and are unchanged."""
    parts = {part.path for name in TABLES for found in list_parts(paths.table(name)) for part in found}
    try:
        record = json.loads(paths.fetched.read_text())
        stamps = record["files"] if record["origin"] == origin else {}
    except (OSError, ValueError, LookupError, TypeError):
        stamps = {}
    for path in sorted(parts):
        if stamps.get(str(path.relative_to(paths.folder))) != _stamp(path):
            raise ResultsError(
                f"{paths.folder}: must have only rows that were fetched from {origin}, but has others, such as those "
                f"of {path.relative_to(paths.folder)}; nothing was changed; fetch into another folder with --into DIR"
            )
    return parts


def _stamp(path: Path) -> list[int]:
    """Size and time of modification, by which a file is recognized as unchanged."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _safe_path(member: tarfile.TarInfo, archive: Path) -> PurePosixPath:
    """The member's path; an error unless it is a plain file inside the sweep's folder."""
    path = PurePosixPath(member.name)
    if not member.isfile() or path.is_absolute() or ".." in path.parts or any(p.startswith(".") for p in path.parts):
        raise ResultsError(f"{archive}: must contain only files of a sweep's folder, but has {member.name[:100]!r}")
    return path
