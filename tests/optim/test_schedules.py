import itertools

import pytest
import torch

from flexres_tune.optim import SCHEDULES, learning_rate
from flexres_tune.spec.trial import SCHEDULE_NAMES, TrialConfig


def rates(schedule: str, epochs: int, num_steps_per_epoch: int, lr: float = 0.4, **fields) -> list[float]:
    config = TrialConfig(model="tiny", lr_schedule=schedule, epochs=epochs, lr=lr, **fields)
    return [learning_rate(config, step, num_steps_per_epoch) for step in range(epochs * num_steps_per_epoch)]


def test_every_name_of_the_spec_has_its_row():
    assert tuple(SCHEDULES) == SCHEDULE_NAMES


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (1, 10), (3, 7), (200, 1), (100_000, 1)])
def test_every_schedule_stays_above_zero_and_at_most_at_its_peak(schedule, epochs, steps):
    assert all(0 < lr <= 0.4 + 1e-12 for lr in rates(schedule, epochs, steps))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_depends_on_the_total_number_of_steps_alone(schedule):
    assert rates(schedule, 10, 6) == rates(schedule, 6, 10)


@pytest.mark.parametrize("epochs", [1, 2, 20, 300])
def test_cosine_ends_near_zero_over_its_own_length(epochs):
    lrs = rates("cosine", epochs, 50)
    assert lrs[0] == 0.4
    assert lrs[len(lrs) // 2] == pytest.approx(0.2)
    assert lrs[-1] < 1e-3 * lrs[0]
    assert lrs == sorted(lrs, reverse=True)


@pytest.mark.parametrize("epochs", [4, 40])
def test_step_falls_by_ten_at_half_and_three_quarters(epochs):
    runs = [(round(lr, 9), len(list(group))) for lr, group in itertools.groupby(rates("step", epochs, 10))]
    assert runs == [(0.4, 5 * epochs), (0.04, 2.5 * epochs), (0.004, 2.5 * epochs)]


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 3), (1, 10), (3, 9), (20, 16)])
def test_onecycle_equals_torchs(epochs, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.4, epochs * steps)
    expected = []
    for step in range(epochs * steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < epochs * steps - 1:
            scheduler.step()
    assert rates("onecycle", epochs, steps) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_warmup_rises_linearly_and_then_leaves_the_schedule_alone(schedule):
    with_warmup, without = rates(schedule, 40, 10, warmup_epochs=1.5), rates(schedule, 40, 10)
    factors = [a / b for a, b in zip(with_warmup, without, strict=True)]
    assert factors[:15] == pytest.approx([(i + 1) / 16 for i in range(15)])
    assert factors[15:] == [1.0] * (400 - 15)
