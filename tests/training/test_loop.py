import dataclasses
import itertools
import logging
import math

import pytest
import torch

from flexres_tune.datasets import load_dataset
from flexres_tune.datasets.images import Split
from flexres_tune.errors import ArchitectureError, CheckpointError, DivergedError
from flexres_tune.spec.trial import AUGMENTATION_NAMES, OPTIMIZER_NAMES, SCHEDULE_NAMES, TrialConfig
from flexres_tune.training import Checkpointer, Execution, choose_execution, final_predictions, fit
from flexres_tune.training.checkpoint import load_checkpoint
from flexres_tune.training.loop import Request

TIMES = {"epoch_seconds": 0.0, "images_per_second": 0.0}


def numbers(history) -> list:
    """The metrics without what a clock says."""
    return [dataclasses.replace(metrics, **TIMES) for metrics in history]


def train(config, data, execution, *args, **kwargs) -> list:
    return numbers(fit(config, data, execution, *args, **kwargs))


def test_fit_learns_and_counts(make_config, data, execution):
    config = make_config(epochs=8, mixup_alpha=0, augmentation=[], warmup_epochs=0, label_smoothing=0)
    history = list(fit(config, data, execution))
    assert [metrics.epoch for metrics in history] == list(range(1, 9))
    assert history[-1].train_loss < 0.7 * history[0].train_loss
    assert history[-1].val_accuracy > 0.6
    assert all(0 <= m.train_accuracy <= 1 and 0 <= m.val_accuracy <= 1 for m in history)
    assert all(m.images_per_second > 37 / m.epoch_seconds > 0 for m in history)


def test_digits_are_learned_well_above_chance(execution):
    config = TrialConfig(model="tiny", dataset="digits", epochs=3, batch_size=32, augmentation=())
    history = list(fit(config, load_dataset("digits", execution.device), choose_execution(config, execution.device)))
    assert history[-1].val_accuracy > 0.9
    assert history[-1].test_accuracy > 0.9


def test_trial_without_validation_images_has_the_test_accuracy_alone(make_config, data, execution, tmp_path):
    data = dataclasses.replace(data, val=data.val.first(0))
    config = make_config(val_split="none")
    checkpointer = Checkpointer(tmp_path / "final.pt")
    epochs = fit(config, data, execution, checkpointer)
    history = [next(epochs) for _ in range(config.epochs)]
    assert {(m.val_loss, m.val_accuracy) for m in history} == {(None, None)}
    assert history[-1].test_accuracy is not None and history[0].test_accuracy is None
    predictions = final_predictions(epochs)
    assert predictions["val"] is None and len(predictions["test"].labels) == len(data.test)
    again = fit(config, data, execution, Checkpointer(tmp_path / "final.pt"))  # all epochs are in the checkpoint
    assert [next(again) for _ in range(config.epochs)] == history
    assert final_predictions(again).keys() == {"test"}


def test_test_set_is_read_once_after_the_last_epoch(make_config, data, execution):
    hidden = dataclasses.replace(data, test=None)  # reading it raises
    epochs = fit(make_config(epochs=3), hidden, execution)
    assert [next(epochs).test_accuracy, next(epochs).test_accuracy] == [None, None]
    with pytest.raises(AttributeError):
        next(epochs)
    assert train(make_config(epochs=3), data, execution)[-1].test_accuracy is not None


def test_test_accuracy_is_of_the_test_set(make_config, data, execution):
    config = make_config(epochs=2)
    last = train(config, data, execution)[-1]
    swapped = train(config, dataclasses.replace(data, val=data.test, test=data.val), execution)[-1]
    assert (swapped.test_accuracy, swapped.val_accuracy) == (last.val_accuracy, last.test_accuracy)


def test_same_trial_gives_the_same_digits_whatever_ran_before(make_config, data, execution):
    a, b = make_config(), make_config(optimizer="adamw", lr=0.01, cutmix_alpha=1.0, mixup_alpha=0, seed=3)
    first = train(a, data, execution)
    torch.rand(5)  # moves the global generator
    other = train(b, data, execution)
    assert train(a, data, execution) == first
    assert train(b, data, execution) == other
    assert train(make_config(seed=1), data, execution) != first


def test_trials_that_take_turns_do_not_disturb_each_other(make_config, data, execution):
    a, b = make_config(), make_config(seed=1)
    alone = train(a, data, execution), train(b, data, execution)
    turns = list(zip(fit(a, data, execution), fit(b, data, execution), strict=True))
    assert tuple(numbers(history) for history in zip(*turns, strict=True)) == alone


