"""YAML 1.2 values and their lines; test_hostile_files.py has what is refused."""

from __future__ import annotations

import pytest

from flexres_tune.errors import SpecError
from flexres_tune.spec.document.yaml_reader import parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("5_000_000", 5_000_000),
        ("5e6", 5e6),
        (".5", 0.5),
        ("-1", -1),
        ("0x1F", 31),
        ("0o17", 15),
        ("012", 12),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("2001-01-01", "2001-01-01"),
        ("12:30:45", "12:30:45"),
        ("'1'", "1"),
        ("1_a", "1_a"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("[1, &a [2], *a]", [1, [2], [2]]),
    ],
)
def test_scalars_are_yaml_1_2(text, value):
    found = parse_yaml(text, "x.yaml").data
    assert found == value and type(found) is type(value)


def test_lines_are_those_of_the_keys():
    document = parse_yaml("a: 1\nb:\n  - c\n  - d: {e: 2,\n f: 3}\n", "x.yaml")
    lines = {path: place.line for path, place in document.places.items()}
    assert lines[("b",)] == 2 and lines[("b", 1)] == 4 and lines[("b", 1, "d", "f")] == 5


def test_every_duplicate_key_is_reported_with_the_line_of_the_first():
    with pytest.raises(SpecError) as caught:
        parse_yaml("a: 1\nb: 2\na: 3\nc: {b: 1, b: 2}\na: 4\n", "x.yaml")
    assert [(problem.line, problem.path, problem.message) for problem in caught.value.problems] == [
        (3, "a", "duplicate key, first defined on line 1; remove one"),
        (4, "c.b", "duplicate key, first defined on line 4; remove one"),
        (5, "a", "duplicate key, first defined on line 1; remove one"),
    ]


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: *a}", "- &a [1]\n- &b [*a, *b]\n"])
def test_alias_inside_its_own_anchor_is_refused(text):
    with pytest.raises(SpecError, match="must be at most 40 deep"):
        parse_yaml(text, "x.yaml")
