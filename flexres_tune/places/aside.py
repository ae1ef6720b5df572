"""A file is written aside and renamed: .NAME.HOST.PID.tmp, in the same folder, then NAME."""

from __future__ import annotations

import os
import platform
from pathlib import Path

SUFFIX = ".tmp"  # with the leading dot: no reader of the folder (pyarrow, pandas, Spark, a glob) takes it for the file


def aside_of(path: Path) -> Path:
    """Where this process writes `path`.

    The host stands in the name since containers count their processes from 1: while a link is cut, a trial and its
    next attempt elsewhere would write into one file.
    """
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}{SUFFIX}")
