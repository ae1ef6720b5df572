"""Levels of `compare`, and how many draws each of them gets."""

import pytest
from helpers.factories import make_sweep

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import SpecError
from flexres_tune.spec.expand import example_trials
from flexres_tune.spec.levels import level_of, list_levels, list_parts, share_draws

SGD, ADAM, ADAGRAD = "optimizer=sgd", "optimizer=adam", "optimizer=adagrad"
OPTIMIZERS = {"values": ["sgd", "adam", "adagrad"]}
LR = {"min": 0.01, "max": 0.1}


def make_spec(**changes):
    values = {"method": "tpe", "num_trials": 10, "parameters": {"optimizer": OPTIMIZERS, "lr": LR}}
    return make_sweep(**values | {"compare": "optimizer"} | changes)


def test_draws_are_shared_so_that_numbers_differ_by_at_most_one():
    assert share_draws(make_spec()) == {SGD: 4, ADAM: 3, ADAGRAD: 3}
    assert share_draws(make_spec(compare=[])) == {"": 10}


def test_level_with_few_configurations_leaves_its_draws_to_the_others():
    parts = [
        {"optimizer": {"value": "sgd"}, "lr": {"values": [0.1, 0.2]}},
        {"optimizer": {"values": ["adam", "adagrad"]}, "lr": LR},
    ]
    assert share_draws(make_spec(parameters=parts)) == {SGD: 2, ADAM: 4, ADAGRAD: 4}
    assert share_draws(make_spec(parameters={"optimizer": OPTIMIZERS}, num_trials=10)) == {SGD: 1, ADAM: 1, ADAGRAD: 1}


def test_level_of_several_mappings_is_one_level():
    parts = [{"optimizer": {"values": ["sgd", "adam"]}}, {"lr": LR}, {"lr": LR, "optimizer": {"value": "adam"}}]
    spec = make_spec(parameters=parts)
    assert list_levels(spec) == (SGD, ADAM)
    assert [(part.level, part.grid) for part in list_parts(spec)] == [(SGD, 0), (ADAM, 0), (SGD, 1), (ADAM, 2)]


def test_levels_with_long_values_that_begin_alike_are_told_apart():
    models = [{"blocks": [1, 1], "channels": [8, 8], "stem_channels": number} for number in (8, 16)]
    spec = make_spec(base={"dataset": "digits"}, parameters={"model": {"values": models}, "lr": LR}, compare="model")
    first, second = list_levels(spec)
    assert first.startswith("model={blocks: [1, 1], channels: [8, 8]") and first != second
    assert share_draws(spec) == {first: 5, second: 5}
    assert level_of(spec, {"model": models[0], "lr": 0.05}) == first


@pytest.mark.parametrize(
    ("exclude", "levels"),
    [
        ([{"optimizer": "adam"}], (SGD, ADAGRAD)),
        ([{"optimizer": "adam", "epochs": 9}], (SGD, ADAGRAD)),
        ([{"optimizer": "adam", "epochs": 8}], (SGD, ADAM, ADAGRAD)),
        ([{"optimizer": "adam", "lr": 0.05}], (SGD, ADAM, ADAGRAD)),
        ([{"lr": 0.05}], (SGD, ADAM, ADAGRAD)),
    ],
)
def test_level_that_exclude_leaves_out_whole_is_none(exclude, levels):
    base = {"model": "tiny", "dataset": "digits", "epochs": 9, "lr": 0.05}
    assert list_levels(make_spec(base=base, exclude=exclude)) == levels


def test_examples_have_a_trial_of_every_level():
    spec = make_spec()
    examples = example_trials(spec, describe_dataset)
    assert [level_of(spec, trial.varied) for trial in examples] == [SGD, ADAM, ADAGRAD]
    assert examples == example_trials(spec, describe_dataset)


def test_level_without_any_configuration_is_named():
    with pytest.raises(SpecError, match="configuration with optimizer=adam that can be drawn, but has none: 1,000"):
        example_trials(
            make_spec(
                parameters={"optimizer": OPTIMIZERS, "lr": {"value": 0.05}}, exclude=[{"optimizer": "adam", "lr": 0.05}]
            ),
            describe_dataset,
        )
    with pytest.raises(SpecError, match="exclude leaves none"):
        example_trials(make_spec(exclude=[{"optimizer": name} for name in OPTIMIZERS["values"]]), describe_dataset)
