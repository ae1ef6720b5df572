"""Change several files of a folder in one step: a new folder of hard links takes the place of the old one.

renameat2(RENAME_EXCHANGE) swaps the names of both folders, so a program that lists the folder sees all files as they
were before, or all as they are afterwards, whenever this process is killed. The old folder keeps its files under a
hidden name for a while, because a program that has opened it may be about to list it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from flexres_tune.errors import StorageError, describe_os_error
from flexres_tune.storage.atomic import TEMPORARY_SUFFIX, sync_folder
from flexres_tune.storage.folder_watch import call_while_unread

# A program that has listed the folder looks at its files within 0.1 ms, or some ms later on a busy machine. An exchange
# in between takes the old files away from it: Arrow leaves out their rows, and reports nothing.
QUIET_S = 0.003
MAX_WAIT_S = 0.25

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# NFS, FAT, overlays, folders that are links or mount points, and kernels other than Linux refuse a link or an exchange.
_UNSUPPORTED = {
    *(errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EBUSY),
    errno.ENOTDIR,
}


class FolderUpdateUnsupported(Exception):
    """The file system cannot exchange two folders, or has no hard links."""


@contextlib.contextmanager
def update_folder(folder: Path, remove: Collection[str] = ()) -> Iterator[Path]:
    """Yield a folder with the files of `folder`, without those to remove, that takes its place if the block succeeds.

    The block adds files to it. Afterwards the old folder has the name that was yielded, until discard_folder().
    Only one process may change the folder at a time.

    Raises:
        FolderUpdateUnsupported: nothing was changed; change the files one by one.
        StorageError: the disk is full or failing; nothing was changed.
    """
    following = _next_name(folder)
    try:
        with _explain_errors(folder):
            _link_files(folder, following, set(remove))
        yield following
        with _explain_errors(folder):
            sync_folder(following)
            _exchange(following, folder)
    except BaseException:
        shutil.rmtree(following, ignore_errors=True)
        raise
    with contextlib.suppress(OSError):
        sync_folder(folder.parent)
        _move_others(following, folder, remove)


def discard_folder(old: Path, folder: Path) -> None:
    """Delete what update_folder() has left; a name that is no regular file is moved to `folder`, never deleted."""
    with contextlib.suppress(OSError):
        _move_others(old, folder)
        for entry in list(os.scandir(old)):
            os.unlink(entry.path)
        os.rmdir(old)


def old_folders(folder: Path) -> list[Path]:
    """What update_folder() has left next to `folder`, of this process or of one that was killed."""
    return sorted(path for path in folder.parent.glob(f".{folder.name}-*.old") if path.is_dir())


def _next_name(folder: Path) -> Path:
    for number in range(1, 1_000_000):
        path = folder.with_name(f".{folder.name}-{number}.old")
        if not os.path.lexists(path):
            return path
    raise StorageError(f"{folder}: too many old folders next to it; delete {folder.parent}/.{folder.name}-*.old")


def _link_files(folder: Path, following: Path, remove: set[str]) -> None:
    if folder.is_symlink():
        raise FolderUpdateUnsupported(f"{folder}: is a link")
    os.mkdir(following)
    shutil.copymode(folder, following)
    for entry in list(os.scandir(folder)):
        if entry.name in remove or entry.name.endswith(TEMPORARY_SUFFIX) or not entry.is_file(follow_symlinks=False):
            continue
        os.link(entry.path, following / entry.name)


def _move_others(old: Path, folder: Path, remove: Collection[str] = ()) -> None:
    """Move what is not a regular file, and so was not linked: somebody else has put it there."""
    for entry in list(os.scandir(old)):
        if entry.is_file(follow_symlinks=False):
            continue
        if entry.name in remove:
            os.unlink(entry.path)
        elif not os.path.lexists(folder / entry.name):
            os.rename(entry.path, folder / entry.name)


@contextlib.contextmanager
def _explain_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise FolderUpdateUnsupported(str(error)) from error
        reason = describe_os_error(error)
        raise StorageError(f"{folder}: cannot be written: {reason}", reason) from error


def _exchange(first: Path, second: Path) -> None:
    rename = _renameat2()
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    arguments = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    if call_while_unread(second, functools.partial(rename, *arguments), QUIET_S, MAX_WAIT_S):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(second))


@functools.cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """The function of the C library; None if it has none."""
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
