from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flexres_tune.spec import PRESETS, count_flops, count_parameters, parse_architecture

REFERENCE = Path(__file__).parents[3] / "shared/reference/architectures.yaml"
OURS = {"tiny", "small"}


def test_there_are_all_27_published_architectures():
    assert len(set(PRESETS) - OURS) == 27


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_count_that_it_states(name):
    assert count_parameters(name) == PRESETS[name]["num_parameters"] < 5_000_000


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_knows_its_name(name):
    assert parse_architecture(name).name == name
    assert count_flops(name) > 2 * count_parameters(name) / 10


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference table is not next to this checkout")
def test_presets_equal_the_reference_table():
    groups = YAML(typ="safe", pure=True).load(REFERENCE.read_text())
    rows = {name: row for group in groups.values() for name, row in group.items()}
    assert {name: dict(PRESETS[name]) for name in PRESETS if name not in OURS} == rows
