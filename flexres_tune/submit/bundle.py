"""The code to send, as a zip archive of 0.4 MB: the package, the sweeps, and the sweep file to run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flexres_tune.errors import FlexResError

# a list of what is sent, so that .git, results, virtual environments and data never are
PATTERNS = (
    *(f"flexres_tune/**/*.{suffix}" for suffix in ("py", "typed", "csv", "md", "css", "js")),
    "sweeps/**/*.yaml",
    "requirements.txt",
    "pyproject.toml",
    "cluster/constraints.txt",
)
OTHER_SWEEPS = "submitted"  # folder in the archive for a sweep file from outside the working tree
MAX_BYTES = 20_000_000  # 50 times the size of the package


@dataclass(frozen=True)
class Bundle:
    """What an archive contains."""

    num_files: int
    num_bytes: int  # of the archive
    sweep: str  # path of the sweep file inside the archive


def list_tree(root: Path) -> list[Path]:
    """Files that match the patterns, sorted; without hidden files and caches."""

    def is_hidden(path: Path) -> bool:
        return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts)

    found = {path for pattern in PATTERNS for path in root.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not is_hidden(path))


def pack_tree(root: Path, sweep: Path, archive: Path, code: Iterable[Path] = ()) -> Bundle:
    """Write the archive. It is a zip because Python can import from one, which is how the head unpacks it.

    `code` are the files of the user's own that the sweep names; they keep their place relative to the sweep file.

    Raises FlexResError if the folder has no package, or more than MAX_BYTES to send.
    """
    files = {path.relative_to(root).as_posix(): path for path in list_tree(root)}
    if "flexres_tune/__init__.py" not in files:
        raise FlexResError(f"{root}: must be the working tree that contains flexres_tune/, but does not")
    if sweep.resolve().is_relative_to(root.resolve()):
        sweep_name = sweep.resolve().relative_to(root.resolve()).as_posix()
    else:  # a file from another folder must not replace one of this working tree
        sweep_name = f"{OTHER_SWEEPS}/{sweep.name}"
    files[sweep_name] = sweep
    folder = sweep.resolve().parent
    for path in code:
        files[(Path(sweep_name).parent / path.resolve().relative_to(folder)).as_posix()] = path
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if sum(sizes.values()) > MAX_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise FlexResError(
            f"{root}: the files to send must have at most {MAX_BYTES:,} bytes, but have {sum(sizes.values()):,}; the "
            f"largest is {largest} with {sizes[largest]:,}: move it out of the working tree"
        )
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as target:
        for name, path in sorted(files.items()):
            target.write(path, name)
    return Bundle(len(files), archive.stat().st_size, sweep_name)
