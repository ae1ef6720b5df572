"""Own code in a sweep file: what is read, what it is called with, which ids it gives, and what is refused."""

import pickle
import sys

import pytest
from helpers.factories import make_config, make_sweep_yaml

from flexres_tune.datasets import describe_dataset
from flexres_tune.errors import SpecError
from flexres_tune.spec import TrialConfig, expand_trials, load_sweep

NETS = """
from torch import nn
from my_blocks import block

def build(num_classes, image_size, width=8, depth=1):
    layers = [nn.Conv2d(3, width, 3, padding=1), *(block(width) for _ in range(depth))]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))

def no_module(num_classes):
    return 7

def raises(num_classes):
    raise KeyError("nothing here")
"""
BLOCKS = """
from torch import nn

def block(width):
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
"""
OPTIM = """
import torch

class Plain(torch.optim.SGD):
    def __init__(self, params, lr, weight_decay, power=1.0):
        super().__init__(params, lr=lr * power, weight_decay=weight_decay)
"""
CODE = "def trapezoid(step, num_steps):\n    return 1.0\n\ndef invert(images, generator):\n    return 1 - images\n"


@pytest.fixture
def folder(tmp_path):
    """A folder of own code; its modules are forgotten afterwards."""
    for name, text in (("my_nets", NETS), ("my_blocks", BLOCKS), ("my_optim", OPTIM), ("my_code", CODE)):
        (tmp_path / f"{name}.py").write_text(text)
    yield tmp_path
    for name in ("my_nets", "my_blocks", "my_optim", "my_code"):
        sys.modules.pop(name, None)


def load(folder, base=None, allow_code=False, **changes):
    """(the sweep, its trials) of a sweep file in the folder."""
    base = {"model": "my_nets.py:build"} | (base or {})
    (folder / "own.yaml").write_text(make_sweep_yaml(base=base, **changes))
    spec = load_sweep(str(folder / "own.yaml"), describe=describe_dataset, allow_code=allow_code)
    return spec, expand_trials(spec, describe_dataset)


def refuse(folder, *parts, **changes):
    with pytest.raises(SpecError) as caught:
        load(folder, **changes)
    (problem,) = caught.value.problems
    for part in parts:
        assert part in str(problem)


def test_model_is_counted_and_its_arguments_are_swept(folder):
    _, trials = load(folder, parameters={"model.width": {"values": [8, 16]}, "model.depth": {"values": [1, 2]}})
    counts = {(t.varied["model.width"], t.varied["model.depth"]): t.num_parameters for t in trials}
    conv = 3 * 3 * 3 * 8 + 8
    assert counts[8, 1] == conv + (9 * 8 * 8 + 8) + (8 + 1) * 10
    assert counts[8, 2] == counts[8, 1] + 9 * 8 * 8 + 8
    assert len({t.config.config_id for t in trials}) == 4


def test_width_fit_is_the_widest_that_the_budget_allows(folder):
    _, (trial,) = load(folder, base={"model.width": "fit"}, max_parameters=20_000)
    width = trial.config.own_values["model.width"]
    wider = load(folder, base={"model.width": width + 1})[1][0]
    assert trial.num_parameters <= 20_000 < wider.num_parameters


def test_model_over_the_budget_is_refused_with_its_line(folder):
    refuse(folder, "own.yaml:", "at most max_parameters=100", max_parameters=100)


def test_editing_the_source_or_a_module_that_it_imports_changes_the_id(folder):
    def id_now():
        return load(folder)[1][0].config.config_id

    first = id_now()
    assert id_now() == first
    (folder / "my_blocks.py").write_text(BLOCKS + "\n# another version\n")
    second = id_now()
    (folder / "my_blocks.py").write_text(BLOCKS)
    (folder / "unrelated.py").write_text("x = 1")
    assert second != first == id_now()


def test_ids_of_trials_without_own_code_are_as_before():
    assert make_config().config_id == "637c9658f0bb"
    assert make_config(optimizer="adam", lr=1e-3).config_id == "de543470aaeb"


def test_a_trial_survives_the_way_to_another_process_with_the_code_of_its_start(folder):
    base = {"optimizer": "my_optim.py:Plain", "optimizer.power": 0.5, "lr_schedule": "my_code.py:trapezoid"}
    _, (trial,) = load(folder, base=base | {"augmentation": ["crop", "my_code.py:invert"]})
    sent = pickle.loads(pickle.dumps(trial.config.to_dict()))
    for file in folder.glob("*.py"):
        file.write_text("raise SystemExit('edited while the sweep runs')")
    config = TrialConfig.model_validate(sent)
    assert config == trial.config and config.config_id == trial.config.config_id
    assert config.augmentation[1].load()(0.25, None) == 0.75
    assert config.lr_schedule.load()(0, 10) == 1.0
    assert pickle.loads(pickle.dumps(config)).optimizer.load().__name__ == "Plain"
    assert len(list(config.model.build(10, 8).parameters())) == 6