def test_fit_leaves_no_global_trace(make_config, data, execution):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(fit(make_config(epochs=1), data, execution))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZER_NAMES)
def test_two_epochs_resume_and_two_equal_four(make_config, data, tmp_path, optimizer, channels_last):
    execution = Execution(torch.device("cpu"), "fp32", compile=False, channels_last=channels_last)
    config = make_config(optimizer=optimizer)
    whole = train(config, data, execution, Checkpointer(tmp_path / "whole.pt"))
    file = tmp_path / "halves.pt"
    first = numbers(itertools.islice(fit(config, data, execution, Checkpointer(file)), 2))
    torch.rand(7)
    second = train(config, data, execution, Checkpointer(file))
    assert first == whole[:2]
    assert second == whole  # the stored history first, then the rest
    ends = [load_checkpoint(path, config.trial_id) for path in (tmp_path / "whole.pt", file)]
    assert all(torch.equal(ends[0]["model"][key], ends[1]["model"][key]) for key in ends[0]["model"])


@pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
def test_every_schedule_survives_a_resume(make_config, data, execution, tmp_path, schedule):
    config = make_config(lr_schedule=schedule, warmup_epochs=0, cutmix_alpha=1.0, mixup_alpha=0)
    next(fit(config, data, execution, Checkpointer(tmp_path / "x.pt")))
    assert train(config, data, execution, Checkpointer(tmp_path / "x.pt")) == train(config, data, execution)


PAUSED = [
    *({"optimizer": name} for name in OPTIMIZER_NAMES),
    *({"lr_schedule": name, "warmup_epochs": 0} for name in SCHEDULE_NAMES),
    *({"augmentation": [name]} for name in AUGMENTATION_NAMES),
    {"mixup_alpha": 0.2},
    {"mixup_alpha": 0.0, "cutmix_alpha": 1.0},
]


@pytest.mark.parametrize("changes", PAUSED, ids=str)
def test_paused_trial_continues_as_if_it_had_not_been_paused(make_config, data, execution, tmp_path, changes):
    config = make_config(**{"epochs": 4, "lr": 0.01} | changes)
    whole, file = train(config, data, execution), tmp_path / "a.pt"
    for until_epoch in (1, 3, 4):
        part = train(config, data, execution, Checkpointer(file, 1e9), request=Request(until_epoch))
        assert part == whole[:until_epoch]


def test_trial_that_is_past_the_pause_yields_only_the_epochs_before_it(make_config, data, execution, tmp_path):
    config, file = make_config(epochs=3), tmp_path / "a.pt"
    whole = train(config, data, execution, Checkpointer(file))
    before = file.read_bytes()
    assert train(config, data, execution, Checkpointer(file), request=Request(2)) == whole[:2]
    assert file.read_bytes() == before


def test_finished_trial_yields_its_history_and_trains_no_more(make_config, data, execution, tmp_path):
    config = make_config(epochs=2)
    history = list(fit(config, data, execution, Checkpointer(tmp_path / "x.pt")))
    nothing = dataclasses.replace(data, train=Split(data.train.images[:8], data.train.labels[:8]), val=None, test=None)
    assert list(fit(config, nothing, execution, Checkpointer(tmp_path / "x.pt"))) == history
    assert history[-1].test_accuracy is not None


def test_checkpoint_is_written_before_its_epoch_is_yielded(make_config, data, execution, tmp_path):
    config = make_config()
    for metrics in fit(config, data, execution, Checkpointer(tmp_path / "x.pt")):
        assert load_checkpoint(tmp_path / "x.pt", config.trial_id)["epoch"] == metrics.epoch
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_within_the_period_only_the_last_epoch_is_written(make_config, data, execution, tmp_path):
    config = make_config()
    written = [
        (tmp_path / "x.pt").exists() for _ in fit(config, data, execution, Checkpointer(tmp_path / "x.pt", 3600))
    ]
    assert written == [False, False, False, True]


def test_should_stop_is_called_once_per_step(make_config, data, execution):
    calls = []
    list(fit(make_config(epochs=2), data, execution, should_stop=lambda: bool(calls.append(1))))
    assert len(calls) == 2 * 5


@pytest.mark.parametrize("period", [0, 3600])
def test_stop_within_an_epoch_keeps_the_epoch_before(make_config, data, execution, tmp_path, period):
    config = make_config()
    steps = itertools.count()
    checkpointer = Checkpointer(tmp_path / "x.pt", period)
    stopped = train(config, data, execution, checkpointer, lambda: next(steps) == 13)  # in the third epoch
    assert len(stopped) == 2
    assert load_checkpoint(tmp_path / "x.pt", config.trial_id)["epoch"] == 2
    assert train(config, data, execution, Checkpointer(tmp_path / "x.pt")) == train(config, data, execution)


