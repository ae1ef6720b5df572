"""The cost line of a dry run."""

import pytest

from flexres_tune.estimate.estimate import Estimate
from flexres_tune.estimate.price import Price, describe_cost, num_slots_of


def test_cost_is_workers_times_hours_times_price():
    found = Estimate((100, 120), device_seconds=(3600, 7200), wall_seconds=(1800, 3600))
    assert describe_cost(found, Price(1.5, 0.25, num_workers=8)) == (
        "cost: 8 workers x 0.5 to 1 h x 1.50 USD + 0.5 to 1 h x 0.25 USD for the head = 6.12 to 12.25 USD, if all "
        "workers run all the time"
    )
    assert describe_cost(found, Price(2.0)).startswith("cost: 1 worker x 0.5 to 1 h x 2.00 USD = 1.00 to 2.00 USD,")


def test_cost_per_hour_is_shown_if_the_time_is_not_known():
    text = describe_cost(Estimate((100, 120)), Price(1.5, 0.25, num_workers=2))
    assert text == ("cost: 2 workers x 1.50 USD + a head at 0.25 USD = 3.25 USD per hour; how many hours is not known")


@pytest.mark.parametrize(("gpu", "slots"), [(0.25, 8), (0.1, 20), (1 / 3, 6), (1, 2), (2, 2), (0, 2), ("auto", 2)])
def test_slots_follow_the_part_of_a_gpu_that_a_trial_holds(gpu, slots):
    assert num_slots_of(Price(1.0, num_workers=2), gpu) == slots
