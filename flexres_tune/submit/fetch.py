"""A sweep's tables from the head's results folder to one's own: packed there, unpacked here.

An archive rather than `rsync` of the folder: a running sweep merges its parts meanwhile, and of a merged part the
narrower ones must go here too, or pandas and Spark would count their rows twice.
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

TRIES = 20


def pack_results(storage: Path, sweep: str, with_checkpoints: bool, archive: Path) -> None:
    """Write a tar of a sweep's folder: tables, plan, report, logs; its checkpoints only where asked for.

    Raises:
        ResultsError: no such sweep there.
    """
    paths = SweepPaths(storage, sweep)
    if not any(paths.table(name).is_dir() for name in TABLES):
        raise ResultsError(f"{paths.folder}: no tables of sweep {sweep} are there yet; is it the folder of --storage?")
    for _ in range(TRIES):
        try:
            with tarfile.open(archive, "w") as target:
                for path in _files(paths, with_checkpoints):
                    target.add(path, path.relative_to(paths.folder).as_posix(), recursive=False)
            return
        except FileNotFoundError:
            continue  # parts were merged since the folder was listed; the merged one is there now
    raise ResultsError(f"{paths.folder}: its files change faster than they can be packed; try again")


def unpack_results(archive: Path, root: Path, sweep: str, origin: str) -> int:
    """Put a sweep's files into a results folder; those of an earlier fetch that are gone there, go here too.

    Args:
        origin: the cluster and folder that they come from.

    Returns:
        number of files.

    Raises:
        ResultsError: the folder holds rows that were not fetched from there; nothing is changed then.
    """
    paths = SweepPaths(root, sweep)
    with SweepLock(paths):
        before = _own_parts(paths, origin)
        written: set[Path] = set()
        with tarfile.open(archive) as source:
            for member in source:
                target = paths.folder / _safe(member, archive)
                with atomic_write(target) as aside, open(aside, "wb") as file:
                    shutil.copyfileobj(source.extractfile(member), file)
                written.add(target)
        prints = {str(path.relative_to(paths.folder)): _print(path) for path in sorted(written)}
        # Before any part is deleted: the next fetch must know all of them.
        atomic_write_text(paths.fetched, json.dumps({"origin": origin, "files": prints}))
        for path in before - written:
            path.unlink()
    return len(written)


def _files(paths: SweepPaths, with_checkpoints: bool) -> Iterator[Path]:
    """Files of a sweep, without hidden ones (half written) and the lock."""
    for folder, folders, names in os.walk(paths.folder):
        if not with_checkpoints and Path(folder) == paths.folder and paths.checkpoints.name in folders:
            folders.remove(paths.checkpoints.name)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if not name.startswith(".") and path != paths.lock and path.is_file():
                yield path


def _own_parts(paths: SweepPaths, origin: str) -> set[Path]:
    """Parts that are here already, all of them from that origin and as they came."""
    parts = {part.path for name in TABLES for found in list_parts(paths.table(name)) for part in found}
    try:
        record = json.loads(paths.fetched.read_text())
        known = record["files"] if record["origin"] == origin else {}
    except (OSError, ValueError, LookupError, TypeError):
        known = {}
    for path in sorted(parts):
        if known.get(str(path.relative_to(paths.folder))) != _print(path):
            raise ResultsError(
                f"{paths.folder}: holds rows that were not fetched from {origin}, such as those of "
                f"{path.relative_to(paths.folder)}; nothing was changed; fetch into another folder with --into DIR"
            )
    return parts


def _print(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _safe(member: tarfile.TarInfo, archive: Path) -> PurePosixPath:
    """The member's path, which must be a plain file inside the folder."""
    path = PurePosixPath(member.name)
    if not member.isfile() or path.is_absolute() or ".." in path.parts or any(p.startswith(".") for p in path.parts):
        raise ResultsError(f"{archive}: must hold files of a sweep's folder only, but holds {member.name[:100]!r}")
    return path
