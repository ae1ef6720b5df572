"""docs/extend.md as it is written: its files keep their contracts, and its sweep trains."""

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from flexres_tune.analysis.leaderboard import leaderboards
from flexres_tune.datasets import describe_dataset, load_dataset
from flexres_tune.results import open_results
from flexres_tune.spec import expand_trials, load_sweep
from flexres_tune.spec.own_code.source import CodeName, read_source
from flexres_tune.sweep.worker import TrialJob, run_job
from flexres_tune.training.contracts import check_contract, guess_field

PAGE = (Path(__file__).parents[1] / "docs" / "extend.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
CODE = {
    "model": "my_nets.py:build",
    "optimizer": "my_optim.py:Lion",
    "lr_schedule": "my_schedules.py:trapezoid",
    "augmentation": "my_aug.py:solarize",
    "metrics": "my_metrics.py:top5",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def code_of(folder, field, reference):
    return CodeName(reference, read_source(reference, field, folder, allow_any=False))


@pytest.mark.parametrize("field", CODE)
def test_each_file_keeps_its_contract(folder, field):
    code = code_of(folder, field, CODE[field])
    assert guess_field(code) == field
    assert [f"{each.rule}: {each.problem}" for each in check_contract(field, code, {}) if each.problem] == []


def test_the_sweep_trains_with_all_of_them(folder, monkeypatch):
    monkeypatch.chdir(folder)
    spec = load_sweep(str(folder / "own.yaml"), describe=describe_dataset)
    trials = expand_trials(spec, describe_dataset)
    assert len(trials) == 4 and len(spec.code) == 5
    (trial,) = [t for t in trials if t.varied.get("optimizer.betas") == [0.95, 0.98]]
    job = TrialJob(trial.config.trial_id, trial.config.to_dict(), None, 0.0, num_threads=1, metrics=spec.metrics)
    reports = list(run_job(job))
    assert [report.error for report in reports] == [None, None]
    assert reports[-1].metrics.train_loss < reports[0].metrics.train_loss
    assert 0 <= reports[-1].metrics.value("ece") <= 1 and reports[-1].metrics.value("top5") > 0.4


def test_the_data_set_is_read(folder, monkeypatch):
    """`datasets` itself is not installed here: a stand-in gives what its load_from_disk would."""
    images = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3), np.uint8)

    class Split(dict):
        features = {"label": types.SimpleNamespace(names=["cat", "dog"])}

        def with_format(self, kind):
            return self

    split = Split(image=list(images), label=np.arange(20) % 2)
    stand_in = types.ModuleType("datasets")
    stand_in.load_from_disk = lambda path: {"train": split, "test": split}
    monkeypatch.setitem(sys.modules, "datasets", stand_in)
    shape = describe_dataset(code_of(folder, "dataset", "my_data.py:load"))
    assert (shape.image_size, shape.num_train, shape.num_val, shape.num_test) == (8, 18, 2, 20)


