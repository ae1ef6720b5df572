"""Attacks on tables: bytes of any file of a results folder are changed, or whole columns of a part are replaced."""

from __future__ import annotations

import logging
import math
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adversary.attack import CANARY, Call, Place, read
from adversary.oracle import bad_page
from flexres_tune.results import open_results
from flexres_tune.results.paths import TABLES

EVIL_TEXTS = (
    "",
    " ",
    "\0",
    "\x1b]0;title\x07\x1b[31m",
    "\u202egnp.exe",
    "\ud7ff\uffff\U0010ffff",
    "a" * 100_000,
    "é" * 5_000,
    "\n" * 1_000,
    "1e999",
    "nan",
    "../../../etc/passwd",
    "=cmd|' /C calc'!A0",
    "[red]x[/red] [link=http://evil]y[/link]",
    "'; DROP TABLE trials; --",
    f"<script>{CANARY}()</script>",
    f'"><img src=x onerror={CANARY}()>',
    f"</script><script>{CANARY}()</script>",
    f"javascript:{CANARY}()",
    f"$({CANARY})`{CANARY}`",
    "{0.__class__} %s %n",
    "|a|b|\n|-|-|",
)
EVIL_NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 10**6)
EVIL_FLOATS = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1e308, 5e-324, 1.0000001, -1.0)


def all_files(place: Place) -> list[Path]:
    return sorted(path for path in place.results.rglob("*") if path.is_file())


def change_bytes(chance: random.Random, content: bytes) -> bytes:
    """Content after one to three changes: bits, bytes, cuts, repeats; more often in the last part, the footer."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        size = len(data)
        if not size:
            return bytes(data)
        at = chance.randrange(max(0, size - 4_000), size) if chance.random() < 0.6 else chance.randrange(size)
        length = min(chance.choice([1, 1, 2, 4, 8, 64, 1_000]), size - at)
        kind = chance.choice(["bit", "bit", "byte", "byte", "zero", "cut", "repeat", "end", "number", "swap"])
        if kind == "bit":
            data[at] ^= 1 << chance.randrange(8)
        elif kind == "byte":
            data[at] = chance.randrange(256)
        elif kind == "zero":
            data[at : at + length] = bytes(length)
        elif kind == "cut":
            del data[at : at + length]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        elif kind == "end":
            del data[at:]
        elif kind == "number":
            data[at : at + 4] = chance.choice([b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0\0\0\x80", b"\x01\0\0\0"])
        else:
            other = chance.randrange(size)
            data[at], data[other] = data[other], data[at]
    return bytes(data)


def mutate_bytes(chance: random.Random, place: Place) -> Iterator[Call]:
    """Bytes of one file of a results folder; a part is read as it was, or there is a warning."""
    before = {name: _rows(place, name) for name in TABLES}
    path = chance.choice(all_files(place))
    content = path.read_bytes()
    for _ in range(20 if path.suffix == ".parquet" else 1):
        path.write_bytes(change_bytes(chance, content))
        if path.suffix == ".parquet":
            yield Call(f"read {path.name} of {path.parent.name}", lambda: _check_rows(place, path, before))
    for _ in range(chance.choice([1, 1, 2])):
        yield read(chance, place)
    yield check_pages(place)


def _rows(place: Place, name: str) -> list[dict]:
    return open_results(place.results).table(name).to_pylist()


def _check_rows(place: Place, path: Path, before: dict[str, list[dict]]) -> None:
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger = logging.getLogger("flexres_tune")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            after = _rows(place, path.parent.name)
    finally:
        logger.removeHandler(handler)
    assert heard or repr(after) == repr(before[path.parent.name]), f"{path.name}: other values without a warning"


def replace_columns(chance: random.Random, place: Place) -> Iterator[Call]:
    """One to three columns of a part are replaced by nulls, extreme values, other types or nested types."""
    path = chance.choice([path for path in all_files(place) if path.suffix == ".parquet"])
    table = pq.read_table(path)
    for _ in range(chance.choice([1, 1, 2, 3])):
        table = change_column(chance, table)
    if chance.random() < 0.2:
        table = chance.choice([table.slice(0, 0), pa.concat_tables([table] * 3), table.slice(1)])
    try:
        pq.write_table(table, path)
    except (pa.ArrowException, ValueError):  # Parquet has no such type
        return
    for _ in range(chance.choice([2, 3, 4])):
        yield read(chance, place)
    yield check_pages(place)


def change_column(chance: random.Random, table: pa.Table) -> pa.Table:
    """The table with one column replaced, dropped, renamed or added."""
    index = chance.randrange(table.num_columns)
    field, num_rows = table.schema.field(index), table.num_rows
    action = chance.choice(["values", "values", "values", "one", "null", "type", "type", "drop", "rename", "add"])
    if action == "drop":
        return table.remove_column(index)
    if action == "rename":
        names = table.column_names
        names[index] = chance.choice([*names, "", "a b", "sweep", *EVIL_TEXTS[:6]])
        return table.rename_columns(names)
    if action == "null":
        return table.set_column(index, field, pa.nulls(num_rows, field.type))
    if action in ("type", "add"):
        values = pa.array([_strange_value(chance)] * num_rows) if num_rows else pa.array([], pa.string())
        name = field.name if action == "type" else chance.choice(["extra", *EVIL_TEXTS[:6]])
        return table.set_column(index, name, values) if action == "type" else table.append_column(name, values)
    values = table.column(index).to_pylist()
    chosen = range(num_rows) if action == "values" else chance.sample(range(num_rows), min(1, num_rows))
    same = chance.random() < 0.5
    one = evil_value(chance, field.type)
    for row in chosen:
        values[row] = one if same else evil_value(chance, field.type)
    try:
        return table.set_column(index, field, pa.array(values, field.type))
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return table.set_column(index, field, pa.nulls(num_rows, field.type))


def evil_value(chance: random.Random, kind: pa.DataType):
    """A value of that type that a table should not have."""
    if chance.random() < 0.1:
        return None
    if pa.types.is_string(kind):
        return chance.choice(EVIL_TEXTS)
    if pa.types.is_integer(kind):
        value = chance.choice(EVIL_NUMBERS)
        return value if kind.bit_width == 64 or abs(value) < 2**31 else 2**31 - 1
    if pa.types.is_floating(kind):
        return chance.choice(EVIL_FLOATS)
    if pa.types.is_boolean(kind):
        return chance.choice([True, False])
    if pa.types.is_timestamp(kind):
        return chance.choice([0, -(2**62), 2**62, 253_402_300_800_000_000])
    if pa.types.is_list(kind):
        return [evil_value(chance, kind.value_type) for _ in range(chance.choice([0, 1, 2, 50]))]
    return {kind[i].name: evil_value(chance, kind[i].type) for i in range(kind.num_fields)}


def _strange_value(chance: random.Random):
    deep: object = 1
    for _ in range(chance.choice([2, 30])):
        deep = [deep]
    return chance.choice(
        [True, 7, 1.5, "text", b"\xff\0", deep, {"a": {"b": [1]}}, [{"a": "b"}], [[1], []], None, "1", "0.5"]
    )


def check_pages(place: Place) -> Call:
    """No value of a table is HTML or a control character in a page that was written."""

    def check() -> None:
        for page in (*place.results.glob("*/report.html"), *place.results.glob("index.html")):
            if page.is_file() and (found := bad_page(page.read_text(encoding="utf-8"))):
                raise AssertionError(f"{page.name}: {found[0]}")

    return Call("look at the pages", check)
