"""Export: the right trial is chosen, and its files give the logits of the trained model."""

import contextlib
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import pytest
import torch
from helpers.command import invoke
from helpers.factories import make_epoch, make_sweep, make_trial
from helpers.permissions import fill_disk, run_as_user
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from flexres_tune.datasets import load_dataset, load_trial_data
from flexres_tune.errors import FlexResError, ResultsError
from flexres_tune.export.__main__ import app
from flexres_tune.export.trained import config_of, find_best, train_command
from flexres_tune.predictions.classes import class_accuracies, confusions
from flexres_tune.records import TrialStatus
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import TrialConfig
from flexres_tune.sweep.worker import TrialJob, run_job
from flexres_tune.train import app as train_app
from flexres_tune.training import Checkpointer, choose_execution, fit
from flexres_tune.training.checkpoint import KEYS, save_checkpoint
from flexres_tune.trial_options import read_config

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def make(lr, seed=0, **values):
    return TrialConfig.model_validate(
        {"model": "tiny", "dataset": "digits", "epochs": 1, "num_train_images": 128, "lr": lr, "seed": seed} | values
    )


def write(paths, config, accuracy, stage="screen", status=TrialStatus.COMPLETED):
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(config, status, accuracy, stage=stage, last_val_accuracy=accuracy), config)


@pytest.fixture
def paths(tmp_path):
    return SweepPaths(tmp_path / "results", "demo")


@pytest.fixture
def run(paths, tmp_path):
    def run():
        arguments = ["best", "--sweep", "demo", "--out", str(tmp_path / "out"), "--results", str(paths.root)]
        return CliRunner().invoke(app, arguments, catch_exceptions=True)

    return run


