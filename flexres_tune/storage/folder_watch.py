"""Do something at a moment at which no program of this machine reads a folder, as Linux's inotify tells."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

_IN_OPEN, _IN_CLOSE_NOWRITE = 0x20, 0x10
_BUFFER_BYTES = 1 << 16

T = TypeVar("T")


def call_while_unread(folder: Path, call: Callable[[], T], quiet_s: float, at_most_s: float) -> T:
    """Call as soon as nobody has listed the folder or opened a file in it for `quiet_s`, or after `at_most_s`.

    At once if this cannot be known: another operating system, or no watch is left for this user. A program that begins
    to read within the last microseconds is not noticed.
    """
    with _watch(folder) as handle:
        if handle is not None:
            deadline = time.monotonic() + at_most_s
            while time.monotonic() < deadline and _is_read_within(handle, quiet_s):
                pass
        return call()


def _is_read_within(handle: int, seconds: float) -> bool:
    """Whether somebody reads in that time; the last look is at its very end, because a process may wake up late."""
    if not (select.select([handle], [], [], seconds)[0] or select.select([handle], [], [], 0)[0]):
        return False
    os.read(handle, _BUFFER_BYTES)
    return True


@contextlib.contextmanager
def _watch(folder: Path) -> Iterator[int | None]:
    """A file descriptor that is readable once somebody has opened or closed the folder or a file in it."""
    functions = library()
    if not hasattr(functions, "inotify_init1"):
        yield None
        return
    handle = functions.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if handle < 0:
        yield None
        return
    try:
        found = functions.inotify_add_watch(handle, os.fsencode(folder), _IN_OPEN | _IN_CLOSE_NOWRITE)
        yield handle if found >= 0 else None
    finally:
        os.close(handle)


@functools.cache
def library() -> ctypes.CDLL:
    """The functions of the C library."""
    return ctypes.CDLL(None)
