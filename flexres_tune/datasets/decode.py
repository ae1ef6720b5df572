"""Decodes images into one uint8 array, with Pillow in threads and with limits, because anyone may have made them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from flexres_tune.errors import DataError
from flexres_tune.spec.images import MAX_SIZE, Resize

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MAX_DECODED_BYTES = 16 * 2**30
_MAX_PIXELS = 2**26  # of an image that is resized: 8192x8192, 200 MB while it is decoded
# Formats are listed because Pillow also opens some that run other programs (EPS) or hold many images
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits per channel: RGB holds them without loss
_CHUNK = 128  # images per task, at most
_NUM_THREADS = 8
_HOW_TO_RESIZE = "write resize: {size: 32, crop: center}, or resize: 32, which stretches"


class EncodedImages(Protocol):
    """Images as they are stored: a Parquet file, or the files of a folder."""

    def __len__(self) -> int:
        """Number of images."""

    def place(self, row: int) -> str:
        """Where an image is, for messages: its file, and its row there."""

    def iter_encoded(self, batch_size: int = ...) -> Iterator[list[bytes | None]]:
        """The encoded images, in batches; None for a row without one."""


def read_image_size(images: EncodedImages, resize: Resize | None = None) -> int:
    """Height and width that the images are decoded to: the first one's, from its header, unless they are resized."""
    if resize is not None:
        return resize.size
    image = _open(images.place(0), next(images.iter_encoded(batch_size=1))[0], None)
    if image.width != image.height:
        raise DataError(
            f"{images.place(0)}: images must be square, but this is {image.width}x{image.height}; {_HOW_TO_RESIZE}"
        )
    return image.width


def decode_images(parts: Sequence[EncodedImages], size: int, resize: Resize | None = None) -> np.ndarray:
    """All images as RGB, one part after the other: (N, 3, size, size) uint8.

    Args:
        resize: how images of other sizes are brought to `size`; they are also turned upright as their EXIF data say.
            None: each must have that size.

    Raises:
        DataError: an image cannot be decoded or has another size; names the first such row.
    """
    import numpy as np

    out = np.empty((sum(map(len, parts)), 3, size, size), np.uint8)
    with ThreadPoolExecutor(min(_NUM_THREADS, os.cpu_count() or 1)) as pool:
        first = 0
        for part in parts:
            _decode_part(part, out[first : first + len(part)], resize, pool)
            first += len(part)
    return out


def check_decoded_size(name: str, num_images: int, size: int) -> None:
    """Refuse images that need too much memory.

    Raises:
        DataError: together they are over MAX_DECODED_BYTES.
    """
    num_bytes = num_images * 3 * size * size
    if num_bytes > MAX_DECODED_BYTES:
        raise DataError(
            f"{name}: decoded images must fit in {MAX_DECODED_BYTES / 2**30:.0f} GiB, but "
            f"{num_images:,} of {size}x{size} need {num_bytes / 2**30:.0f} GiB; use fewer or smaller"
        )


def resize_arrays(images: np.ndarray, resize: Resize) -> np.ndarray:
    """(N, 3, H, W) uint8 -> (N, 3, size, size) uint8, as `decode_images` resizes files."""
    import numpy as np
    from PIL import Image

    out = np.empty((len(images), 3, resize.size, resize.size), np.uint8)

    def resize_chunk(first: int) -> None:
        for i in range(first, min(first + _CHUNK, len(images))):
            image = Image.fromarray(np.ascontiguousarray(images[i].transpose(1, 2, 0)))
            out[i] = np.asarray(_fit(image, resize)).transpose(2, 0, 1)

    with ThreadPoolExecutor(min(_NUM_THREADS, os.cpu_count() or 1)) as pool:
        for _ in pool.map(resize_chunk, range(0, len(images), _CHUNK)):
            pass
    return out


def _decode_part(part: EncodedImages, out: np.ndarray, resize: Resize | None, pool: ThreadPoolExecutor) -> None:
    import numpy as np

    size = out.shape[-1]

    def decode_chunk(first: int, encoded: list[bytes | None]) -> None:
        pixels = np.empty((len(encoded), size, size, 3), np.uint8)
        for i, data in enumerate(encoded):
            pixels[i] = _decode(part.place(first + i), data, size, resize)
        out[first : first + len(encoded)] = pixels.transpose(0, 3, 1, 2)

    row = 0
    for batch in part.iter_encoded():
        step = min(_CHUNK, -(-len(batch) // _NUM_THREADS))  # so that a short batch keeps all threads busy, too
        chunks = [batch[i : i + step] for i in range(0, len(batch), step)]
        for _ in pool.map(decode_chunk, range(row, row + len(batch), step), chunks):
            pass  # raises the error of the first chunk that has one
        row += len(batch)


def _open(place: str, data: bytes | None, resize: Resize | None) -> Image.Image:
    """The image with its header read and checked; no pixel is decoded."""
    from PIL import Image

    if not data:
        raise DataError(
            f"{place}: the image must be stored in `bytes`, but that is empty; "
            "embed the files (datasets.Dataset.to_parquet does)"
        )
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # Pillow's plugins raise many kinds of errors
        raise _undecodable(place, error) from None
    if resize is None and max(image.size) > MAX_SIZE:
        raise DataError(
            f"{place}: images must be at most {MAX_SIZE}x{MAX_SIZE} pixels, but this is "
            f"{image.width}x{image.height}; {_HOW_TO_RESIZE}"
        )
    if image.width * image.height > _MAX_PIXELS:
        raise DataError(
            f"{place}: images must have at most {_MAX_PIXELS:,} pixels, but this is {image.width}x{image.height}; scale it down"
        )
    if image.mode not in _MODES:
        raise DataError(f"{place}: images must have 8 bits per channel, but this has mode {image.mode}; convert it")
    return image


def _decode(place: str, data: bytes | None, size: int, resize: Resize | None) -> Image.Image:
    from PIL import ImageOps

    image = _open(place, data, resize)
    if resize is None and image.size != (size, size):
        raise DataError(
            f"{place}: all images must be {size}x{size} as the first training image is, but this is "
            f"{image.width}x{image.height}; {_HOW_TO_RESIZE}"
        )
    try:
        if resize is None:
            return image.convert("RGB")
        image.draft("RGB", (2 * size, 2 * size))  # a JPEG of a camera is decoded at a fraction of its size
        return _fit(ImageOps.exif_transpose(image).convert("RGB"), resize)
    except Exception as error:
        raise _undecodable(place, error) from None


def _fit(image: Image.Image, resize: Resize) -> Image.Image:
    """The image in the wanted size, bilinear with antialiasing."""
    from PIL import Image, ImageOps

    size = (resize.size, resize.size)
    if image.size == size:
        return image
    if resize.crop:
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return image.resize(size, Image.Resampling.BILINEAR)


def _undecodable(place: str, error: Exception) -> DataError:
    reason = "has another format" if type(error).__name__ == "UnidentifiedImageError" else f"is damaged: {error}"
    return DataError(f"{place}: the image must be a complete {', '.join(FORMATS)} file, but {reason}; remove it")