def test_exception_within_an_epoch_keeps_the_epoch_before(make_config, data, execution, tmp_path):
    steps = itertools.count()

    def interrupt() -> bool:
        if next(steps) == 7:
            raise KeyboardInterrupt
        return False

    config = make_config()
    with pytest.raises(KeyboardInterrupt):
        list(fit(config, data, execution, Checkpointer(tmp_path / "x.pt", 3600), interrupt))
    assert load_checkpoint(tmp_path / "x.pt", config.trial_id)["epoch"] == 1


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_damaged_checkpoint_is_logged_and_the_trial_starts_from_the_beginning(
    make_config, data, execution, tmp_path, caplog, damage
):
    config, file = make_config(epochs=2), tmp_path / "x.pt"
    whole = train(config, data, execution, Checkpointer(file))
    file.write_bytes(file.read_bytes()[:-2000] if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        assert train(config, data, execution, Checkpointer(file)) == whole
    assert "x.pt: is damaged" in caplog.text
    assert "starts from the beginning" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload["model"].popitem(),
        lambda payload: payload.update(model=torch.zeros(3)),
        lambda payload: payload.update(optimizer="text"),
        lambda payload: payload.update(history=[{"\x1b[2J": 1}]),
        lambda payload: payload.update(generators={"own": None}),
    ],
)
def test_checkpoint_that_does_not_fit_the_model_is_not_used(make_config, data, execution, tmp_path, caplog, change):
    config, file = make_config(epochs=2), tmp_path / "x.pt"
    whole = train(config, data, execution, Checkpointer(file))
    payload = torch.load(file, weights_only=True)
    change(payload)
    torch.save(payload, file)
    assert train(config, data, execution, Checkpointer(file)) == whole
    assert "does not fit the model" in caplog.text and "\x1b" not in caplog.text


def test_checkpoint_of_another_trial_is_refused(make_config, data, execution, tmp_path):
    next(fit(make_config(), data, execution, Checkpointer(tmp_path / "x.pt")))
    with pytest.raises(CheckpointError, match=r"x\.pt: belongs to trial .*-0, but this is .*-1: .* give another file"):
        next(fit(make_config(seed=1), data, execution, Checkpointer(tmp_path / "x.pt")))


def test_checkpoint_of_another_kind_of_device_is_resumed(make_config, data, execution, tmp_path, caplog):
    config, file = make_config(), tmp_path / "x.pt"
    first = numbers(itertools.islice(fit(config, data, execution, Checkpointer(file)), 2))
    payload = torch.load(file, weights_only=True)
    torch.save({**payload, "device_type": "cuda", "generators": {"own": torch.zeros(16, dtype=torch.uint8)}}, file)
    history = train(config, data, execution, Checkpointer(file))
    assert history[:2] == first
    assert len(history) == 4
    assert "was written on cuda but is read on cpu" in caplog.text


def test_divergence_ends_the_trial_in_the_epoch_it_happens(make_config, data, execution):
    steps = []
    config = make_config(optimizer="sgd", lr=1e30, epochs=50, warmup_epochs=0, lr_schedule="constant")
    with pytest.raises(DivergedError, match=r"loss is (nan|inf) in epoch 1 at step \d of 5 .*sgd, lr 1e\+30.*lower lr"):
        list(fit(config, data, execution, should_stop=lambda: bool(steps.append(1))))
    assert len(steps) <= 5


def test_divergence_in_the_very_last_step_is_seen_by_the_validation(make_config, data, execution):
    config = make_config(
        optimizer="sgd", lr=1e38, momentum=0, batch_size=37, epochs=1, warmup_epochs=0, lr_schedule="constant"
    )
    with pytest.raises(DivergedError, match="validation loss is nan after epoch 1"):
        list(fit(config, data, execution))


def test_constant_channel_is_normalised_without_a_division_by_zero(make_config, data, execution):
    flat = dataclasses.replace(data, std=torch.zeros(3))
    assert all(math.isfinite(m.train_loss) for m in fit(make_config(epochs=1), flat, execution))


def test_single_image_batches_on_a_1x1_map_are_refused_before_training(make_config, data, execution):
    model = {"blocks": [1, 1, 1, 1], "channels": [4, 4, 4, 4], "pool_size": 1}
    with pytest.raises(ArchitectureError, match=r"layer4\.0\.conv1, whose map is 1x1.*batch_size is 1 .*>= 2"):
        list(fit(make_config(model=model, batch_size=1), data, execution))
    assert len(train(make_config(model=model, batch_size=12, epochs=1), data, execution)) == 1  # 37 = 12 + 12 + 13


def test_bf16_trains_and_keeps_its_weights_in_float32(make_config, data, tmp_path):
    execution = Execution(torch.device("cpu"), "bf16", compile=False, channels_last=True)
    config = make_config(epochs=2)
    first = train(config, data, execution, Checkpointer(tmp_path / "x.pt"))
    weights = load_checkpoint(tmp_path / "x.pt", config.trial_id)["model"].values()
    assert {tensor.dtype for tensor in weights} == {torch.float32, torch.int64}
    assert first != train(config, data, dataclasses.replace(execution, precision="fp32"))


def test_without_test_images_nothing_is_measured_on_them(make_config, data, execution):
    nothing = dataclasses.replace(data, test=data.test.first(0))
    epochs = fit(make_config(epochs=2), nothing, execution)
    history = numbers(itertools.islice(epochs, 2))
    assert history == [
        dataclasses.replace(m, test_accuracy=None) for m in train(make_config(epochs=2), data, execution)
    ]
    assert final_predictions(epochs).keys() == {"val"}
