"""Networks of the user's own that cannot run in channels-last, as many published ones, train in the default format."""

import sys

import pytest
import torch

from flexres_tune.datasets import load_trial_data
from flexres_tune.spec.own_code.source import read_source
from flexres_tune.spec.trial_values import build_config
from flexres_tune.training import choose_execution, fit
from flexres_tune.training.contracts import check_contract
from flexres_tune.training.execution import list_options
from flexres_tune.training.memory_format import runs_channels_last

CPU = torch.device("cpu")

NETS = """
import torch
from torch import nn

class LeNet(nn.Module):
    flatten = staticmethod(lambda x: x.view(x.size(0), -1))

    def __init__(self, num_classes, image_size):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * (image_size // 2) ** 2, num_classes)

    def forward(self, x):
        return self.fc(self.flatten(torch.max_pool2d(self.conv(x).relu(), 2)))

class Reshaped(LeNet):
    flatten = staticmethod(lambda x: x.reshape(x.size(0), -1))
"""


@pytest.fixture
def make_config(tmp_path):
    def make(name, **fields):
        (tmp_path / "view_nets.py").write_text(NETS)
        reference = f"view_nets.py:{name}"
        code = {reference: read_source(reference, "model", tmp_path, allow_any=False)}
        values = {"model": reference, "dataset": "digits", "epochs": 1, "num_train_images": 64, **fields}
        config, problems = build_config(values, 0, code)
        assert not problems
        return config

    yield make
    sys.modules.pop("view_nets", None)


@pytest.mark.parametrize(("name", "is_last"), [("LeNet", False), ("Reshaped", True)])
def test_a_view_of_a_map_trains_in_the_default_format(make_config, name, is_last):
    config = make_config(name)
    assert runs_channels_last(config.model, 10, 8) == is_last
    execution = choose_execution(config, CPU)
    assert execution.channels_last == is_last
    (metrics,) = fit(config, load_trial_data(config, CPU), execution)
    assert metrics.test_accuracy >= 0


def test_other_precisions_have_the_default_format_too(make_config, bf16):
    bf16(True)
    options = list_options(make_config("LeNet"), CPU, channels_last=False)
    assert [option.label for option in options] == ["fp32 channels-first", "bf16 channels-first"]


def test_the_contract_says_in_which_format_it_trains(make_config):
    checks = check_contract("model", make_config("LeNet").model.code, {})
    (found,) = [each for each in checks if "channels-last" in each.rule]
    assert found.problem is None and found.note.startswith(
        "it trains channels-first, because channels-last raises: view"
    )
