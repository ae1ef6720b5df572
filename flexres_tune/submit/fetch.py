"""Copy a sweep's tables from the head's results folder to a local one: packed there, unpacked here.

An archive is used, and not `rsync` of the folder, because a running sweep merges its parts meanwhile. The parts that
were merged there must be removed here too, or pandas and Spark would count their rows twice.

The archive is an uncompressed tar of plain files with the names of RESULT, so that it takes no more space unpacked than
packed. The head is not trusted: nothing is written before every member has passed the checks.
"""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from flexres_tune.errors import ResultsError
from flexres_tune.results.lock import sweep_lock
from flexres_tune.results.parts import list_parts
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.results.tags import TAG_FILE
from flexres_tune.storage import (
    AnyPath,
    atomic_write,
    atomic_write_text,
    is_remote,
    list_folder,
    parse_json,
    read_file,
)
from flexres_tune.storage.object_store import RemotePath
from flexres_tune.text import excerpt

MAX_PACKINGS = 20
END_BYTES = 1024  # of zeros, at the end of every tar archive
RESULT = re.compile(
    rf"plan\.json|report\.html|notes\.md|tags/{TAG_FILE.pattern}|({'|'.join(TABLES)})/part-\d+(-\d+){{1,2}}\.parquet|"
    r"checkpoints/[^/]+\.pt|logs/[^/]+(/[^/]+)*"
)


log = logging.getLogger(__name__)


def pack_results(storage: AnyPath, sweep: str, with_checkpoints: bool, archive: Path) -> None:
    """Write a tar archive of a sweep's folder: tables, plan, report, notes, tags and logs, and checkpoints if wanted.

    Of object storage, only the parts to read are packed: a part that covers others may stand beside them for a while.

    Raises ResultsError if the sweep has no rows.
    """
    paths = SweepPaths(storage, sweep)
    for _ in range(MAX_PACKINGS):
        try:
            names = list_results(paths.folder, with_checkpoints)
            if not any(name.endswith(".parquet") for name in names):
                raise ResultsError(
                    f"{paths.folder}: has no tables of sweep {sweep} yet; is it the folder of --storage? If the sweep "
                    "has just started, fetch again when its first trial has ended"
                )
            with tarfile.open(archive, "w") as target:
                for name in names:
                    _add_file(target, paths.folder, name)
            return
        except FileNotFoundError:
            continue  # parts were merged since the folder was listed; the next listing has the merged part
    raise ResultsError(f"{paths.folder}: its files change faster than they can be packed; try again")


def list_results(folder: AnyPath, with_checkpoints: bool) -> list[str]:
    """Names of a sweep's files, relative to its folder; without the lock and temporary files."""
    if is_remote(folder):
        names = sorted(_list_objects(folder))
    else:
        names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return [name for name in names if _is_result(name) and (with_checkpoints or not name.startswith("checkpoints/"))]


def _list_objects(folder: RemotePath, above: str = "") -> Iterator[str]:
    """Names of all objects below a folder, without parts that another part covers."""
    covered = {part.path.name for part in list_parts(folder)[1]} if above.rstrip("/") in TABLES else set()
    try:
        entries = list_folder(folder)
    except FileNotFoundError:
        return
    for name, status in entries.items():
        if status is None:
            yield from _list_objects(folder / name, f"{above}{name}/")
        elif name not in covered:
            yield above + name


def _add_file(target: tarfile.TarFile, folder: AnyPath, name: str) -> None:
    if not is_remote(folder):
        return target.add(folder / name, name, recursive=False)
    path = folder
    for part in name.split("/"):
        path = path / part
    content = path.read_bytes()
    member = tarfile.TarInfo(name)
    member.size = len(content)
    target.addfile(member, io.BytesIO(content))


