from __future__ import annotations

import pytest
from pydantic import ValidationError

from flexres_tune.spec import EarlyTerminate, TrialConfig, trial
from flexres_tune.spec.keys.early_terminate import EARLY_STOPPING
from flexres_tune.spec.trial import OPTIMIZER_TRAITS, OptimizerTraits


@pytest.mark.parametrize(
    ("values", "trial_id"),
    [
        ({"model": "resnet22_2"}, "b0c313f6b6d2-0"),
        (
            {
                "model": {"blocks": [1], "channels": [4], "head": [3], "dropout": 0.1},
                "dataset": "digits",
                "optimizer": "adamw",
                "lr": 1e-3,
                "augmentation": [],
                "mixup_alpha": 0.2,
                "epochs": 3,
                "seed": 17,
            },
            "133a5903ea03-17",
        ),
    ],
)
def test_ids_never_change(values, trial_id):
    """A row in a user's tables is found by its id: after a change here it would be lost."""
    assert TrialConfig.model_validate(values).trial_id == trial_id


def test_the_seed_is_no_part_of_the_configuration():
    one, other = (TrialConfig(model="tiny", seed=seed) for seed in (0, 1))
    assert one.config_id == other.config_id and one.trial_id != other.trial_id


@pytest.mark.parametrize(
    "spelling",
    [
        {"momentum": 0.9},
        {"lr": 0.1},
        {"warmup_epochs": 0},
        {"lr_schedule": "cosine"},
        {"augmentation": ("crop", "flip")},
        {"weight_decay": 5e-4},
        {"model": {"blocks": [1, 1], "channels": [16, 32], "kernel_size": 3}},
        {"mixup_alpha": 0},
    ],
)
def test_a_default_written_out_has_the_same_id(spelling):
    assert TrialConfig.model_validate({"model": "tiny"} | spelling).config_id == TrialConfig(model="tiny").config_id


@pytest.mark.parametrize(
    "change",
    [
        {"model": "small"},
        {"lr": 0.2},
        {"optimizer": "nesterov"},
        {"epochs": 3},
        {"dataset": "digits"},
        {"normalize": False},
        {"augmentation": ["flip", "crop"]},
        {"num_train_images": 100},
        {"num_val_images": 100},
        {"val_split": "by_seed"},
        {"precision": "fp32"},
        {"compile": "off"},
    ],
)
def test_what_affects_the_result_changes_the_id(change):
    assert TrialConfig.model_validate({"model": "tiny"} | change).config_id != TrialConfig(model="tiny").config_id


def test_momentum_belongs_to_sgd_and_nesterov():
    assert TrialConfig(model="tiny").momentum == 0.9
    assert TrialConfig(model="tiny", optimizer="nesterov", momentum=0.5).momentum == 0.5
    assert TrialConfig(model="tiny", optimizer="adam").momentum is None
    with pytest.raises(ValidationError, match="momentum belongs to sgd and nesterov, but optimizer is adam"):
        TrialConfig(model="tiny", optimizer="adam", momentum=0.9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mixup_alpha": 0.1, "cutmix_alpha": 1}, "must not both be above 0, but got 0.1 and 1"),
        ({"epochs": 2, "warmup_epochs": 2}, "warmup_epochs must be less than epochs, but got 2 and 2"),
        ({"lr_schedule": "onecycle", "warmup_epochs": 1}, "must be 0 with lr_schedule onecycle"),
        ({"augmentation": ["flip", "flip"]}, "must name each augmentation once, but has flip twice"),
        ({"dataset": "cifar"}, "did you mean cifar10"),
        ({"lr": float("nan")}, "finite"),
        ({"lr": "0.1"}, "valid number"),
        ({"lr": True}, "valid number"),
        ({"epochs": 2.0}, "valid integer"),
        ({"colour": 1}, "Extra inputs"),
        ({"model": 3}, "must be a preset's name or a mapping"),
    ],
)
def test_what_does_not_agree_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        TrialConfig.model_validate({"model": "tiny"} | values)


@pytest.mark.parametrize("compile", ["on", "off", "auto"])
def test_a_configuration_crosses_process_borders(compile):
    config = TrialConfig(model="kernel_131", compile=compile)
    assert TrialConfig.model_validate(config.to_dict()) == config
    assert TrialConfig.model_validate(config.to_dict()).trial_id == config.trial_id


def test_columns_flatten_the_architecture():
    columns = TrialConfig(model="resnet22_2", seed=3).columns()
    assert columns["model"] == "resnet22_2" and columns["blocks"] == [3, 2, 3, 2] and "seed" not in columns
    assert TrialConfig(model={"blocks": [1], "channels": [9]}).columns()["model"] == "1/9"


def test_optimizer_is_one_row_here(monkeypatch):
    monkeypatch.setitem(OPTIMIZER_TRAITS, "rmsprop", OptimizerTraits(2, default_momentum=0.8, needs_momentum=True))
    assert TrialConfig(model="tiny", optimizer="rmsprop").momentum == 0.8
    with pytest.raises(ValidationError, match="momentum belongs to sgd, nesterov and rmsprop"):
        TrialConfig(model="tiny", optimizer="adam", momentum=0.9)
    with pytest.raises(ValidationError, match="momentum must be above 0 with optimizer rmsprop"):
        TrialConfig(model="tiny", optimizer="rmsprop", momentum=0)


def test_other_registries_are_read_when_a_value_is_checked(monkeypatch):
    monkeypatch.setattr(trial, "SCHEDULE_NAMES", (*trial.SCHEDULE_NAMES, "poly"))
    monkeypatch.setattr(trial, "AUGMENTATION_NAMES", (*trial.AUGMENTATION_NAMES, "blur"))
    monkeypatch.setattr(trial, "DATASET_FORMS", (*trial.DATASET_FORMS, "lfw", "folder:PATH"))
    for dataset in ("lfw", "folder:/data"):
        TrialConfig(model="tiny", dataset=dataset, lr_schedule="poly", augmentation=("blur", "crop"))
    with pytest.raises(ValidationError, match="digits, cifar10, .*, lfw or folder:PATH"):
        TrialConfig(model="tiny", dataset="folder:")


def test_stopping_rule_is_one_row_here(monkeypatch):
    monkeypatch.setitem(EARLY_STOPPING, "freezing", {"grace_period": 2})
    assert EarlyTerminate(type="freezing").grace_period == 2
    with pytest.raises(ValidationError, match="num_brackets belongs to hyperband, but type is freezing"):
        EarlyTerminate(type="freezing", num_brackets=2)
