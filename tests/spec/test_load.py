from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import SpecError
from flexres_tune.spec import count_trials, expand_trials, load_sweep

GOOD = str(Path(__file__).with_name("good.yaml"))


def test_a_good_file_loads():
    spec = load_sweep(GOOD)
    assert (spec.name, spec.method, spec.profile, spec.source) == ("good", "grid", "none", GOOD)
    assert (spec.metric.name, spec.metric.goal) == ("val_accuracy", "maximize")
    assert spec.max_parameters == 5_000_000
    assert (spec.early_terminate.type, spec.early_terminate.grace_period, spec.early_terminate.num_brackets) == (
        "asha",
        1,
        None,
    )
    assert (spec.confirm.top, spec.confirm.seeds) == (2, (10, 11))
    assert (spec.resources_per_trial.cpu, spec.resources_per_trial.gpu) == (1.0, 0.25)


def test_what_a_file_leaves_out_has_defaults(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("name: x\nbase: {model: tiny, dataset: digits}\n")
    spec = load_sweep(str(path))
    assert (spec.method, spec.seeds, spec.max_parameters, spec.order_seed) == ("grid", (0,), 5_000_000, 0)
    assert spec.early_terminate.type == "none" and spec.early_terminate.grace_period is None
    assert spec.confirm is None and spec.num_trials is None
    assert (spec.resources_per_trial.cpu, spec.resources_per_trial.gpu) == ("auto", "auto")
    assert [trial.config.lr for trial in expand_trials(spec, describe_dataset)] == [0.1]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("asha", ("asha", "auto", 3, None)),
        ("{type: asha, variant: stopping}", ("asha", 1, 3, None)),
        ("{type: halving, rungs: [{epochs: 2, keep: 9}]}", ("halving", None, None, None)),
        ("{type: hyperband, num_brackets: 2}", ("hyperband", 1, 3, 2)),
        ("{type: median, grace_period: 4}", ("median", 4, None, None)),
        ("none", ("none", None, None, None)),
    ],
)
def test_early_terminate_fills_in_what_its_type_uses(written, expected):
    early = load_sweep(GOOD, overrides=[f"early_terminate={written}"]).early_terminate
    assert (early.type, early.grace_period, early.reduction_factor, early.num_brackets) == expected


@pytest.mark.parametrize(("kind", "variant"), [("asha", "promotion"), ("hyperband", "stopping")])
def test_tpe_pauses_trials_unless_brackets_need_their_size(kind, variant):
    tpe = ["method=tpe", "num_trials=4", "seeds=[0]", "parameters={lr: {min: 0.1, max: 0.2}}"]
    assert load_sweep(GOOD, overrides=[f"early_terminate={kind}"]).early_terminate.variant == "promotion"
    assert load_sweep(GOOD, overrides=[*tpe, f"early_terminate={kind}"]).early_terminate.variant == variant


def test_goal_follows_from_the_metric():
    assert load_sweep(GOOD, overrides=["metric={name: val_loss}"]).metric.goal == "minimize"


@pytest.mark.parametrize(("has_gpu", "profile"), [(True, "none"), (False, "laptop")])
def test_auto_chooses_laptop_without_a_gpu(has_gpu, profile):
    spec = load_sweep(GOOD, profile="auto", has_gpu=lambda: has_gpu)
    assert spec.profile == profile
    assert (spec.base["dataset"] == "digits") == (profile == "laptop")