def test_columns_show_references_and_values(folder):
    base = {"optimizer": "my_optim.py:Plain", "optimizer.power": 0.5, "model.width": 4}
    columns = load(folder, base=base)[1][0].config.columns()
    assert (columns["model"], columns["optimizer"]) == ("my_nets.py:build", "my_optim.py:Plain")
    assert columns["own_values"] == '{"model.width": 4, "optimizer.power": 0.5}'
    assert columns["blocks"] is None
    assert "my_nets.py:build" in columns["code"]


def test_other_choices_of_a_grid_drop_the_arguments_of_own_code(folder):
    base = {"model.width": 4, "optimizer": "my_optim.py:Plain", "optimizer.power": 2.0}
    parameters = {"model": {"values": ["tiny", "my_nets.py:build"]}, "optimizer": {"values": ["sgd"]}}
    _, trials = load(folder, base=base, parameters=parameters)
    assert sorted(trial.config.model.name for trial in trials) == ["my_nets.py:build", "tiny"]
    assert all(not trial.config.own_values for trial in trials)


def test_exclude_matches_arguments_of_own_code(folder):
    base = {"optimizer": "my_optim.py:Plain"}
    parameters = {"optimizer.power": {"values": [0.5, 1.0]}, "model.width": {"values": [4, 8]}}
    _, trials = load(folder, base, parameters=parameters, exclude=[{"optimizer.power": 0.5, "model.width": 8}])
    assert len(trials) == 3


@pytest.mark.parametrize(
    ("base", "parts"),
    [
        ({"model": "my_net.py:build"}, ["base.model", "there is no", "my_net.py"]),
        ({"model": "my_nets.py:built"}, ["has no built; did you mean build?"]),
        ({"model": "my_nets.py:no_module"}, ["must return a torch.nn.Module, but returned a int"]),
        ({"model": "my_nets.py:raises"}, ["KeyError: 'nothing here' (my_nets.py, line 13)"]),
        ({"model.height": 3}, ["takes (num_classes, image_size, width=8, depth=1)", "height"]),
        ({"optimizer": "my_optim.py:Plain", "optimizer.betas": 1}, ["optimizer", "betas"]),
        ({"optimizer": "my_code.py:trapezoid"}, ["is called with ..., lr=..., weight_decay=..."]),
        ({"lr_schedule": "my_optim.py:Plain", "optimizer": "sgd"}, ["lr_schedule", "missing", "weight_decay"]),
        ({"augmentation": ["my_code.py:gone"]}, ["my_code.py:gone", "has no gone"]),
        ({"optimizer.power": 1.0}, ["optimizer.power", "no such key"]),
        ({"model": "subprocess:getoutput", "model.cmd": "touch hacked"}, ["needs --allow-code"]),
        ({"optimizer": "../my_optim.py:Plain"}, ["../my_optim.py:Plain", "there is no"]),
    ],
)
def test_wrong_code_is_refused_with_its_key_and_reason(folder, base, parts):
    refuse(folder, "own.yaml:2:", *parts, base=base)


def test_file_outside_of_the_folder_needs_to_be_allowed(folder):
    inner = folder / "sweeps"
    inner.mkdir()
    base = {"model": "../my_nets.py:build"}
    refuse(inner, "must be in the folder of the sweep file", "--allow-code", base=base)
    assert load(inner, base=base, allow_code=True)[1][0].num_parameters == load(folder)[1][0].num_parameters


def test_code_of_a_refused_file_is_not_executed(folder):
    (folder / "other").mkdir()
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\ndef build(num_classes): ...\n")
    refuse(folder / "other", "--allow-code", base={"model": "../evil.py:build"})
    refuse(folder / "other", "--allow-code", base={"model": "evil:build"})
    assert not (folder / "ran").exists()


def test_broken_python_is_named_with_its_line(folder):
    (folder / "my_blocks.py").write_text("x = 1\ndef broken(:\n")
    refuse(folder, "my_blocks.py:2: must be Python")


def test_package_and_entry_point(folder, monkeypatch):
    package = folder / "site" / "lion_pkg"
    (package).mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "opt.py").write_text(OPTIM)
    info = folder / "site" / "lion_pkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lion-pkg\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flexres_tune.optimizers]\nlion = lion_pkg.opt:Plain\n")
    monkeypatch.syspath_prepend(folder / "site")
    _, (by_name,) = load(folder, base={"optimizer": "lion", "optimizer.power": 2.0})
    _, (by_module,) = load(folder, base={"optimizer": "lion_pkg.opt:Plain"}, allow_code=True)
    assert by_name.config.optimizer.load() is by_module.config.optimizer.load()
    assert "lion_pkg" not in str(TrialConfig.model_fields)  # nothing was registered
