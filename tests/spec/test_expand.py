from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import DataError, SpecError
from flexres_tune.records import Stage
from flexres_tune.run.printout import describe_plan
from flexres_tune.spec import (
    SweepSpec,
    TrialConfig,
    count_parameters,
    count_trials,
    expand_trials,
    load_sweep,
    trial_from_assignment,
)

BASE = {"model": "tiny", "dataset": "digits"}


def sweep(**keys) -> SweepSpec:
    return SweepSpec.model_validate({"name": "x", "base": BASE, **keys})


def lrs(trials):
    return sorted(trial.config.lr for trial in trials)


def test_a_grid_is_the_product_of_its_values_and_seeds():
    spec = sweep(parameters={"lr": {"values": [0.1, 0.2]}, "batch_size": {"values": [8, 16, 32]}}, seeds=[0, 5])
    trials = expand_trials(spec, describe_dataset)
    assert len(trials) == count_trials(spec) == 12
    assert {(t.config.lr, t.config.batch_size, t.config.seed) for t in trials} == {
        (lr, batch_size, seed) for lr in (0.1, 0.2) for batch_size in (8, 16, 32) for seed in (0, 5)
    }
    assert len({t.config.trial_id for t in trials}) == 12
    assert all(t.stage is Stage.SCREEN and t.num_parameters == count_parameters("tiny", 10, 8) for t in trials)


def test_a_list_of_grids_is_their_union():
    grids = [
        {"optimizer": {"value": "sgd"}, "lr": {"values": [0.1, 0.2]}},
        {"optimizer": {"value": "adam"}, "lr": {"value": 1e-3}},
    ]
    trials = expand_trials(sweep(parameters=grids), describe_dataset)
    assert {(t.config.optimizer, t.config.lr) for t in trials} == {("sgd", 0.1), ("sgd", 0.2), ("adam", 1e-3)}
    assert {tuple(t.varied) for t in trials} == {("optimizer", "lr")}


