"""Report files: the index, full disks, folders without permission, and a sweep that is running."""

import threading

import pytest
from helpers.command import invoke
from helpers.factories import make_config, make_epoch, make_trial
from helpers.permissions import fill_disk, run_as_user

from flexres_tune.report.__main__ import app
from flexres_tune.report.files import write_index, write_report
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def write_sweep():
    """Write a sweep of one completed trial, and return its paths."""

    def write(root, sweep="demo"):
        paths = SweepPaths(root, sweep)
        with SweepWriter(paths) as writer:
            writer.add_trial(make_trial(), make_config())
        return paths

    return write


def test_index_replaces_a_report_that_somebody_else_wrote(write_sweep, tmp_path):
    paths = write_sweep(tmp_path)
    paths.report.write_text("<!doctype html><title>demo: report</title><script>alert(1)</script>")
    index = write_index(open_results(tmp_path)).read_text()
    assert 'href="demo/report.html"' in index
    assert "alert(1)" not in paths.report.read_text()


def test_index_has_no_link_to_a_report_that_cannot_be_replaced(write_sweep, tmp_path):
    write_sweep(tmp_path, "fine")
    paths = write_sweep(tmp_path, "theirs")
    (paths.report / "x").mkdir(parents=True)  # a folder in its place
    index = write_index(open_results(tmp_path)).read_text()
    assert 'href="fine/report.html"' in index
    assert 'href="theirs/' not in index
    assert "cannot be written" in index


def test_full_disk_leaves_the_old_report_and_no_temporary_file(write_sweep, small_disk):
    paths = write_sweep(small_disk)
    paths.report.write_text("the old one")
    fill_disk(small_disk, leave=8192)
    for arguments in ([], ["--index"]):
        done = invoke(app, "--results", small_disk, *arguments)
        assert done.exit_code == 2
        (line,) = done.output.splitlines()
        assert "cannot be written: No space left on device" in line
    assert paths.report.read_text() == "the old one"
    assert [path.name for path in paths.folder.iterdir() if path.is_file()] == ["report.html"]
    assert {path.name for path in small_disk.iterdir()} == {"demo", "filler"}


@pytest.mark.parametrize("option", [[], ["--index"]])
def test_folder_that_may_not_be_written_is_one_line(write_sweep, tmp_path, option):
    paths = write_sweep(tmp_path)
    paths.report.write_text("the old one")
    for folder in (paths.folder, tmp_path):
        folder.chmod(0o555)
    try:
        done = run_as_user("flexres_tune.report", "--results", tmp_path, *option)
    finally:
        for folder in (paths.folder, tmp_path):
            folder.chmod(0o755)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr
    assert paths.report.read_text() == "the old one"
    assert [path.name for path in paths.folder.iterdir() if path.is_file()] == ["report.html"]


def test_report_is_whole_while_rows_arrive_and_parts_are_merged(tmp_path):
    paths, is_over = SweepPaths(tmp_path, "demo"), threading.Event()

    def run_sweep():
        with SweepWriter(paths) as writer:
            for seed in range(1000):
                if is_over.is_set():
                    break
                config = make_config(seed=seed, lr=0.1 / (1 + seed % 5))
                writer.add_epoch(make_epoch(config.trial_id))
                writer.add_trial(make_trial(config), config)
                writer.flush()
                if seed % 7 == 0:
                    writer.compact()

    driver = threading.Thread(target=run_sweep)
    driver.start()
    try:
        while not paths.trials.is_dir():
            pass
        for _ in range(6):
            html = write_report(open_results(tmp_path), "demo").read_text()
            assert html.endswith("</html>\n") and "<h2>How to reproduce it</h2>" in html
    finally:
        is_over.set()
        driver.join()
    assert [path.name for path in paths.folder.iterdir() if path.is_file()] == ["report.html"]