def unpack_results(archive: Path, root: Path, sweep: str, origin: str) -> int:
    """Copy a sweep's files into a results folder; returns how many. `origin` is the cluster and folder they are from.

    Parts and tags of an earlier fetch that the archive no longer has are removed. Tags that were given here stay, and so
    does a notes.md that was written here: that of the archive becomes notes.fetched.md.

    Raises:
        ResultsError: the archive has other files, or the folder has rows that were not fetched from `origin`; nothing
            is changed then.
    """
    paths = SweepPaths(root, sweep)
    with sweep_lock(paths):
        stamps = _stamps_of_last_fetch(paths, origin)
        before = _fetched_parts(paths, origin, stamps) | _fetched_tags(paths, stamps)
        notes = _path_of_notes(paths, stamps)
        written: set[Path] = set()
        try:
            with tarfile.open(archive, "r:") as source:
                for member in _check_members(source, archive.stat().st_size, origin):
                    target = notes if member.name == paths.notes.name else paths.folder / member.name
                    with atomic_write(target) as temporary, open(temporary, "wb") as file:
                        shutil.copyfileobj(source.extractfile(member), file)
                    written.add(target)
        except (tarfile.TarError, EOFError, ValueError) as error:  # ValueError: numbers in a header
            raise ResultsError(
                f"{origin}: sent an archive that cannot be read: {excerpt(error)}; fetch again"
            ) from None
        stamps = {str(path.relative_to(paths.folder)): _stamp(path) for path in sorted(written)}
        # before parts are removed: the next fetch must know them all
        atomic_write_text(paths.fetched, json.dumps({"origin": origin, "files": stamps}))
        for path in before - written:
            path.unlink()
    return len(written)


def _check_members(source: tarfile.TarFile, num_bytes: int, origin: str) -> list[tarfile.TarInfo]:
    """All members of an archive of this size; an error unless each is a plain file of a sweep, complete, and once."""
    members: dict[str, tarfile.TarInfo] = {}
    end = 0
    for member in source:  # not getmembers(), which never ends if a size is negative
        is_plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse() and member.size >= 0
        if not is_plain or not _is_result(member.name):
            raise ResultsError(
                f"{origin}: must send only plain files of a sweep's folder, but sends {excerpt(member.name, 100)!r}; "
                "nothing was changed"
            )
        if member.name in members:
            raise ResultsError(
                f"{origin}: must send each file once, but sends {member.name} twice; nothing was changed"
            )
        members[member.name] = member
        end = member.offset_data + member.size
        if end > num_bytes:
            break
    source.fileobj.seek(max(0, num_bytes - END_BYTES))
    if end + END_BYTES > num_bytes or any(source.fileobj.read(END_BYTES)):
        raise ResultsError(f"{origin}: sent an archive whose end is missing; nothing was changed; fetch again")
    if not members:
        raise ResultsError(f"{origin}: sent no file; nothing was changed; fetch again when a trial has ended")
    return list(members.values())


def _is_result(name: str) -> bool:
    """Whether a path below a sweep's folder is one of its results; never the lock, a hidden file or a path outside."""
    return RESULT.fullmatch(name) is not None and not any(part.startswith(".") for part in name.split("/"))


def _stamps_of_last_fetch(paths: SweepPaths, origin: str) -> dict[str, list[int]]:
    """The files that the last fetch wrote, as they were then; none if it was from elsewhere."""
    try:
        record = parse_json(read_file(paths.fetched))
        return dict(record["files"]) if record["origin"] == origin else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _fetched_parts(paths: SweepPaths, origin: str, stamps: Mapping[str, list[int]]) -> set[Path]:
    """Parts in the local folder; an error unless all of them were fetched from `origin` and are unchanged."""
    parts = {part.path for name in TABLES for found in list_parts(paths.table(name)) for part in found}
    for path in sorted(parts):
        if not _is_unchanged(path, paths, stamps):
            raise ResultsError(
                f"{paths.folder}: must have only rows that were fetched from {origin}, but has others, such as those "
                f"of {path.relative_to(paths.folder)}; nothing was changed; fetch into another folder with --into DIR"
            )
    return parts


def _fetched_tags(paths: SweepPaths, stamps: Mapping[str, list[int]]) -> set[Path]:
    return {path for path in paths.tags.glob("*.json") if _is_unchanged(path, paths, stamps)}


def _path_of_notes(paths: SweepPaths, stamps: Mapping[str, list[int]]) -> Path:
    """notes.md, or another file if that was written here."""
    if not paths.notes.exists() or _is_unchanged(paths.notes, paths, stamps):
        return paths.notes
    other = paths.notes.with_name("notes.fetched.md")
    log.warning("%s: was written here, so it stays; notes of the cluster are in %s", paths.notes, other.name)
    return other


def _is_unchanged(path: Path, paths: SweepPaths, stamps: Mapping[str, list[int]]) -> bool:
    """Whether a file is as the last fetch wrote it."""
    return stamps.get(str(path.relative_to(paths.folder))) == _stamp(path)


def _stamp(path: Path) -> list[int]:
    """Size and time of modification, by which a file is recognized as unchanged."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