def test_order_is_shuffled_by_its_seed_alone():
    parameters = {"lr": {"values": [i / 100 for i in range(1, 40)]}}
    orders = [
        [t.config.lr for t in expand_trials(sweep(parameters=parameters, order_seed=seed), describe_dataset)]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


@pytest.mark.parametrize(
    "entry",
    [
        {"lr": 0.2},
        {"lr": 0.2, "batch_size": 128},  # a default
        {"lr": 0.2, "model": {"blocks": [1, 1], "channels": [16, 32]}},  # what the preset means
        {"lr": 0.2, "model.channels": [16, 32]},
        {"lr": 0.2, "augmentation": ["crop", "flip"], "compile": "auto"},
    ],
)
def test_exclude_leaves_a_trial_out(entry):
    assert lrs(expand_trials(sweep(parameters={"lr": {"values": [0.1, 0.2]}}, exclude=[entry]), describe_dataset)) == [
        0.1
    ]


def test_exclude_leaves_out_what_could_not_be_a_trial():
    parameters = {"optimizer": {"values": ["sgd", "adam"]}, "momentum": {"values": [0.5, None]}}
    trials = expand_trials(
        sweep(parameters=parameters, exclude=[{"optimizer": "adam", "momentum": 0.5}]), describe_dataset
    )
    assert {(t.config.optimizer, t.config.momentum) for t in trials} == {("sgd", 0.5), ("sgd", 0.9), ("adam", None)}


def test_model_fields_change_a_preset():
    trials = expand_trials(sweep(parameters={"model.channels": {"values": [[4, 8], [16, 32]]}}), describe_dataset)
    assert {t.config.model.name for t in trials} == {"1-1/4-8", "tiny"}
    assert {t.num_parameters for t in trials} == {
        count_parameters({"blocks": [1, 1], "channels": c, "pool_size": 4}, 10, 8) for c in ([4, 8], [16, 32])
    }


def test_one_configuration_spelt_twice_is_a_duplicate():
    same = {"blocks": [1, 1], "channels": [16, 32], "kernel_size": [3, 3]}
    with pytest.raises(SpecError, match=r"model=tiny and model={blocks.* are the same trial"):
        expand_trials(sweep(parameters={"model": {"values": ["tiny", same]}}), describe_dataset)


def test_a_grid_of_a_thousand_million_is_refused_by_count():
    thousand = {"values": [i / 1000 for i in range(1, 1001)]}
    spec = sweep(parameters={key: thousand for key in ("lr", "weight_decay", "mixup_alpha")})
    assert count_trials(spec) == 10**9
    with pytest.raises(SpecError, match="at most 100,000 trials, but has 1,000,000,000"):
        expand_trials(spec, describe_dataset)


def test_random_draws_are_seeded_and_distinct():
    keys = {
        "method": "random",
        "num_trials": 30,
        "seeds": [1, 2],
        "parameters": {
            "lr": {"min": 1e-4, "max": 1e-1, "distribution": "log_uniform_values"},
            "batch_size": {"min": 8, "max": 64},
            "label_smoothing": {"min": 0.0, "max": 0.2},
            "optimizer": {"values": ["sgd", "nesterov"]},
        },
    }
    first, again, other = (expand_trials(sweep(order_seed=seed, **keys), describe_dataset) for seed in (3, 3, 4))
    assert [t.config for t in first] == [t.config for t in again]
    assert {t.config.config_id for t in first}.isdisjoint(t.config.config_id for t in other)
    assert len(first) == 60 and len({t.config.config_id for t in first}) == 30
    assert all(1e-4 <= t.config.lr <= 1e-1 and 8 <= t.config.batch_size <= 64 for t in first)
    assert sum(t.config.lr < 3e-3 for t in first) in range(12, 48)  # half of them by the logarithm, 3 % if uniform
    assert {t.config.optimizer for t in first} == {"sgd", "nesterov"}


def test_random_draws_from_each_grid_of_a_union():
    grids = [{"optimizer": {"value": name}, "lr": {"min": 0.01, "max": 0.1}} for name in ("sgd", "adam")]
    trials = expand_trials(sweep(method="random", num_trials=20, parameters=grids), describe_dataset)
    assert {t.config.optimizer for t in trials} == {"sgd", "adam"}


def test_a_drawn_model_over_the_budget_is_drawn_again_and_counted():
    channels = {"values": [[4, 8], [8, 8], [512, 512], [999, 999]]}
    spec = sweep(
        method="random",
        num_trials=10,
        max_parameters=100_000,
        parameters={"model.channels": channels, "lr": {"min": 0.1, "max": 0.2}},
    )
    trials = expand_trials(spec, describe_dataset)
    assert len(trials) == 10 and all(t.num_parameters <= 100_000 for t in trials)
    redrawn = sum(t.num_redrawn for t in trials)
    assert redrawn > 0
    assert f"{redrawn} draw" in describe_plan(spec, trials).totals


def test_random_gives_up_where_too_few_configurations_exist():
    with pytest.raises(
        SpecError, match=r"after 2 the search gave up: 1,000 consecutive draws were rejected \(1,000 drawn before\)"
    ):
        expand_trials(sweep(method="random", num_trials=3, parameters={"lr": {"values": [0.1, 0.2]}}), describe_dataset)


def test_tpe_draws_while_it_runs():
    spec = sweep(
        method="tpe", num_trials=5, seeds=[0, 1], parameters={"lr": {"min": 0.01, "max": 0.1}}, exclude=[{"lr": 0.05}]
    )
    assert expand_trials(spec, describe_dataset) == () and count_trials(spec) == 10
    trial = trial_from_assignment(spec, {"lr": 0.02}, 7, describe_dataset)
    assert trial.config == TrialConfig(model="tiny", dataset="digits", lr=0.02, seed=7)
    assert trial.varied == {"lr": 0.02}
    with pytest.raises(SpecError, match=r"must not be excluded, but lr=0.05 is"):
        trial_from_assignment(spec, {"lr": 0.05}, 0, describe_dataset)
    with pytest.raises(SpecError, match="must be > 0, but got -1"):
        trial_from_assignment(spec, {"lr": -1}, 0, describe_dataset)


def test_tpe_refuses_a_drawn_model_over_the_budget():
    spec = sweep(
        method="tpe", num_trials=5, max_parameters=1000, parameters={"model.channels": {"values": [[2, 2], [99, 99]]}}
    )
    assert expand_trials(spec, describe_dataset) == ()
    with pytest.raises(SpecError, match="max_parameters=1,000, but 1-1/99-99 has"):
        trial_from_assignment(spec, {"model.channels": [99, 99]}, 0, describe_dataset)


def test_tpe_checks_the_fixed_model_before_it_runs():
    with pytest.raises(SpecError, match=r"base.model: a model must have at most max_parameters=1,000"):
        expand_trials(
            sweep(method="tpe", num_trials=5, max_parameters=1000, parameters={"lr": {"min": 0.1, "max": 1}}),
            describe_dataset,
        )


def test_describe_gives_the_data_sets_shape():
    spec = sweep(base={"model": "tiny", "dataset": "parquet:/data"})
    (trial,) = expand_trials(spec, lambda name: SimpleNamespace(image_size=16, num_classes=100))
    assert trial.num_parameters == count_parameters("tiny", 100, 16)

    def missing(name):
        raise DataError(f"{name} must be a folder, but is not there")

    with pytest.raises(SpecError, match=r"base.dataset: parquet:/data must be a folder, but is not there"):
        expand_trials(spec, missing)


def test_another_profiles_missing_data_does_not_matter(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: x\nbase: {model: tiny, dataset: digits}\nprofiles: {gpu: {base: {dataset: 'parquet:/none'}}}\n"
    )
    spec = load_sweep(str(path), describe=describe_dataset)
    assert len(expand_trials(spec, describe_dataset)) == 1


def test_the_plan_lists_trials_and_totals():
    spec = sweep(
        parameters=[{"lr": {"values": [0.1, 0.2]}}, {"optimizer": {"value": "adam"}}],
        seeds=[0, 1],
        confirm={"top": 1, "seeds": [5, 6]},
        exclude=[{"lr": 0.2}],
    )
    trials = expand_trials(spec, describe_dataset)
    table = describe_plan(spec, trials)
    assert table.columns == ("trial_id", "lr", "optimizer", "num_parameters", "epochs")
    assert (
        sorted(row[1:] for row in table.rows) == [("", "adam", "19,994", "20")] * 2 + [("0.1", "", "19,994", "20")] * 2
    )
    assert [row[0] for row in table.rows] == [t.config.trial_id for t in trials]
    assert table.totals == (
        "4 trials: 2 configurations x 2 seeds; 80 epochs in all if none is stopped early; 2 trials excluded; "
        "then the best 1 again on 2 fresh seeds"
    )


def test_varied_values_are_json():
    for trial in expand_trials(
        sweep(parameters={"model": {"values": ["tiny", {"blocks": [1], "channels": [4]}]}}), describe_dataset
    ):
        assert json.loads(json.dumps(dict(trial.varied))) == trial.varied