def test_the_data_set_is_read_as_the_library_writes_it(folder):
    datasets = pytest.importorskip("datasets")
    if not hasattr(datasets, "Dataset"):
        pytest.skip("a folder of these tests has the library's name, and the library is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    pixels = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3), np.uint8)
    rows = {"image": list(pixels), "label": [i % 2 for i in range(20)]}
    split = datasets.Dataset.from_dict(rows, features)
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(str(folder / "my_images"))
    data = load_dataset(code_of(folder, "dataset", "my_data.py:load"), torch.device("cpu"))
    assert (len(data.train), len(data.val), data.class_names) == (18, 2, ("cat", "dog"))
    assert np.array_equal(data.test.images[4].permute(1, 2, 0).numpy(), pixels[4])


DIGITS = """
import numpy as np
from sklearn.datasets import load_digits

def load():
    digits = load_digits()
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)
    test, train = slice(0, 300), slice(300, None)
    return {
        "train_images": images[train], "train_labels": digits.target[train],
        "test_images": images[test], "test_labels": digits.target[test],
    }
"""


@pytest.mark.slow
def test_a_sweep_of_own_code_only_runs_on_ray(folder):
    """Model, optimizer, schedule, augmentation, data and the metric that ranks and stops: in an empty folder, by Ray."""
    (folder / "my_digits.py").write_text(DIGITS)
    own = [
        "base.dataset=my_digits.py:load",
        *("base.optimizer=my_optim.py:Lion", "base.lr=1e-3", "base.epochs=4", "base.precision=fp32"),
        "parameters=[{optimizer.betas: {values: [[0.9, 0.99], [0.95, 0.98]]}, model.width: {values: [4, 16, fit]}}]",
        *(
            "metric={name: top5}",
            "early_terminate={type: asha, variant: stopping, grace_period: 1, reduction_factor: 2}",
        ),
    ]
    options = [part for value in own for part in ("--set", value)]
    package = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": package, "FLEXRES_TUNE_DATA": str(folder / "cache")}

    def command(name, *arguments):
        words = [sys.executable, "-m", f"flexres_tune.{name}", *arguments]
        return subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=True
        )

    printed = command("run", "own.yaml", *options).stdout
    assert "images: 1,348 training, 149 validation, 300 test images" in printed
    assert "imports code: my_metrics.py:top5" in printed
    results = open_results(folder / "results")
    trials, epochs = results.trials("own"), results.epochs("own")
    assert set(trials["status"].to_pylist()) <= {"completed", "stopped"} and trials.num_rows == 6
    assert all(0 < value <= 1 for value in epochs["top5"].to_pylist())
    assert trials["top5"].null_count == trials["ece"].null_count == 0
    decisions = results.decisions("own").to_pylist()
    curves = {(row["trial_id"], row["epoch"]): row["top5"] for row in epochs.to_pylist()}
    assert decisions and all(row["value"] == curves[row["trial_id"], row["epoch"]] for row in decisions)
    (board,) = leaderboards(results, "own")
    means = [row.metric_mean for row in board.ranked]
    assert board.metric.name == "top5" and means == sorted(means, reverse=True)
    assert "top-5 accuracy" in (folder / "results" / "own" / "report.html").read_text()
    assert "nothing to do" in command("run", "own.yaml", *options).stdout
    assert "model.width" in command("query", "compare", "model.width").stdout
    found = command("query", "sql", "SELECT top5, ece FROM epochs").stdout
    assert "%" in found


BROKEN = """
import torch
from torch import nn

class Unused(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.used, self.unused = nn.Linear(3 * 32 * 32, num_classes), nn.Linear(3, 3)

    def forward(self, x):
        return self.used(x.flatten(1)) + (0.0 if x.sum().item() > 0 else 1.0)

def global_noise(images, generator):
    images += torch.rand_like(images)
    return images

class Deaf(torch.optim.Optimizer):
    def __init__(self, parameters, lr, weight_decay):
        super().__init__(parameters, {"lr": lr})
        self.rate = lr

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            p.sub_(self.rate * p.grad)

def negative(step, num_steps):
    return 1 - 2 * step / num_steps
"""


@pytest.mark.parametrize(
    ("field", "name", "rules"),
    [
        ("model", "Unused", ["gradients reach all parameters", "does not let the host wait for the device"]),
        (
            "augmentation",
            "global_noise",
            ["keeps shape, type and the range [0, 1]", "does not modify its input", "takes all random numbers"],
        ),
        ("optimizer", "Deaf", ["reads the learning rate from param_groups"]),
        ("lr_schedule", "negative", ["gives finite factors of at least 0"]),
    ],
)
def test_broken_contracts_are_found(tmp_path, field, name, rules):
    (tmp_path / "broken_code.py").write_text(BROKEN)
    checks = check_contract(field, code_of(tmp_path, field, f"broken_code.py:{name}"), {})
    broken = [each.rule for each in checks if each.problem]
    assert len(broken) == len(rules) and all(map(str.startswith, broken, rules)), checks


def test_random_numbers_of_the_process_do_not_depend_on_counting(folder):
    before = torch.get_rng_state()
    load_sweep(str(folder / "own.yaml"), describe=describe_dataset)
    assert torch.equal(before, torch.get_rng_state())
