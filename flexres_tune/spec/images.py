"""Which images a trial uses, as one text: its data set with the options that change the images or their labels.

`parquet:PATH?label_column=fine_label&resize=32+center&test=none`. In a sweep file each option is a key of its own; the
text is what the rooms of data sets are asked for, and what the tables of predictions name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import quote, unquote

from flexres_tune.spec.document.document import show
from flexres_tune.spec.own_code.source import CodeName

MAX_SIZE = 512  # pixels, height and width of decoded images

TestImages = Literal["all", "none"]
_RESIZE = re.compile(r"(?P<size>[0-9]{1,4})(?P<crop> center)?")
_VALUE = r"[^&?=]+"
_OPTIONS = re.compile(rf"(?P<dataset>.+)\?(?P<options>(label_column|resize|test)={_VALUE}(&(resize|test)={_VALUE})*)")


@dataclass(frozen=True)
class Resize:
    """How decoded images are brought to one size."""

    size: int  # pixels, height and width
    crop: bool = False  # keep the shape of what is seen: scale the shorter side, cut the longer one at both ends

    @classmethod
    def parse(cls, value: Any) -> Resize:
        """Of `32`, `{size: 32, crop: center}`, or the text that str() gives.

        Raises:
            ValueError: another form, or a size out of range.
        """
        if isinstance(value, str) and (match := _RESIZE.fullmatch(value)):
            value = {"size": int(match["size"]), "crop": "center" if match["crop"] else None}
        if not isinstance(value, Mapping):
            value = {"size": value}
        size, crop = value.get("size"), value.get("crop")
        if set(value) - {"size", "crop"} or crop not in (None, "center") or type(size) is not int:
            raise ValueError(
                f"must be a size, or {{size: 32, crop: center}}, but got {show(dict(value) if 'size' in value else value)}"
                "; without crop images are stretched to the square"
            )
        if not 1 <= size <= MAX_SIZE:
            raise ValueError(f"size must be from 1 to {MAX_SIZE} pixels, but got {show(size)}; for example 32")
        return cls(size, crop is not None)

    def __str__(self) -> str:
        return f"{self.size} center" if self.crop else str(self.size)


@dataclass(frozen=True)
class ImageOptions:
    """Options of a data set that change its images or labels."""

    label_column: str | None = None  # of a Parquet folder
    resize: Resize | None = None
    has_test: bool = True  # False: nothing is measured on test images, and there need not be any

    def __bool__(self) -> bool:
        return self != ImageOptions()


def name_images(dataset: str, options: ImageOptions) -> str:
    """The text that names the images; own code stays a reference with its source.

    The data set may have a label column already, as files had it before it was a key.
    """
    if not options:
        return dataset
    dataset, old = split_options(dataset)
    options = replace(options, label_column=options.label_column or old.label_column)
    parts = [f"label_column={quote(options.label_column, safe='')}"] if options.label_column else []
    if options.resize:
        parts.append(f"resize={str(options.resize).replace(' ', '+')}")
    if not options.has_test:
        parts.append("test=none")
    text = f"{dataset}?{'&'.join(parts)}"
    return CodeName(text, dataset.source) if isinstance(dataset, CodeName) else text


def split_options(images: str) -> tuple[str, ImageOptions]:
    """(data set, options) of a text that names images; a `?` of another form belongs to the path.

    Raises:
        ValueError: the size of `resize` is out of range, or it has another form.
    """
    match = _OPTIONS.fullmatch(images)
    if match is None:
        return images, ImageOptions()
    values = dict(part.split("=") for part in match["options"].split("&"))
    column, resize, test = (values.get(name) for name in ("label_column", "resize", "test"))
    if test not in (None, "none", "all"):
        raise ValueError(f"test must be all or none, but got {show(test)}")
    options = ImageOptions(
        label_column=unquote(column) if column else None,
        resize=Resize.parse(resize.replace("+", " ")) if resize else None,
        has_test=test != "none",
    )
    dataset = match["dataset"]
    return CodeName(dataset, images.source) if isinstance(images, CodeName) else dataset, options
