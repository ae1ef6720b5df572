"""A sweep's folder before and after a run: whether it takes files, and whether its parts are one."""

from __future__ import annotations

import contextlib

from flexres_tune.errors import ResultsError
from flexres_tune.results.lock import SweepLock
from flexres_tune.results.parts import list_parts
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.storage import atomic_write_bytes


def check_folder(paths: SweepPaths) -> None:
    """Write and remove a small file in each folder that a sweep writes to.

    Raises:
        ResultsError: one of them is read-only, full, or not a folder.
    """
    for folder in (*map(paths.table, TABLES), paths.checkpoints):
        probe = folder / ".probe"
        atomic_write_bytes(probe, b"a full disk may still take a name, but no content" * 100)
        probe.unlink(missing_ok=True)


def compact_if_needed(paths: SweepPaths) -> None:
    """Make one part of each table that a driver killed at the very end has left as many.

    Our readers do not need it; others would see a trial's `interrupted` row beside the one that replaced it. Nothing
    is done where another driver runs the sweep, or the folder takes no files.
    """
    if all(len(list_parts(paths.table(name))[0]) <= 1 for name in TABLES):
        return
    from flexres_tune.results.writer import SweepWriter

    with contextlib.suppress(ResultsError), SweepLock(paths):
        SweepWriter(paths).compact()
