"""Attacks on `predictions` and `labels`: lists that keep their lengths, but whose elements contradict each other."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from adversary.attack import FORMATS, QUERIES, Call, Place, command, write_report
from adversary.tables import EVIL_TEXTS, all_files, check_pages, evil_value

OF_PREDICTIONS = ("classes", "confusion", "disagree", "hardest", "ensemble", "SELECT * FROM predictions")
STRANGE_KEYS = {
    "dataset": ("digits", "cifar10", "", None),
    "split": ("val", "test", "train"),
    "subset": ("0", "fixed", ""),
}


def change_lists(chance: random.Random, place: Place) -> Iterator[Call]:
    """Elements of the lists of some rows, keys, or whole rows change; then everything is asked that reads them."""
    tables = [path for path in all_files(place) if path.parent.name in ("predictions", "labels")]
    for path in chance.sample(tables, chance.choice([1, 1, 2])):
        rows = pq.read_table(path)
        changed = change_rows(chance, rows.to_pylist(), rows.schema)
        try:
            pq.write_table(pa.Table.from_pylist(changed, rows.schema), path)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):  # the column cannot hold the value
            continue
    queries = [words for words in QUERIES if words[0] in OF_PREDICTIONS]
    for words in chance.sample(queries, 4):
        split = ["--split", chance.choice(["val", "test"])] if words[0] in ("classes", "hardest", "disagree") else []
        form = chance.choice(FORMATS)
        out = ["--out", str(place.folder / "answer.parquet")] if form == "parquet" else []
        sweep = chance.choice(["alpha", "alpha", "alpha", "beta"])
        yield command("query", *words, *split, "--sweep", sweep, "--results", place.results, "--format", form, *out)
    yield write_report(chance, place)
    yield check_pages(place)


def change_rows(chance: random.Random, rows: list[dict], schema: pa.Schema) -> list[dict]:
    """Rows after one to four changes."""
    for _ in range(chance.choice([1, 1, 2, 4])):
        if not rows:
            return rows
        row = chance.choice(rows)
        action = chance.choice(["element", "element", "element", "same", "length", "order", "names", "key", "row"])
        name = chance.choice([field.name for field in schema if pa.types.is_list(field.type)])
        kind, values = schema.field(name).type.value_type, list(row[name] or [])
        if action == "element" and values:
            for place in chance.sample(range(len(values)), chance.choice([1, len(values)])):
                values[place] = evil_value(chance, kind)
        elif action == "same" and values:
            values = [chance.choice(values)] * len(values)
        elif action == "length":
            values = chance.choice([values[:-1], values * 2, [], values * 3_000])
        elif action == "order":
            chance.shuffle(values)
        row[name] = values
        if action == "names" and "class_names" in row:
            row["class_names"] = chance.choices(EVIL_TEXTS, k=chance.choice([0, 1, 4, 300]))
        elif action == "key":
            key = chance.choice(list(STRANGE_KEYS))
            row[key] = chance.choice(STRANGE_KEYS[key])
        elif action == "row":
            rows = chance.choice([[*rows, dict(row)], [each for each in rows if each is not row], rows[::-1]])
    return rows