def test_auto_without_a_laptop_profile_does_not_look_for_a_gpu(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("name: x\nbase: {model: tiny, dataset: digits}\nprofiles: {cpu: {seeds: [1]}}\n")
    assert load_sweep(str(path), profile="auto", has_gpu=lambda: pytest.fail("asked")).profile == "none"


def test_a_profile_merges_base_and_replaces_the_rest():
    spec = load_sweep(GOOD, profile="laptop")
    assert spec.seeds == (0,)
    assert spec.base == {
        "model": "tiny",
        "dataset": "digits",
        "batch_size": 64,
        "epochs": 3,
        "augmentation": ["crop", "flip"],
    }
    assert len(spec.parameters) == 2


def test_profile_has_its_own_description(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: x\ndescription: On CIFAR-10?\nbase: {model: tiny, dataset: digits}\n"
        "profiles: {p: {description: On digits?}, q: {seeds: [1]}}\n"
    )
    assert [load_sweep(str(path), profile=name).description for name in ("none", "p", "q")] == [
        "On CIFAR-10?",
        "On digits?",
        "On CIFAR-10?",
    ]


def test_null_in_a_profile_removes_a_key(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: x\nbase: {model: tiny, dataset: digits, momentum: 0.5}\nconfirm: {top: 1, seeds: [9]}\n"
        "profiles: {p: {confirm: null, base: {momentum: null}}}\n"
    )
    spec = load_sweep(str(path), profile="p")
    assert spec.confirm is None and "momentum" not in spec.base
    assert expand_trials(spec, describe_dataset)[0].config.momentum == 0.9


def test_a_model_in_a_profile_takes_the_fields_of_the_model_below_with_it(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: x\nbase: {model: resnet10, model.channels: [8, 8, 8, 8]}\n"
        "profiles: {p: {base: {model: tiny, dataset: digits}}}\n"
    )
    assert expand_trials(load_sweep(str(path), profile="p"), describe_dataset)[0].config.model.name == "tiny"


def test_an_unused_profile_is_checked(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("name: x\nbase: {model: resnet10}\nprofiles:\n  laptop:\n    base: {dataset: digits}\n")
    with pytest.raises(SpecError, match=r"s\.yaml:\d: .*pool_size must fit"):
        load_sweep(str(path), describe=describe_dataset)


def test_overrides_lie_over_the_profile():
    overrides = [
        "base.epochs=2",
        "parameters[1].lr.values=[5e-4]",
        "seeds=[4,5]",
        "base.model.pool_size=2",
        "order_seed=3",
    ]
    spec = load_sweep(GOOD, profile="laptop", overrides=overrides)
    assert spec.base["epochs"] == 2 and spec.seeds == (4, 5) and spec.order_seed == 3
    assert spec.parameters[1]["lr"].values == (5e-4,)
    assert all(trial.config.model.pool_size == 2 for trial in expand_trials(spec, describe_dataset))


def test_an_override_mends_the_file():
    spec = load_sweep(
        GOOD,
        overrides=[
            "max_parameters=1_000",
            "base.model={blocks: [1, 1], channels: [2, 2]}",
            "exclude=null",
            "parameters={lr: {values: [0.1, 0.2]}}",
        ],
    )
    assert len(expand_trials(spec, describe_dataset)) == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "base.epochs=two",
            "--set base.epochs: base.epochs: must be a whole number, but got two; for example epochs: 20",
        ),
        (
            "base.epochs=",
            "--set base.epochs: must have a value after '=', but got base.epochs=; base.epochs=null removes the key",
        ),
        ("base.epochs", "--set base.epochs: must be key=value, but got base.epochs; for example --set base.epochs=2"),
        ("=3", "--set : must be key=value, but got =3; for example --set base.epochs=2"),
        (
            "base..epochs=3",
            "--set base..epochs: a key must be names and indices joined by dots, but got base..epochs; "
            "for example base.epochs",
        ),
        ("bse.epochs=3", "--set bse.epochs: bse: no such key in a sweep; did you mean base?"),
        ("base.epoch=3", "--set base.epoch: base.epoch: no such key in a trial; did you mean epochs?"),
        (
            "parameters.lr.values=[1]",
            "--set parameters.lr.values: parameters is a list of 2, so an index below 2 must follow; write parameters[0]",
        ),
        (
            "parameters[2].lr.value=1",
            "--set parameters[2].lr.value: parameters is a list of 2, so an index below 2 must "
            "follow; write parameters[0]",
        ),
        ("name.x=1", "--set name.x: name must be a mapping to have the key x, but is good; set name itself"),
        ("seeds[0][1]=1", "--set seeds[0][1]: [1] must follow a list, but seeds.0 is not a list; leave it out"),
        (
            "profiles.laptop.seeds=[1]",
            "--set profiles.laptop.seeds: profiles cannot be set on the command line; choose one with --profile NAME",
        ),
        (
            "seeds=[1",
            "--set seeds: must be YAML 1.2, but: while parsing a flow sequence expected ',' or ']', "
            "but got '<stream end>'",
        ),
    ],
)
def test_a_bad_override_is_named(override, message):
    with pytest.raises(SpecError) as caught:
        load_sweep(GOOD, overrides=[override])
    assert str(caught.value) == message


def test_an_unknown_profile_is_named():
    with pytest.raises(
        SpecError, match=r"--profile must be a profile of the file, auto or none, but got lapto; did you mean laptop?"
    ):
        load_sweep(GOOD, profile="lapto")


def test_the_resolved_sweep_is_json_and_loads_to_the_same_trials(tmp_path):
    spec = load_sweep(GOOD, profile="laptop", overrides=["base.epochs=4"])
    path = tmp_path / "again.yaml"
    path.write_text(json.dumps(spec.resolved()))
    again = load_sweep(str(path))
    assert [trial.config for trial in expand_trials(again, describe_dataset)] == [
        trial.config for trial in expand_trials(spec, describe_dataset)
    ]
    assert again.early_terminate == spec.early_terminate and again.confirm == spec.confirm


def test_a_bom_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\r\nbase: {model: tiny, dataset: digits}\r\n")
    assert count_trials(load_sweep(str(path))) == 1


def test_importing_spec_imports_neither_torch_nor_ray():
    code = "import sys, flexres_tune.spec; print(sorted({'torch', 'ray', 'numpy', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
