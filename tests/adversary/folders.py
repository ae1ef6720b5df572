"""Attacks on what surrounds the tables: values in JSON files, and names of folders and files."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adversary.attack import Call, Place, command, read
from adversary.special_files import open_as_driver
from adversary.tables import EVIL_TEXTS, check_pages
from flexres_tune.results.paths import TABLES
from flexres_tune.submit.fetch import unpack_results

EVIL_JSON = (
    *("null", "true", "0", "-1", "1e999", "NaN", "-Infinity", "1" + "0" * 30, "1" * 5_000, '""', "[]", "{}", "[[]]"),
    *(
        "[" * 50_000,
        "[" * 500 + "]" * 500,
        '{"a":' * 500 + "1" + "}" * 500,
        '"\\ud800"',
        '"\\u0000"',
        '"' + "a" * 10**6 + '"',
    ),
    *('"2026-99-99"', '"9999-12-31T23:59:59+14:00"', '"0001-01-01T00:00:00-23:59"', "1e308", "[1, 2, 3]", '{"a": 1}'),
)
SWEEP_NAMES = (
    *("gamma2", "é", "a b", "x" * 200, "CON", "a.", "-x", ".hidden", "index.html", "report", "\n", "\x1b[2J", "\u202e"),
    *("%2e%2e", "&lt;", "'\"", "sweep'; DROP TABLE trials", "<script>", "SELECT", "alpha ", "Ａlpha", "alpha\u0301"),
)
PART_NAMES = (
    *(
        "part-00000001-00000001-1.parquet",
        "part-00000001-00000001-999999999.parquet",
        "part-00000001-00000001-0.parquet",
    ),
    *("part-00000001-00000001.parquet", "part-00000000-99999999.parquet", "part-99999999-00000001.parquet"),
    *("part-00000001-" + "9" * 100 + ".parquet", "part-" + "0" * 100 + "1-00000002.parquet", "part-1-2.parquet"),
    *(
        "part-00000005-00000005.parquet",
        "data.parquet",
        ".part-00000001-00000001.parquet",
        "part-²²²²²²²²-00000001.parquet",
    ),
)


def change_records(chance: random.Random, place: Place) -> Iterator[Call]:
    """A value somewhere in plan.json, driver.lock or .fetched.json is replaced."""
    sweep = place.results / "alpha"
    name = chance.choice(["plan.json", "plan.json", "plan.json", "driver.lock", ".fetched.json"])
    if name == ".fetched.json":
        shutil.rmtree(sweep)
        unpack_results(place.folder / "good.tar", place.results, "alpha", "ours:/x")
    path = sweep / name
    content = json.loads(path.read_text())
    for _ in range(6):
        path.write_text(_change_value(chance, content))
        yield command("query", "status", "--results", place.results)
    yield read(chance, place)
    yield open_as_driver(place)
    yield command("report", "--results", place.results, "--sweep", "alpha")
    yield Call("fetch", lambda: unpack_results(place.folder / "good.tar", place.results, "alpha", "ours:/x"))
    yield check_pages(place)


def _change_value(chance: random.Random, content: Any) -> str:
    """JSON of the content with one value, at any depth, replaced by text that may be no JSON."""
    mark = "@@value@@"
    copy = here = json.loads(json.dumps(content))
    key = chance.choice(list(here))
    while isinstance(here[key], dict | list) and here[key] and chance.random() < 0.7:
        here = here[key]
        key = chance.choice(list(here)) if isinstance(here, dict) else chance.randrange(len(here))
    if isinstance(here, dict) and chance.random() < 0.1:
        del here[key]
    else:
        here[key] = mark
    value = chance.choice([*EVIL_JSON, *map(json.dumps, EVIL_TEXTS)])
    return value if chance.random() < 0.05 else json.dumps(copy).replace(f'"{mark}"', value)


def add_names(chance: random.Random, place: Place) -> Iterator[Call]:
    """Copies of sweeps and parts under odd names, next to the real ones."""
    for _ in range(chance.choice([1, 3, 50])):
        target = place.results / chance.choice(SWEEP_NAMES)
        if not target.exists():
            shutil.copytree(place.results / chance.choice(["beta", "gamma"]), target)
    for _ in range(chance.choice([0, 1, 3])):
        table = place.results / "alpha" / chance.choice(TABLES)
        _copy_part(chance, table, table / chance.choice(PART_NAMES))
    for _ in range(2):
        yield read(chance, place)
    yield command("query", chance.choice(["status", "leaderboard"]), "--sweep", chance.choice(SWEEP_NAMES))
    yield open_as_driver(place)
    yield check_pages(place)


def _copy_part(chance: random.Random, table: Path, target: Path) -> None:
    """Copy one of the table's parts, or one of another table."""
    parts = sorted(table.glob("part-*.parquet")) if chance.random() < 0.7 else []
    parts = parts or sorted((table.parent / "trials").glob("part-*.parquet"))  # a table may be empty
    source = chance.choice(parts)
    if source != target:
        shutil.copyfile(source, target)
