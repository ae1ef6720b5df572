"""Which process holds a sweep's lock."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from flexres_tune.results.holder import Holder


def test_this_process_is_alive_and_survives_json():
    holder = Holder.from_json(Holder.of_this_process().to_json())
    assert holder == Holder.of_this_process() or holder.pid == os.getpid()
    assert holder.is_alive_here


def test_ended_process_and_reused_pid_are_dead():
    here = Holder.of_this_process()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert replace(here, pid=ended.pid).is_alive_here is False
    assert replace(here, born=here.born - 60).is_alive_here is False


def test_process_of_another_machine_is_not_known_to_be_dead():
    assert replace(Holder.of_this_process(), machine="another").is_alive_here is None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"pid": "x", "host": 3, "born": "12"}', b"\xff\x00", b'{"more": 1}', b"[" * 100_000]
)
def test_damaged_lock_is_of_an_unknown_holder(content):
    assert str(Holder.from_json(content)) == "on host unknown, pid unknown, started unknown"


def test_lock_of_an_earlier_version_names_its_holder():
    holder = Holder.from_json(b'{"host": "a", "pid": 7, "started_at": "2026-01-01", "born": "12345"}')
    assert str(holder) == "on host a, pid 7, started 2026-01-01" and holder.is_alive_here is None
