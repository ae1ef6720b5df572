"""docs/extend.md as it is written: its files keep their contracts, and its sweep trains."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from flexres_tune.datasets import describe_dataset
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
    assert len(trials) == 4 and len(spec.code) == 4
    (trial,) = [t for t in trials if t.varied.get("optimizer.betas") == [0.95, 0.98]]
    job = TrialJob(trial.config.trial_id, trial.config.to_dict(), None, 0.0, num_threads=1)
    reports = list(run_job(job))
    assert [report.error for report in reports] == [None, None]
    assert reports[-1].metrics.train_loss < reports[0].metrics.train_loss


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
