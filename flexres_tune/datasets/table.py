"""One Parquet file of labelled images, opened and checked: columns, labels and names of classes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flexres_tune.errors import DataError
from flexres_tune.storage import open_file, parse_json
from flexres_tune.text import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_IMAGE_COLUMNS = ("img", "image")
_BATCH = 1024  # rows read at a time


@dataclass(frozen=True)
class ImageTable:
    """An opened file. Rows are counted from 0, as in pandas and in Hugging Face's viewer."""

    path: Path
    image_column: str
    labels: np.ndarray  # (N,) int64, none negative
    class_names: tuple[str, ...] | None  # None: the schema's metadata has no names

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, row: int) -> str:
        """`folder/train.parquet: row 7`."""
        return f"{self.path}: row {row}"

    def iter_encoded(self, batch_size: int = _BATCH) -> Iterator[list[bytes | None]]:
        """The encoded images, in batches; None for a row without one."""
        import pyarrow.parquet as pq

        with _readable(self.path), open_file(self.path) as source, pq.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size, columns=[f"{self.image_column}.bytes"]):
                yield [image and image["bytes"] for image in batch.column(0).to_pylist()]


def open_table(path: Path, label_column: str | None = None) -> ImageTable:
    """Open and check one file.

    Args:
        label_column: the column of labels; None: `label`, or else the only column of whole numbers.

    Raises:
        DataError: the file is not of this form; names file, rule, what was found and what to do.
    """
    import pyarrow.parquet as pq

    with _readable(path), open_file(path) as source, pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        image_column = _image_column(path, schema)
        name = _label_column(path, schema, label_column)
        labels = file.read(columns=[name]).column(name)
    return ImageTable(path, image_column, _label_array(path, labels), _class_names(schema.metadata or {}, name))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Context that turns Arrow's errors into a DataError with the file's name."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise DataError(
            f"{path}: must be a complete Parquet file, but cannot be read: {' '.join(str(error).split())[:300]}; "
            "copy or download it again"
        ) from None


def _image_column(path: Path, schema: pa.Schema) -> str:
    import pyarrow as pa

    name = next((name for name in _IMAGE_COLUMNS if name in schema.names), None)
    if name is None:
        raise DataError(f"{path}: must have a column img or image {{bytes, path}}, but {_columns(schema, 'image')}")
    kind = schema.field(name).type
    field = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
    if field < 0 or not (pa.types.is_binary(kind[field].type) or pa.types.is_large_binary(kind[field].type)):
        raise DataError(
            f"{path}: column {name} must be a struct {{bytes: binary, path: string}}, but is {kind}; "
            "datasets.Dataset.to_parquet writes that form from an Image feature"
        )
    return name


def _label_column(path: Path, schema: pa.Schema, wanted: str | None) -> str:
    import pyarrow as pa

    whole = [field.name for field in schema if pa.types.is_integer(field.type)]
    name = wanted or ("label" if "label" in schema.names or len(whole) != 1 else whole[0])
    if name not in schema.names:
        choices = f"; for example label_column: {whole[0]}" if whole and not wanted else ""
        raise DataError(f"{path}: must have a column {name}, but {_columns(schema, name)}{choices}")
    kind = schema.field(name).type
    if not pa.types.is_integer(kind):
        raise DataError(
            f"{path}: column {name} must be of integers 0 to K-1, but is {kind}; encode the classes as such"
        )
    return name


def _columns(schema: pa.Schema, wanted: str) -> str:
    return f"has {', '.join(schema.names) or 'none'}{did_you_mean(wanted, schema.names)}"


def _label_array(path: Path, labels: pa.ChunkedArray) -> np.ndarray:
    import numpy as np

    if labels.null_count:
        row = int(np.argmax(np.asarray(labels.is_null())))
        raise DataError(f"{path}: row {row}: label must be an integer, but is missing")
    # not labels.to_numpy(), which imports pandas if it is installed: that takes half of the time of `describe`
    chunks = [np.from_dlpack(chunk) for chunk in labels.chunks]
    values = np.concatenate(chunks) if chunks else np.empty(0, np.int64)
    is_wrong = (values < 0) | (values >= 2**31)  # also true for uint64 values above int64's range
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise DataError(
            f"{path}: row {row}: label must be from 0 to K-1, but is {values[row]}; "
            "-1 often marks rows without a label: remove them"
        )
    return values.astype(np.int64)


def _class_names(metadata: dict[bytes, bytes], label_column: str) -> tuple[str, ...] | None:
    """Names from Hugging Face's `huggingface` entry, or from a comma-separated `classes` entry."""
    try:
        names = parse_json(metadata[b"huggingface"])["info"]["features"][label_column]["names"]
    except (KeyError, ValueError, TypeError):
        names = metadata.get(b"classes", b"").decode(errors="replace").split(",")
    names = tuple(str(name).strip() for name in names) if isinstance(names, list) else ()
    return names if len(names) > 1 else None
