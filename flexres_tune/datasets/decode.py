"""Decodes images into one uint8 array, with Pillow in threads and with limits, because anyone may have made them."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from flexres_tune.datasets.table import ImageTable
from flexres_tune.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

_MAX_SIZE = 512  # pixels: limits the memory of one decoded image
# Formats are listed because Pillow also opens some that run other programs (EPS) or hold many images
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits per channel: RGB holds them without loss
_CHUNK = 128  # images per task


def read_image_size(table: ImageTable) -> int:
    """Height and width of the first image, from its header."""
    image = _open(table.path, 0, next(table.iter_encoded(batch_size=1))[0])
    if image.width != image.height:
        raise DataError(
            f"{table.path}: row 0: images must be square, but this is {image.width}x{image.height}; crop or pad them"
        )
    return image.width


def decode_images(tables: Sequence[ImageTable], size: int) -> np.ndarray:
    """All images of the tables as RGB, one table after the other: (N, 3, size, size) uint8.

    Raises:
        DataError: an image cannot be decoded or has another size; names the first such row.
    """
    import numpy as np

    out = np.empty((sum(map(len, tables)), 3, size, size), np.uint8)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        first = 0
        for table in tables:
            _decode_table(table, out[first : first + len(table)], pool)
            first += len(table)
    return out


def _decode_table(table: ImageTable, out: np.ndarray, pool: ThreadPoolExecutor) -> None:
    import numpy as np

    size = out.shape[-1]

    def decode_chunk(first: int, encoded: list[bytes | None]) -> None:
        pixels = np.empty((len(encoded), size, size, 3), np.uint8)
        for i, data in enumerate(encoded):
            pixels[i] = _decode(table.path, first + i, data, size)
        out[first : first + len(encoded)] = pixels.transpose(0, 3, 1, 2)

    row = 0
    for batch in table.iter_encoded():
        chunks = [batch[i : i + _CHUNK] for i in range(0, len(batch), _CHUNK)]
        for _ in pool.map(decode_chunk, range(row, row + len(batch), _CHUNK), chunks):
            pass  # raises the error of the first chunk that has one
        row += len(batch)


def _open(path: Path, row: int, data: bytes | None) -> Image.Image:
    """The image with its header read and checked; no pixel is decoded."""
    from PIL import Image

    if not data:
        raise DataError(
            f"{path}: row {row}: the image must be stored in `bytes`, but that is empty; "
            "embed the files (datasets.Dataset.to_parquet does)"
        )
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Exception as error:  # Pillow's plugins raise many kinds of errors
        raise _undecodable(path, row, error) from None
    if max(image.size) > _MAX_SIZE:
        raise DataError(
            f"{path}: row {row}: images must be at most {_MAX_SIZE}x{_MAX_SIZE} pixels, but this is "
            f"{image.width}x{image.height}; scale them down"
        )
    if image.mode not in _MODES:
        raise DataError(f"{path}: row {row}: images must have 8 bits per channel, but this has mode {image.mode}")
    return image


def _decode(path: Path, row: int, data: bytes | None, size: int) -> Image.Image:
    image = _open(path, row, data)
    if image.size != (size, size):
        raise DataError(
            f"{path}: row {row}: all images must be {size}x{size} as the first training image is, but this is "
            f"{image.width}x{image.height}; resize them"
        )
    try:
        return image.convert("RGB")
    except Exception as error:
        raise _undecodable(path, row, error) from None


def _undecodable(path: Path, row: int, error: Exception) -> DataError:
    reason = "has another format" if type(error).__name__ == "UnidentifiedImageError" else f"is damaged: {error}"
    return DataError(
        f"{path}: row {row}: the image must be a complete {', '.join(_FORMATS)} file, but {reason}; remove the row"
    )