@pytest.mark.parametrize(
    "changes", [{}, {"normalize": False, "model": {"blocks": [1], "channels": [8], "pool_size": 8}}]
)
def test_exported_files_give_the_trained_models_logits(paths, run, tmp_path, changes):
    for package in ("safetensors", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnxruntime

    config = make(0.01, **changes)
    data = load_dataset("digits", torch.device("cpu"))
    checkpointer = Checkpointer(paths.checkpoint(config.trial_id))
    (metrics,) = fit(config, data, choose_execution(config, torch.device("cpu")), checkpointer)
    write(paths, config, metrics.val_accuracy)
    result = run()
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    assert (
        f"validation accuracy {metrics.val_accuracy:.2%} here, {metrics.val_accuracy:.2%} in the tables"
        in result.output
    )
    images = data.test.images[:7].float() / 255  # another number of images than was exported with
    with torch.inference_mode():
        logits = runpy.run_path(str(out / "load_model.py"))["load_model"]()(images)
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    assert abs(session.run(["logits"], {"images": images.numpy()})[0] - logits.numpy()).max() < 1e-4
    description = json.loads((out / "config.json").read_text())
    assert TrialConfig.model_validate(description["training"]) == config and description["trial_id"] == config.trial_id
    assert len((out / "load_model.py").read_text().splitlines()) <= 12
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == list(data.class_names)
    assert json.loads(metadata["mean"]) == description["mean"] and json.loads(metadata["std"]) == description["std"]
    assert_loads_without_this_project(out, images, logits)


def test_classes_and_confusion_are_scikit_learns_on_the_exported_models_own_predictions(paths, run, tmp_path):
    """The images go through the written file, the tables through the trial's last evaluation."""
    metrics_of_sklearn = pytest.importorskip("sklearn.metrics")
    pytest.importorskip("onnxruntime")
    config = make(0.05, epochs=2)
    with SweepWriter(paths) as writer:
        job = TrialJob(
            config.trial_id, config.to_dict(), str(paths.checkpoint(config.trial_id)), 10.0, 1, with_predictions=True
        )
        for report in run_job(job):
            writer.add_predictions(report.predictions, report.labels)
        last = report.metrics.val_accuracy
        writer.add_trial(make_trial(config, best=last, last_val_accuracy=last), config)
    assert run().exit_code == 0
    data = load_trial_data(config, torch.device("cpu"))
    model = runpy.run_path(str(tmp_path / "out" / "load_model.py"))["load_model"](tmp_path / "out")
    results = open_results(paths.root)
    for split in (data.val, data.test):
        name = "val" if split is data.val else "test"
        with torch.inference_mode():
            predicted = model(split.images.float() / 255).argmax(1).numpy()
        expected = metrics_of_sklearn.confusion_matrix(split.labels.numpy(), predicted, labels=range(10))
        cells = {(row.label, row.predicted): row.count for row in confusions(results, "demo", config.config_id, name)}
        assert cells == {(i, j): expected[i, j] for i in range(10) for j in range(10)}
        recalls = metrics_of_sklearn.recall_score(split.labels.numpy(), predicted, labels=range(10), average=None)
        rows, _ = class_accuracies(results, "demo", name)
        assert [row.class_accuracy for row in rows] == pytest.approx(list(recalls), abs=1e-12)
        assert rows[0].accuracy == pytest.approx(metrics_of_sklearn.accuracy_score(split.labels.numpy(), predicted))


def test_best_is_the_final_run_of_the_leader_if_there_is_one(paths, run, tmp_path):
    pytest.importorskip("onnxruntime")
    won, final = make(0.01, 1000), make(0.01, val_split="none")
    write(paths, won, 0.9, stage="confirm")
    data = load_trial_data(final, torch.device("cpu"))
    checkpointer = Checkpointer(paths.checkpoint(final.trial_id))
    (metrics,) = fit(final, data, choose_execution(final, torch.device("cpu")), checkpointer)
    with SweepWriter(paths) as writer:
        values = {"last_val_accuracy": None, "best_val_accuracy": None, "test_accuracy": metrics.test_accuracy}
        writer.add_trial(make_trial(final, best=None, stage="final", **values), final)
    result = run()
    assert result.exit_code == 0, result.output
    accuracy = f"{metrics.test_accuracy:.2%}"
    assert f"trial {final.trial_id} (final)" in result.output
    assert f"test accuracy {accuracy} here, {accuracy} in the tables" in " ".join(result.output.split())
    description = json.loads((tmp_path / "out" / "config.json").read_text())
    assert description["stage"] == "final" and description["training"]["val_split"] == "none"


ISOLATED = """
import importlib.abc, runpy, sys
class OnlyThese(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, *ALLOWED}:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)
sys.meta_path.insert(0, OnlyThese())
import torch
images, logits = torch.load("expected.pt")
assert (runpy.run_path("load_model.py")["load_model"]()(images) - logits).abs().max() < 1e-5
"""


def assert_loads_without_this_project(out, images, logits):
    """load_model.py gives the logits in a process that can import torch, safetensors, what they need, and no more."""
    torch.save((images, logits), out / "expected.pt")
    needed = closure("torch") | closure("safetensors") | {"numpy"}
    allowed = {name for name, homes in packages_distributions().items() if needed & set(map(canonicalize_name, homes))}
    if (out / "code").is_dir():  # a model of the user's own
        allowed |= {path.stem for path in (out / "code").iterdir()}
    code = f"ALLOWED = {sorted(allowed)!r}\n{ISOLATED}"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def closure(distribution):
    """Canonical names of a distribution and of all that it requires and that is installed."""
    found, waiting = set(), [distribution]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            with contextlib.suppress(PackageNotFoundError):
                waiting += [Requirement(line).name for line in requires(name) or [] if "extra ==" not in line]
    return found


def test_any_trial_is_exported_by_its_id(trained, paths, tmp_path):
    other = make(0.5)
    write(paths, other, 0.99)  # better, but without its weights
    arguments = ["--out", tmp_path / "out", "--results", paths.root]
    assert invoke(app, make(0.01).trial_id, *arguments).exit_code == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["trial_id"] == make(0.01).trial_id
    done = invoke(app, other.trial_id, *arguments)
    assert done.exit_code == 2 and "python -m flexres_tune.train" in done.output
    assert "no trial" in invoke(app, "no-such-trial", *arguments).output
    assert "needs `best --sweep NAME`" in invoke(app, "best", *arguments).output


def test_trial_with_own_code_is_exported_with_it(paths, tmp_path):
    for package in ("safetensors", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    (tmp_path / "export_nets.py").write_text(
        "from torch import nn\n\ndef build(num_classes, width):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(width, num_classes))\n"
    )
    texts = {"model": str(tmp_path / "export_nets.py:build"), "dataset": "digits", "epochs": "1"}
    config, _ = read_config(texts, 10_000, ["model.width=4"])
    data = load_dataset("digits", torch.device("cpu"))
    checkpointer = Checkpointer(paths.checkpoint(config.trial_id))
    (metrics,) = fit(config, data, choose_execution(config, torch.device("cpu")), checkpointer)
    write(paths, config, metrics.val_accuracy)
    out = tmp_path / "out"
    arguments = [config.trial_id, "--out", out, "--results", paths.root]
    assert "export executes" in invoke(app, *arguments).output and not out.exists()
    done = invoke(app, *arguments, "--code", tmp_path)
    assert done.exit_code == 0, done.output
    images = data.test.images[:7].float() / 255
    with torch.inference_mode():
        logits = runpy.run_path(str(out / "load_model.py"))["load_model"](out)(images)
    assert_loads_without_this_project(out, images, logits)
    (tmp_path / "export_nets.py").write_text("raise SystemExit('edited')")
    assert "was changed since" in invoke(app, *arguments, "--code", tmp_path).output


def test_large_logits_may_differ_in_their_last_digits(paths, tmp_path):
    """A network that was trained badly has logits of tens of thousands, of which float32 has seven digits."""
    for package in ("safetensors", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    (tmp_path / "large_nets.py").write_text(
        "from torch import nn\n\nclass Large(nn.Module):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.layers = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, num_classes))\n"
        "    def forward(self, x):\n"
        "        return 1e5 * self.layers(x)\n"
    )
    texts = {"model": str(tmp_path / "large_nets.py:Large"), "dataset": "digits", "epochs": "1", "lr": "1e-12"}
    config, _ = read_config(texts, 10_000, [])
    checkpointer = Checkpointer(paths.checkpoint(config.trial_id))
    data = load_dataset("digits", torch.device("cpu"))
    (metrics,) = fit(config, data, choose_execution(config, torch.device("cpu")), checkpointer)
    write(paths, config, metrics.val_accuracy)
    arguments = [config.trial_id, "--out", tmp_path / "out", "--results", paths.root, "--code", tmp_path]
    done = invoke(app, *arguments)
    assert done.exit_code == 0, done.output


def test_checkpoint_with_code_in_it_is_not_run_and_nothing_is_written(paths, run, tmp_path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    config = make(0.01)
    write(paths, config, 0.9)
    paths.checkpoints.mkdir(exist_ok=True)
    torch.save({"format": 1, "trial_id": config.trial_id, "model": Code()}, paths.checkpoint(config.trial_id))
    result = run()
    assert isinstance(result.exception, FlexResError) and "is damaged" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "executed").exists() and not (tmp_path / "out").exists()


@pytest.fixture
def trained(paths):
    """A sweep whose only trial has its weights."""
    for package in ("safetensors", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    config = make(0.01)
    data = load_dataset("digits", torch.device("cpu"))
    checkpointer = Checkpointer(paths.checkpoint(config.trial_id))
    (metrics,) = fit(config, data, choose_execution(config, torch.device("cpu")), checkpointer)
    write(paths, config, metrics.val_accuracy)


def test_export_on_a_full_disk_leaves_the_old_files_and_nothing_else(trained, paths, small_disk):
    out = small_disk / "out"
    arguments = ["best", "--sweep", "demo", "--out", out, "--results", paths.root]
    assert invoke(app, *arguments).exit_code == 0
    old = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(old) == ["config.json", "load_model.py", "model.onnx", "model.safetensors", "network.py"]
    (out / "config.json").write_text("{}")  # so that a file that is replaced would be seen
    old["config.json"] = b"{}"
    fill_disk(small_disk, leave=len(old["model.safetensors"]) + 50_000)  # room for the weights, not for model.onnx
    done = invoke(app, *arguments)
    assert done.exit_code == 2
    assert done.output == f"{out}: cannot be written: No space left on device; free some space\n"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == old


def test_export_into_a_folder_that_may_not_be_written_is_one_line(trained, paths, tmp_path):
    out = tmp_path / "out"
    out.mkdir(mode=0o555)
    done = run_as_user("flexres_tune.export", "best", "--sweep", "demo", "--out", out, "--results", paths.root)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{out}: cannot be written: Permission denied")
    assert list(out.iterdir()) == []


def test_the_seed_with_the_lowest_loss_is_exported_if_the_sweep_ranks_by_loss(paths):
    losses = {make(0.1): (0.99, 0.5), make(0.01): (0.95, 0.2), make(0.01, seed=1): (0.9, 0.1)}
    for config, (accuracy, loss) in losses.items():
        write(paths, config, accuracy)
        with SweepWriter(paths) as writer:
            writer.add_epoch(make_epoch(config.trial_id, val_accuracy=accuracy, val_loss=loss))
        paths.checkpoints.mkdir(exist_ok=True)
        paths.checkpoint(config.trial_id).touch()
    write_plan(paths, make_plan(make_sweep(metric={"name": "val_loss"}), [], "the command", {}))
    assert find_best(open_results(paths.root), "demo").config == make(0.01, seed=1)


@pytest.mark.parametrize("weights", [{"stem.0.weight": torch.zeros(1)}, [1, 2]])
def test_weights_of_another_model_are_refused_in_one_line(paths, run, weights):
    config = make(0.01)
    write(paths, config, 0.9)
    payload = {**dict.fromkeys(KEYS), "trial_id": config.trial_id, "epoch": 1, "model": weights}
    save_checkpoint(paths.checkpoint(config.trial_id), payload)
    message = str(run().exception)
    assert "its weights must fit the model, but do not" in message and "\n" not in message


def test_confirmed_is_exported_before_screened_and_the_better_seed_first(paths):
    for config, accuracy, stage in [
        (make(0.1), 0.99, "screen"),
        (make(0.01), 0.95, "screen"),
        (make(0.01, seed=10), 0.94, "confirm"),
        (make(0.01, seed=11), 0.96, "confirm"),
    ]:
        write(paths, config, accuracy, stage)
        paths.checkpoints.mkdir(exist_ok=True)
        paths.checkpoint(config.trial_id).touch()
    assert find_best(open_results(paths.root), "demo").config == make(0.01, seed=11)
    paths.checkpoint(make(0.01, seed=11).trial_id).unlink()
    assert find_best(open_results(paths.root), "demo").config == make(0.01, seed=10)


def test_missing_weights_are_not_replaced_by_the_second_best_and_the_command_makes_them(paths, run):
    config = make(0.02, seed=3, augmentation=["crop"], epochs=2)
    write(paths, config, 0.9)
    write(paths, make(0.1), 0.8)
    paths.checkpoints.mkdir(exist_ok=True)
    paths.checkpoint(make(0.1).trial_id).touch()
    result = run()
    error = str(result.exception)
    assert (
        isinstance(result.exception, FlexResError)
        and "This command trains them:\npython -m flexres_tune.train " in error
    )
    words = shlex.split(error.splitlines()[-1])[3:]
    done = CliRunner().invoke(train_app, words)
    assert done.exit_code == 0 and find_best(open_results(paths.root), "demo").config == config


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": "adamw", "weight_decay": 0.0, "augmentation": [], "mixup_alpha": 0.2, "lr_schedule": "step"},
        {"model": {"blocks": [1], "channels": [8], "pool_size": 8, "kernel_size": [[1, 3]], "head": [16]}},
        {"model": {"blocks": [2, 1], "channels": [8, 16], "block": "preact"}, "normalize": False, "momentum": 0.5},
    ],
)
def test_train_command_names_the_same_trial(values, monkeypatch):
    config = make(0.3, seed=7, **values)
    words = shlex.split(train_command(config, "x.pt"))[3:]
    trained = []
    monkeypatch.setattr("flexres_tune.train.run_trial", lambda config, *_: trained.append(config) or 0)
    result = CliRunner().invoke(train_app, words)
    assert result.exit_code == 0, result.exception
    assert trained == [config]


def test_row_gives_its_configuration_back_or_is_refused(paths):
    config = make(0.3, seed=7, augmentation=["crop", "flip"], optimizer="adam")
    write(paths, config, 0.9)
    (row,) = open_results(paths.root).trials("demo").to_pylist()
    assert config_of(row) == config
    with pytest.raises(ResultsError, match="must give its own id"):
        config_of(row | {"lr": 0.5})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": [0]}, "model.blocks[0]: must be >= 1, but got 0"),
        ({"optimizer": "lion\x1b"}, r"optimizer: must be sgd, .*, but got lion\\x1b"),
        ({"lr": float("nan")}, "lr: must be"),
        ({"seed": -1}, "seed: must be >= 0, but got -1"),
    ],
)
def test_row_that_is_no_configuration_is_refused_in_one_line(paths, change, message):
    write(paths, make(0.3), 0.9)
    (row,) = open_results(paths.root).trials("demo").to_pylist()
    with pytest.raises(ResultsError) as caught:
        config_of(row | change)
    assert re.search(message.replace("[0]", r"\[0\]"), str(caught.value))
    assert str(caught.value).startswith(f"trial {row['trial_id']}: its columns must be a configuration")
    assert str(caught.value).isprintable() and "pydantic" not in str(caught.value)


def test_missing_package_is_named_with_the_line_that_installs_it(paths, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert str(run().exception).endswith("not installed: onnx; pip install 'flexres_tune[export]'")


def test_sweep_that_has_not_ended_is_refused(paths, run):
    write(paths, make(0.1), 0.5, status=TrialStatus.STOPPED)
    assert "demo: a configuration must have run to its end to be exported, but none has" in str(run().exception)
