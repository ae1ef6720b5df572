from __future__ import annotations

from random import Random

import pytest
from helpers.factories import make_sweep
from pydantic import ValidationError

from flexres_tune.spec import Distribution, SweepSpec


@pytest.mark.parametrize(
    ("written", "distribution"),
    [
        ({"min": 1, "max": 5}, "int_uniform"),
        ({"min": 1.0, "max": 5}, "uniform"),
        ({"min": 1, "max": 5, "distribution": "uniform"}, "uniform"),
        ({"min": 1, "max": 5, "distribution": "log_uniform_values"}, "log_uniform_values"),
        ({"values": [1, 2]}, None),
    ],
)
def test_a_range_has_the_distribution_of_its_bounds(written, distribution):
    assert Distribution.model_validate(written).distribution == distribution


def test_value_is_one_of_values():
    assert Distribution.model_validate({"value": [1, 2]}).values == ([1, 2],)


@pytest.mark.parametrize(
    "written",
    [
        {"min": 2, "max": 4},
        {"min": 1e-300, "max": 1e-299, "distribution": "log_uniform_values"},
        {"min": -3.5, "max": -3.5},
        {"values": ["a", "b"]},
    ],
)
def test_draws_stay_within_and_read_back(written):
    distribution = Distribution.model_validate(written)
    random = Random(0)
    draws = [distribution.draw(random) for _ in range(200)]
    if distribution.is_range:
        assert all(distribution.min <= draw <= distribution.max for draw in draws)
    assert (
        len(set(draws))
        == {"int_uniform": 3, "uniform": 1, "log_uniform_values": 200, None: 2}[distribution.distribution]
    )
    assert Distribution.model_validate(distribution.as_written()) == distribution


def test_a_distribution_is_frozen():
    with pytest.raises(ValidationError):
        Distribution.model_validate({"value": 1}).min = 3


def test_validation_is_short_for_two_fields_of_base():
    spec = make_sweep(validation={"images": 100, "split": "by_seed"})
    assert spec.base["num_val_images"] == 100 and spec.base["val_split"] == "by_seed"
    assert make_sweep(validation={"split": "fixed"}).base == make_sweep().base, "ids of old trials stay"
    assert SweepSpec.model_validate(spec.resolved()).base == spec.base
    with pytest.raises(ValidationError, match="validation and base.val_split must agree"):
        make_sweep(base={"val_split": "k_fold"}, validation={"split": "by_seed"})
