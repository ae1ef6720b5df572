"""Power: seeds that separate a difference, checked by simulation."""

import numpy as np
import pytest
from helpers.command import invoke
from helpers.factories import make_sweep

from flexres_tune.analysis.power import seeds_needed, smallest_difference
from flexres_tune.query.__main__ import app
from flexres_tune.run.printout import describe_confirm_power
from flexres_tune.uncertainty.comparisons import compare_with_leader, critical_ranges, gaps, moments


@pytest.mark.parametrize("num_configs", [2, 6])
def test_seeds_that_are_asked_for_separate_the_difference_in_80_percent(num_configs):
    num_seeds = seeds_needed(1.0, 0.8, num_configs)
    values = np.random.default_rng(0).normal(0, 0.8, (4000, num_configs, num_seeds))
    values[:, 0] += 1.0
    gap = gaps(moments(values, False), 0)
    p = gap.difference[:, 1] / gap.error[:, 1] * 2**0.5 > critical_ranges(num_configs, gap.freedom[:, 1])
    assert 0.76 <= p.mean() <= 0.90  # a whole number of seeds has a little more power than asked for


def test_seeds_for_the_first_two_alone_would_not_separate_them_from_equal_others():
    """One configuration is ahead of five equal ones: what the summary asks for all six has the power, two alone do not."""
    random = np.random.default_rng(0)

    def power(num_seeds, num_others):
        found = []
        for _ in range(120):
            counts = [num_seeds, num_seeds, *[num_others] * 4]
            rows = [dict(enumerate(random.normal(place == 0, 1, n))) for place, n in enumerate(counts)]
            found.append(compare_with_leader(rows[0], rows[1:])[0].p_value < 0.05)
        return np.mean(found)

    for_two, for_six = (seeds_needed(1.0, 1.0, num_configs) for num_configs in (2, 6))
    assert power(for_two, 4) < 0.65 and power(for_six, for_six) > 0.78


def test_smallest_difference_is_the_inverse():
    num_seeds = seeds_needed(0.5, 1.0, 4)
    assert smallest_difference(1.0, num_seeds, 4) == pytest.approx(0.5, rel=0.02)
    assert seeds_needed(0.001, 1.0, 2) is None and smallest_difference(1.0, 1, 2) is None


def test_command_answers_in_points_and_refuses_what_is_not_known(results, paths):
    opened = results(
        *(({"lr": 0.1}, seed, "completed", 0.90 + seed / 100) for seed in range(3)),
        *(({"lr": 0.2}, seed, "completed", 0.89 + seed**2 / 200) for seed in range(3)),
    )
    assert opened
    text = invoke(app, "power", "--difference", "0.5", "--results", paths.root).output
    assert "to separate 0.5 points with 80 % power" in text and "device" in text


def test_one_seed_has_no_power(results, paths):
    results(({"lr": 0.1}, 0, "completed", 0.9), ({"lr": 0.2}, 0, "completed", 0.8))
    done = invoke(app, "power", "--difference", "1", "--results", paths.root)
    assert "power needs configurations with at least two seeds" in done.output


def test_dry_run_says_what_the_seeds_of_confirm_can_show(results, paths):
    spec = make_sweep(name="demo", confirm={"top": 2, "seeds": [10, 11, 12, 13]})
    assert describe_confirm_power(paths, spec) == ""  # no tables yet
    results(*(({"lr": lr}, seed, "completed", 0.9 + lr + seed**2 / 1000) for lr in (0.01, 0.02) for seed in range(3)))
    results(*(({"lr": 0.03}, seed, "completed", 0.9 + seed / 1000) for seed in range(3)))
    text = describe_confirm_power(paths, spec)
    assert text.startswith("confirm: 4 seeds can show a difference of ") and "between two of 2 configurations" in text
    assert describe_confirm_power(paths, make_sweep(name="demo")) == ""
