"""Locks on files (flock), which the kernel releases when the process that holds one ends."""

from __future__ import annotations

import fcntl
import time
from typing import IO

RETRY_FOR_S = 0.5  # is_locked() takes the lock for an instant; a process that locks in that instant tries again
RETRY_PERIOD_S = 0.05


def lock_file(file: IO | int) -> bool:
    """Lock an open file or folder until it is closed; False if another process holds the lock.

    Raises OSError if the file system has no locks.
    """
    end = time.monotonic() + RETRY_FOR_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(RETRY_PERIOD_S)


def is_locked(file: IO) -> bool:
    """Whether another process holds the lock. Raises OSError if the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
