"""Sweep and Sweeps: what a person gets from a results folder in Python and in a notebook."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import flexres_tune
from flexres_tune.datasets import load_dataset
from flexres_tune.errors import ResultsError
from flexres_tune.results.writer import SweepWriter
from flexres_tune.training import Checkpointer, choose_execution, fit

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def sweep(paths, make_config, make_trial, make_epoch, make_decision):
    """Two learning rates on two seeds, and a trial that was stopped."""
    values = {(0.1, 0): 0.91, (0.1, 1): 0.92, (0.01, 0): 0.81, (0.01, 1): 0.80}
    with SweepWriter(paths) as writer:
        for (lr, seed), accuracy in values.items():
            config = make_config(lr=lr, seed=seed)
            writer.add_epoch(make_epoch(config.trial_id, 1, val_accuracy=accuracy))
            writer.add_trial(make_trial(config, best=accuracy), config)
        stopped = make_config(lr=1.0)
        writer.add_decision(make_decision(stopped.trial_id))
        writer.add_trial(make_trial(stopped, "stopped", 0.1, device=HOSTILE), stopped)
    return flexres_tune.open_results(paths.root)["demo"]


def test_import_takes_no_library_and_offers_the_names():
    code = (
        "import sys, flexres_tune; print(sorted({'torch', 'ray', 'pyarrow', 'pydantic'} & set(sys.modules)), "
        "set(flexres_tune.__all__) <= set(dir(flexres_tune)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True\n"
    for name in flexres_tune.__all__:
        assert getattr(flexres_tune, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'run_sweeps'"):
        flexres_tune.run_sweeps  # noqa: B018


def test_names_that_are_imported_late_have_types():
    tree = ast.parse(Path(flexres_tune.__file__).read_text())
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        for alias in node.names
    }
    assert set(typed) == set(flexres_tune.__all__)
    for name, module in typed.items():
        assert getattr(flexres_tune, name) is getattr(sys.modules[module], name)


def test_tables_are_those_of_the_sweep(sweep):
    assert sweep.trials().num_rows == 5
    assert sweep.epochs().num_rows == 4
    assert sweep.decisions()["action"].to_pylist() == ["stop"]
    assert sweep.predictions().num_rows == 0
    assert sweep.sql("SELECT count(*) AS n FROM trials WHERE status = 'stopped'").to_pylist() == [{"n": 1}]
    assert len(sweep.trials().to_pandas()) == 5


def test_leaderboard_comparison_and_answer_agree(sweep):
    board = sweep.leaderboard().to_pylist()
    assert [row["lr"] for row in board[:2]] == [0.1, 0.01]
    effects = {row["lr"]: row["best_val_accuracy_mean"] for row in sweep.compare("lr").to_pylist()}
    assert effects[0.1] == board[0]["best_val_accuracy_mean"] == pytest.approx(0.915)
    assert sweep.answer().sentence.startswith("lr=0.1 leads with 91.5")
    assert sweep.answer().sentence in repr(sweep)


def test_unknown_names_are_refused_as_by_the_command(sweep, paths):
    with pytest.raises(ResultsError, match="no sweep 'demmo'; did you mean demo"):
        flexres_tune.open_results(paths.root)["demmo"]
    with pytest.raises(ResultsError, match="optimizer"):
        sweep.compare("optimiser")
    with pytest.raises(ResultsError, match="no trial nonsense"):
        sweep.load_model("nonsense")


def test_sweeps_of_a_folder_are_found_by_name(sweep, paths):
    sweeps = flexres_tune.open_results(str(paths.root))
    assert list(sweeps) == ["demo"] and len(sweeps) == 1 and "demo" in sweeps and "other" not in sweeps
    assert sweeps.trials().num_rows == 5
    assert sweeps["demo"].folder == paths.folder


def test_notebooks_show_the_answer_and_the_board_escaped(sweep, paths):
    html = sweep._repr_html_()
    assert html.count("<tr") == 4 and "91.5 ± 0.7 %" in html and "lr=0.1 leads" in html
    assert HOSTILE not in html and "<script" not in html
    assert "demo" in flexres_tune.open_results(paths.root)._repr_html_()


def test_best_trial_is_a_row_and_its_network_takes_images(paths, make_config, make_trial):
    config = make_config(epochs=1, num_train_images=128)
    data = load_dataset("digits", torch.device("cpu"))
    checkpointer = Checkpointer(paths.checkpoint(config.trial_id))
    (metrics,) = fit(config, data, choose_execution(config, torch.device("cpu")), checkpointer)
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(config, best=metrics.val_accuracy), config)
    sweep = flexres_tune.open_results(paths.root)["demo"]
    best = sweep.best()
    assert best["trial_id"] == config.trial_id
    images = data.val.images.float() / 255
    for model in (sweep.load_model(), sweep.load_model(best), sweep.load_model(config.trial_id)):
        with torch.inference_mode():
            accuracy = (model(images).argmax(1) == data.val.labels).float().mean().item()
        assert accuracy == pytest.approx(metrics.val_accuracy, abs=0.005)


def test_sweep_whose_weights_are_gone_names_the_command_that_trains_them(sweep):
    assert sweep.best()["lr"] == 0.1
    with pytest.raises(ResultsError, match="python -m flexres_tune.train"):
        sweep.load_model()
