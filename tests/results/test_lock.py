import json
import os
import subprocess
import sys

import pytest
from helpers.special_files import dangling_link, endless, folder, in_time, pipe, replace, socket_file

from flexres_tune.errors import ResultsError
from flexres_tune.results.lock import find_holder, sweep_lock
from flexres_tune.results.paths import SweepPaths

HOLD = """
import sys, time
from pathlib import Path
from flexres_tune.results.lock import sweep_lock
from flexres_tune.results.paths import SweepPaths
with sweep_lock(SweepPaths(Path(sys.argv[1]), "demo")):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_driver_is_refused_until_the_first_is_killed(paths):
    first = subprocess.Popen([sys.executable, "-c", HOLD, paths.root], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        assert find_holder(paths).pid == first.pid
        refused = pytest.raises(
            ResultsError, match=rf"already run by another driver, on host .*, pid {first.pid}, started"
        )
        with refused, sweep_lock(paths):
            pass
    finally:
        first.kill()
        first.wait()
    assert find_holder(paths) is None
    with sweep_lock(paths):
        assert find_holder(paths).pid == os.getpid()
    assert find_holder(paths) is None


def test_lock_that_a_dead_driver_left_is_taken(paths):
    paths.folder.mkdir(parents=True)
    paths.lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started_at": "2020-01-01"}) + " " * 500)
    with sweep_lock(paths):
        assert json.loads(paths.lock.read_text())["pid"] == os.getpid()


def test_sweep_never_run_has_no_holder(paths):
    assert find_holder(paths) is None


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    refused = pytest.raises(ResultsError, match="there is a file where a folder must be")
    with refused, sweep_lock(SweepPaths(tmp_path / "file", "demo")):
        pass


@pytest.mark.parametrize("special", [pipe, endless, folder, dangling_link, socket_file])
def test_special_file_in_place_of_the_lock_is_refused_at_once(paths, special):
    replace(paths.lock, special)
    with in_time(), pytest.raises(ResultsError, match="driver.lock: cannot be written: must be a"), sweep_lock(paths):
        pass
    assert find_holder(paths) is None


def test_link_in_place_of_the_lock_empties_no_other_file(paths, tmp_path):
    (tmp_path / "precious").write_text("content")
    replace(paths.lock, lambda path: path.symlink_to(tmp_path / "precious"))
    with pytest.raises(ResultsError, match="driver.lock: cannot be written"), sweep_lock(paths):
        pass
    assert (tmp_path / "precious").read_text() == "content"
