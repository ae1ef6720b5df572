"""A stranger's results whose rows and plan name code: every command that reads them imports none of it."""

import json
import sys

import pytest
from helpers.command import invoke
from helpers.factories import make_epoch, make_trial

from flexres_tune.export.__main__ import app as export_app
from flexres_tune.query.__main__ import app as query_app
from flexres_tune.report.__main__ import app as report_app
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec.own_code.references import read_references
from flexres_tune.spec.trial_values import build_config

NAMES = {
    "model": "evil_code.py:build",
    "optimizer": "evil_code.py:Optimizer",
    "lr_schedule": "evil_code.py:schedule",
    "dataset": "evil_code.py:load",
    "augmentation": ["evil_code.py:augment"],
}
EVIL = "from pathlib import Path\nPath('executed').write_text('')\nbuild = Optimizer = schedule = load = augment = metric = print\n"
EXPORT = (export_app, "best", "--sweep", "stranger", "--out", "out")
COMMANDS = [
    (query_app, "leaderboard"),
    (query_app, "compare", "model.width"),
    (query_app, "status"),
    (query_app, "answer"),
    (query_app, "classes"),
    (query_app, "hardest"),
    (query_app, "diff", "stranger", "stranger"),
    (query_app, "sql", "SELECT * FROM trials"),
    (query_app, "sql", "SELECT * FROM epochs"),
    (report_app,),
    EXPORT,
]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Rows of own code whose file lies where the rows say, and in the working directory, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_code.py").write_text(EVIL)
    texts = [*(value for value in NAMES.values() if isinstance(value, str)), *NAMES["augmentation"]]
    code, problems = read_references([((key,), "model", key) for key in texts], tmp_path, allow_any=False)
    assert not problems
    paths = SweepPaths(tmp_path / "results", "stranger")
    with SweepWriter(paths) as writer:
        for width in (4, 8):
            config, problems = build_config({**NAMES, "model.width": width, "epochs": 1}, 0, code)
            assert not problems
            metrics = json.dumps({"metric": 0.5})
            writer.add_epoch(make_epoch(config.trial_id, 1, metrics=metrics))
            writer.add_trial(make_trial(config, metrics=metrics), config)
            paths.checkpoint(config.trial_id).parent.mkdir(exist_ok=True)
            paths.checkpoint(config.trial_id).write_bytes(b"weights")
    spec = {"name": "stranger", "base": NAMES, "metrics": ["evil_code.py:metric"], "metric": {"name": "metric"}}
    paths.plan.write_text(json.dumps({"spec": spec, "trials": [], "command": "x"}))
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[1:3]) or "report")
def test_no_command_imports_code_that_rows_name(results, command):
    app, *arguments = command
    done = invoke(app, *arguments, "--results", results / "results")
    assert "Traceback" not in done.output and "Usage:" not in done.output
    assert not (results / "executed").exists() and "evil_code" not in sys.modules


def test_export_says_which_option_it_needs_to_run_code(results):
    done = invoke(export_app, *EXPORT[1:], "--results", results / "results")
    assert done.exit_code == 2 and "--code" in done.stderr and len(done.stderr.splitlines()) == 1
