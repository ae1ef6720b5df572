"""Attacks on data: the files of `parquet:PATH`, changed in bytes, columns, labels, metadata and images."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from adversary.attack import Call, Place
from adversary.tables import EVIL_TEXTS, change_bytes, change_column
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.datasets.verify import verify_dataset


def damage_data(chance: random.Random, place: Place) -> Iterator[Call]:
    """A folder of images is described and decoded, or refused."""
    folder = place.folder / "images"
    path = folder / chance.choice(["train.parquet", "test.parquet"])
    content = path.read_bytes()
    for _ in range(4):
        action = chance.choice(["bytes", "bytes", "column", "image", "image", "metadata"])
        path.write_bytes(change_bytes(chance, content) if action == "bytes" else content)
        if action != "bytes":
            table = pq.read_table(path)
            change = {"column": change_column, "image": _change_images, "metadata": _change_metadata}[action]
            try:
                pq.write_table(change(chance, table), path)
            except (pa.ArrowException, ValueError):
                continue
        yield Call(f"describe data ({action})", lambda: describe_dataset(f"parquet:{folder}"))
        yield Call(f"decode data ({action})", lambda: verify_dataset(f"parquet:{folder}"))


def _change_images(chance: random.Random, table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    for row in chance.sample(rows, chance.choice([1, 1, len(rows)])):
        row["img"] = {"bytes": _image(chance, row["img"]["bytes"]), "path": chance.choice([None, *EVIL_TEXTS[:9]])}
    return pa.Table.from_pylist(rows, table.schema)


def _image(chance: random.Random, good: bytes) -> bytes | None:
    kind = chance.choice(["bytes", "bytes", "none", "bomb", "format", "text", "size"])
    if kind == "bytes":
        return change_bytes(chance, good)
    if kind == "none":
        return chance.choice([None, b"", b"\0"])
    if kind == "bomb":  # a header that promises 60,000 x 60,000 pixels
        header = struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0)
        return good[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + good[33:]
    if kind == "text":
        return b"%!PS-Adobe-3.0\n(canary) (w) file closefile\n" + bytes(100)
    size = (8, 8) if kind == "format" else (chance.choice([1, 7, 2_000]), chance.choice([1, 8, 2_000]))
    mode, form = chance.choice(
        [("RGB", "GIF"), ("L", "PNG"), ("CMYK", "JPEG"), ("1", "TIFF"), ("RGBA", "WEBP"), ("RGB", "ICO")]
    )
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form)
    return buffer.getvalue()


def _change_metadata(chance: random.Random, table: pa.Table) -> pa.Table:
    names = chance.choice([[], ["a"], ["a", "b"], ["a"] * 100_000, [1, None], {"a": 1}, [[["x"]]], list(EVIL_TEXTS)])
    texts = [
        json.dumps({"info": {"features": {"label": {"names": names}}}}),
        "[" * 100_000,
        "{",
        "null",
        '{"info": ' * 5_000,
        "\ufffe",
    ]
    return table.replace_schema_metadata({b"huggingface": chance.choice(texts).encode()})
