import os
import threading
import time

import pytest

from flexres_tune.storage import folder_watch
from flexres_tune.storage.folder_watch import call_while_unread


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "part").write_text("rows")
    return tmp_path


def seconds_until_called(folder, quiet_s, at_most_s):
    started = time.monotonic()
    assert call_while_unread(folder, lambda: 7, quiet_s, at_most_s) == 7
    return time.monotonic() - started


def read_in_a_loop(read, is_over):
    while not is_over.wait(0.01):
        read()


@pytest.mark.parametrize("what", ["list", "open"])
def test_call_waits_while_somebody_lists_the_folder_or_opens_its_files(folder, what):
    read = {"list": lambda: os.listdir(folder), "open": (folder / "part").read_text}[what]
    is_over = threading.Event()
    thread = threading.Thread(target=read_in_a_loop, args=(read, is_over))
    thread.start()
    threading.Timer(1.0, is_over.set).start()
    assert 1.0 <= seconds_until_called(folder, 0.5, 60) < 60
    thread.join()


def test_call_waits_no_longer_than_it_may(folder):
    is_over = threading.Event()
    thread = threading.Thread(target=read_in_a_loop, args=(lambda: os.listdir(folder), is_over))
    thread.start()
    assert seconds_until_called(folder, 30, 0.2) >= 0.2
    assert not is_over.is_set()
    is_over.set()
    thread.join()


def test_call_is_made_at_once_if_reads_cannot_be_seen(folder, monkeypatch):
    assert seconds_until_called(folder / "missing", 30, 60) < 30
    monkeypatch.setattr(folder_watch.ctypes, "CDLL", lambda name: object())  # as on another operating system
    folder_watch.library.cache_clear()
    assert seconds_until_called(folder, 30, 60) < 30
    folder_watch.library.cache_clear()
