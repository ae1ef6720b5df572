"""Whether a sweep's folder takes files, found out before anything starts."""

from __future__ import annotations

from flexres_tune.results.aside import written_aside
from flexres_tune.results.paths import TABLES, SweepPaths


def check_folder(paths: SweepPaths) -> None:
    """Write and remove a small file in each folder that a sweep writes to.

    Raises:
        ResultsError: one of them is read-only, full, or not a folder.
    """
    for folder in (*map(paths.table, TABLES), paths.checkpoints):
        probe = folder / ".probe"
        with written_aside(probe) as aside:
            aside.write_bytes(b"a full disk may still take a name, but no content" * 100)
        probe.unlink(missing_ok=True)
