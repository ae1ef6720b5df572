"""The working tree as one small archive: the package, the sweeps, and the sweep file asked for; nothing else."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flexres_tune.errors import FlexResError

# never .git, results, virtual environments or data, whatever lies in the folder
PATTERNS = (
    *(f"flexres_tune/**/*.{suffix}" for suffix in ("py", "csv", "md", "css", "js")),
    "sweeps/**/*.yaml",
    "requirements.txt",
    "pyproject.toml",
    "cluster/constraints.txt",
)
ELSEWHERE = "submitted"  # folder in the archive for a sweep file from outside the working tree
MAX_BYTES = 20_000_000  # the package has a fiftieth of that


@dataclass(frozen=True)
class SentTree:
    """What an archive holds."""

    num_files: int
    num_bytes: int  # of the archive
    sweep: str  # path of the sweep file inside it


def list_tree(root: Path) -> list[Path]:
    """Files that match the patterns, sorted; without hidden ones and caches."""
    found = {path for pattern in PATTERNS for path in root.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not _is_left_out(path.relative_to(root)))


def pack_tree(root: Path, sweep: Path, archive: Path) -> SentTree:
    """Write the archive (zip, so that Python can run what is in it) for a sweep file, which may lie anywhere.

    Raises:
        FlexResError: no package in the folder, or more in it than is code.
    """
    files = {path.relative_to(root).as_posix(): path for path in list_tree(root)}
    if "flexres_tune/__init__.py" not in files:
        raise FlexResError(f"{root}: must be the working tree that holds flexres_tune/, but does not")
    inside = _place(root, sweep)
    files[inside] = sweep
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if sum(sizes.values()) > MAX_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise FlexResError(
            f"{root}: what is sent must have at most {MAX_BYTES:,} bytes, but has {sum(sizes.values()):,}; the largest "
            f"is {largest} with {sizes[largest]:,}: move it out of the working tree"
        )
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as target:
        for name, path in sorted(files.items()):
            target.write(path, name)
    return SentTree(len(files), archive.stat().st_size, inside)


def unpack_tree(archive: Path, folder: Path) -> None:
    """Put the archive's files in the place of a folder, which is then exactly what was sent."""
    with zipfile.ZipFile(archive) as source:
        source.extractall(folder)  # keeps every member inside the folder


def _place(root: Path, sweep: Path) -> str:
    """Where in the archive a sweep file lies; one of another folder must not take the place of one of this tree."""
    full = sweep.resolve()
    if full.is_relative_to(root.resolve()):
        return full.relative_to(root.resolve()).as_posix()
    return str(PurePosixPath(ELSEWHERE, sweep.name))


def _is_left_out(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)
