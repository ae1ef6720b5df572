"""The report command: which files it writes, and how it refuses wrong options."""

import re
import sys

import pytest
from helpers.command import invoke
from helpers.factories import make_trial

from flexres_tune.report.__main__ import app
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import TrialConfig


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "results"
    for name in ("one", "two"):
        config = TrialConfig.model_validate({"model": "tiny", "dataset": "digits"})
        with SweepWriter(SweepPaths(root, name)) as writer:
            writer.add_trial(make_trial(config), config)
    return root


def report(*arguments):
    return invoke(app, *arguments)


def test_report_is_written_for_every_sweep(folder):
    done = report("--results", folder)
    assert done.exit_code == 0
    assert done.output.splitlines() == [f"{folder}/one/report.html", f"{folder}/two/report.html"]
    assert (folder / "two" / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "values",
    [
        {"augmentation": ["crop", "trivialaugment"]},
        {"model": {"blocks": [1, 1], "channels": [8, 16], "kernel_size": [3, 5], "pool_size": 1}},
        {"val_split": "by_seed", "num_train_images": 500, "warmup_epochs": 1.0, "normalize": False, "compile": "on"},
    ],
    ids=" ".join,
)
def test_report_shows_a_sweep_over_fields_that_are_not_numbers(values, tmp_path):
    with SweepWriter(SweepPaths(tmp_path, "one")) as writer:
        for varied in ({}, values):
            for seed in (0, 1):
                config = TrialConfig.model_validate({"model": "tiny", "dataset": "digits", "seed": seed, **varied})
                writer.add_trial(make_trial(config), config)
    assert report("--results", tmp_path).exit_code == 0
    assert "<table" in (tmp_path / "one" / "report.html").read_text()


def test_path_of_the_index_is_printed(folder):
    assert report("--results", folder, "--index").output.strip() == f"{folder}/index.html"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--png", "x"], "--png needs one sweep, but .* has one, two; add --sweep NAME"),
        (["--watch"], "--watch needs one sweep"),
        (["--watch", "--index"], "--watch and --index exclude each other; give only one of them"),
        (["--port", "8000"], "--port has no effect without --watch"),
        (["--index", "--sweep", "one"], "--index lists all sweeps, but --sweep names one"),
        (["--sweep", "tow"], "no sweep 'tow'; did you mean two"),
        (["--sweep", "one", "--png", "x"], "nothing to plot yet"),
        (["one"], "must have no further word, but got 'one'; a sweep is named by --sweep: --sweep one"),
    ],
)
def test_message_about_wrong_options_names_what_to_do(folder, arguments, message, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    done = report("--results", folder, *arguments)
    assert done.exit_code == 2
    assert re.search(message, done.output), done.output


def test_message_names_the_extra_if_kaleido_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    done = report("--results", folder, "--sweep", "one", "--png", "x")
    assert done.exit_code == 2
    assert "pip install 'flexres_tune[png]'" in done.output


def test_message_names_the_package_if_no_browser_is_installed(folder, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    done = report("--results", folder, "--sweep", "one", "--png", "x")
    assert done.exit_code == 2
    assert "apt-get install chromium" in done.output
