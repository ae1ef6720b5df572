"""Programs that open a table's folder themselves find each row once, while a writer replaces rows and merges parts."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import duckdb
import pandas
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from flexres_tune.results import table_writer
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter

TESTS = Path(__file__).parents[1]
KEYS = {"epochs": ["trial_id", "epoch"], "trials": ["trial_id", "stage"]}


def with_pyarrow(folder, columns):
    return pq.read_table(folder, columns=columns)


def with_dataset(folder, columns):
    return ds.dataset(folder).to_table(columns)


def with_pandas(folder, columns):
    return pa.Table.from_pandas(pandas.read_parquet(folder, columns=columns), preserve_index=False)


def with_duckdb(folder, columns):
    with duckdb.connect() as connection:
        return connection.sql(f"SELECT {', '.join(columns)} FROM read_parquet('{folder}/*.parquet')").to_arrow_table()


READERS = (with_pyarrow, with_dataset, with_pandas, with_duckdb)


class Readers:
    """Reads both tables in a loop, with every program in turn, until something is wrong."""

    def __init__(self, root):
        self.paths = SweepPaths(root, "busy")
        self.seen = {name: set() for name in KEYS}
        self.figures = Counter()
        self.problems = []

    def check(self, read, name, may_repeat=True):
        try:
            table = read(self.paths.table(name), KEYS[name])
        except (
            FileNotFoundError,
            duckdb.IOException,
        ):  # listed before parts were merged, opened afterwards: read again
            self.figures["vanished"] += 1
            return
        keys = list(zip(*table.to_pydict().values(), strict=True))
        if may_repeat and self.seen[name] - set(keys):
            # Arrow drops a file that it listed before parts were merged and looks at afterwards: read again
            self.figures["incomplete"] += 1
            return self.check(read, name, may_repeat=False)
        if twice := [key for key, number in Counter(keys).items() if number > 1]:
            self.problems.append(f"{read.__name__}: {len(twice)} rows of {name} twice, such as {twice[0]}")
        if lost := self.seen[name] - set(keys):
            self.problems.append(f"{read.__name__}: {len(lost)} rows of {name} lost, such as {min(lost)}")
        self.seen[name] |= set(keys)
        self.figures[read.__name__] += 1

    def is_done(self, until):
        """Whether the time is over and every program has read, which may take longer on a busy machine."""
        has_read = all(self.figures[read.__name__] >= 6 for read in READERS)
        return bool(self.problems) or (time.monotonic() > until and has_read) or time.monotonic() > until + 120

    def run(self, until):
        while not self.is_done(until):
            for read in READERS:
                for name in KEYS:
                    if self.paths.table(name).is_dir() and any(self.paths.table(name).glob("*.parquet")):
                        self.check(read, name)


@contextlib.contextmanager
def busy_writer(root):
    path = f"{TESTS}{os.pathsep}{TESTS.parent}"
    command = [sys.executable, "-m", "helpers.busy_writer", root]
    writer = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.DEVNULL)
    try:
        yield writer
        assert writer.poll() is None, "the writer has failed"
    finally:
        writer.kill()
        writer.wait()


def read_while_writers_are_killed(root, seconds, life_s):
    """Readers in a loop for some seconds; the writer is killed after a random time of about `life_s`, and starts again."""
    readers, chance = Readers(root), random.Random(0)
    until = time.monotonic() + seconds
    thread = threading.Thread(target=readers.run, args=(until,))
    thread.start()
    while not readers.is_done(until):
        with busy_writer(root) as writer:
            end = time.monotonic() + 1 + chance.expovariate(1 / life_s)
            while time.monotonic() < end and not readers.is_done(until):
                time.sleep(0.05)
            os.kill(writer.pid, signal.SIGSTOP)  # so that poll() tells a failure from the kill
        readers.figures["kills"] += 1
    thread.join()
    print(dict(readers.figures))
    assert not readers.problems, readers.problems
    assert readers.figures["incomplete"] <= 1 + 0.001 * sum(readers.figures[read.__name__] for read in READERS)
    assert all(readers.figures[read.__name__] for read in READERS), readers.figures
    return readers.figures


def test_each_row_is_there_once_while_a_writer_merges(tmp_path):
    read_while_writers_are_killed(tmp_path, 3, life_s=100)


@pytest.mark.slow
def test_each_row_is_there_once_while_writers_are_killed_again_and_again(tmp_path):
    seconds = float(os.environ.get("FLEXRES_TUNE_READERS_SECONDS", 30))
    figures = read_while_writers_are_killed(tmp_path, seconds, life_s=2)
    assert figures["kills"] > 2


class Killed(BaseException):
    """Takes the place of SIGKILL: after it, nothing that the process does changes a file."""


CHANGES = ("link", "mkdir", "unlink", "rmdir", "rename", "replace", "fsync")


@pytest.fixture
def kill_after(monkeypatch):
    """Let the given number of changes of files happen, and no more."""
    remaining = [10**9]

    def guarded(call):
        def guard(*args, **kwargs):
            remaining[0] -= 1
            if remaining[0] < 0:
                raise Killed
            return call(*args, **kwargs)

        return guard

    monkeypatch.setattr(os, "fsync", lambda handle: None)  # slow
    monkeypatch.setattr(table_writer, "GRACE_S", 0)
    for name in CHANGES:
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    return lambda number: remaining.__setitem__(0, number)


def test_each_row_is_there_once_wherever_the_writer_is_killed(
    tmp_path, kill_after, make_config, make_trial, make_epoch
):
    """At each step of a flush that replaces rows in two parts, and of a compaction."""
    configs = [make_config(seed=seed) for seed in range(3)]
    step = 0
    while True:
        kill_after(10**9)
        paths = SweepPaths(tmp_path / str(step), "demo")
        with SweepWriter(paths) as writer:
            for config in configs:
                writer.add_trial(make_trial(config, "interrupted"), config)
                for epoch in (1, 2, 3):
                    writer.add_epoch(make_epoch(config.trial_id, epoch))
                writer.flush()
        kill_after(step)
        try:
            with SweepWriter(paths) as writer:
                for config in configs[:2]:
                    writer.add_trial(make_trial(config, attempt=2), config)
                    writer.add_epoch(make_epoch(config.trial_id, 3, attempt=2))
                writer.compact()
                is_done = True
        except Killed:
            is_done = False
        kill_after(10**9)
        for state in ("after the kill", "after the next start"):
            epochs, trials = pq.read_table(paths.epochs), pq.read_table(paths.trials)
            keys = list(zip(epochs["trial_id"].to_pylist(), epochs["epoch"].to_pylist(), strict=True))
            assert sorted(keys) == sorted((c.trial_id, e) for c in configs for e in (1, 2, 3)), f"step {step}, {state}"
            assert sorted(trials["seed"].to_pylist()) == [0, 1, 2], f"step {step}, {state}"
            SweepWriter(paths)
        assert not list(paths.folder.glob(".*.old")), f"step {step}"
        if is_done:
            break
        step += 1
    assert step > 20
