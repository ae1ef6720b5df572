"""A sweep of Python as a Document: the values of a sweep file, and a problem per value that a file could not hold."""

from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import SpecError
from flexres_tune.spec import SweepSpec, expand_trials, load_sweep
from flexres_tune.spec.document.plain import plain_document

GOOD = Path(__file__).parents[1] / "good.yaml"


class Kind(Enum):
    GRID = "grid"


def test_values_of_python_become_those_of_a_file():
    document = plain_document(
        {
            "method": Kind.GRID,
            "seeds": (0, np.int64(1)),
            "base": {"lr": np.float32(0.5), "dataset": Path("a/b")},
            "x": None,
        }
    )
    assert document.data == {"method": "grid", "seeds": [0, 1], "base": {"lr": 0.5, "dataset": "a/b"}, "x": None}
    assert type(document.data["seeds"][1]) is int


def test_every_value_that_a_file_could_not_hold_is_reported_with_its_key():
    deep = leaf = []
    for _ in range(60):
        leaf.append([])
        leaf = leaf[0]
    with pytest.raises(SpecError) as caught:
        plain_document({"base": {"model": len, "lr": float("nan"), 3: 1}, "seeds": [{1, 2}], "deep": deep})
    assert str(caught.value).splitlines() == [
        "base: keys must be text, but got 3; write a name",
        "base.model: code must be named as FILE.py:NAME or package:NAME, but got a builtin_function_or_method; save it "
        "in a file",
        "base.lr: a number must be finite, but got nan; write one below 1e308",
        "seeds[0]: must be text, a number, true, false, null, a list or a mapping, but got a set",
        "deep[0][0]: lists and mappings must be at most 40 deep, but go deeper; flatten them",
    ]


@pytest.mark.parametrize("profile", ["none", "laptop"])
def test_spec_is_the_same_sweep_again(profile):
    spec = load_sweep(str(GOOD), profile=profile)
    again = load_sweep(spec)
    assert again.resolved() == spec.resolved() and again.profile == profile
    ids = [[trial.config.trial_id for trial in expand_trials(each, describe_dataset)] for each in (spec, again)]
    assert ids[0] == ids[1]


def test_spec_that_pydantic_accepts_is_checked_like_a_file():
    spec = SweepSpec(name="x", base={"model": "tyni", "lr": -1}, parameters=[{}])
    with pytest.raises(SpecError) as caught:
        load_sweep(spec, overrides=["seed=[1]"])
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines][:1] == ["--set seed"]
    assert any(line.startswith("base.model: must be a preset's name") for line in lines)
    assert any(line.startswith("base.lr: must be") for line in lines)
