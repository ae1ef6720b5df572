"""What a stranger's folder may hold in place of a file: each function makes one at a path."""

import contextlib
import os
import signal
import socket


def pipe(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


def dangling_link(path):
    path.symlink_to("nowhere")


def socket_file(path):
    here = os.open(path.parent, os.O_PATH)  # a socket's path has at most 107 characters
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def huge(path):
    with open(path, "wb") as file:
        file.truncate(2**40)  # sparse: it takes no space


SPECIAL = [pipe, endless, folder, dangling_link, socket_file, huge]


def replace(path, special):
    """Put a special file in place of a file, which need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    special(path)


@contextlib.contextmanager
def in_time(seconds=20):
    """Fail, instead of waiting for ever, if the block takes longer."""

    def fail(*_):
        raise AssertionError(f"it did not end in {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
