"""Finds the references to own code in a sweep file or among options, reads their sources, and checks what they take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flexres_tune.spec.document.document import Finding, KeyPath
from flexres_tune.spec.metrics import METRIC_TRAITS
from flexres_tune.spec.own_code.source import CodeError, CodeName, Source, is_reference, read_source, signature_problem
from flexres_tune.spec.presets import PRESETS
from flexres_tune.spec.trial import (
    AUGMENTATION_NAMES,
    DATASET_FORMS,
    OPTIMIZER_TRAITS,
    OWN_CODE_FIELDS,
    SCHEDULE_NAMES,
    TrialConfig,
)
from flexres_tune.text import did_you_mean

Code = Mapping[str, Source]  # source of each reference, as written


def find_references(data: Any) -> Iterator[tuple[KeyPath, str, str]]:
    """(key path, field, value) of every text in a sweep's data that may name own code."""
    data = data if isinstance(data, dict) else {}
    yield from _of_values(("base",), data.get("base"))
    for i, name in enumerate(data.get("metrics") or () if isinstance(data.get("metrics"), list) else ()):
        if isinstance(name, str):
            yield ("metrics", i), "metrics", name
    for name, entries in (("exclude", data.get("exclude")), ("parameters", data.get("parameters"))):
        listed = entries if isinstance(entries, list) else [entries]
        for i, entry in enumerate(listed):
            yield from _of_values((name, i), entry)


def read_references(
    found: Iterable[tuple[KeyPath, str, str]], folder: Path, allow_any: bool
) -> tuple[dict[str, Source], list[Finding]]:
    """The sources of all references, and the problems of those that cannot be read; nothing is executed.

    Args:
        found: as `find_references` gives them; values that are no references have no source.
        folder, allow_any: as in `read_source`.
    """
    code: dict[str, Source] = {}
    findings: list[Finding] = []
    for path, field, text in found:
        if text in code or not _may_be_code(field, text):
            continue
        try:
            source = read_source(text, field, folder, allow_any)
        except CodeError as error:
            source = Source(target=text, digest="")  # so that the value is not reported as an unknown name, too
            findings.append((path, str(error)))
        if source is not None:
            code[text] = source
    return code, findings


def own_fields(found: Iterable[tuple[KeyPath, str, str]], code: Code) -> frozenset[str]:
    """Fields with a value that names own code: their values may have keys such as `model.width`."""
    return frozenset(field for _, field, text in found if text in code)


def check_code(config: TrialConfig) -> list[Finding]:
    """Problems of a trial's own code that can be seen without training; imports it."""
    rates = {"lr": config.lr, "weight_decay": config.weight_decay}
    calls = [
        ("optimizer", config.optimizer, ([],), rates | config.optimizer_values),
        ("lr_schedule", config.lr_schedule, (0, 1), {}),
        ("dataset", config.dataset, (), {}),
        *(("augmentation", name, (None, None), {}) for name in config.augmentation),
    ]
    findings: list[Finding] = []
    for field, name, args, kwargs in calls:
        if isinstance(name, CodeName):
            try:
                problem = signature_problem(name, *args, **kwargs)
            except CodeError as error:
                problem = str(error)
            findings += [((field,), problem)] if problem else []
    return findings


def _of_values(path: KeyPath, values: Any) -> Iterator[tuple[KeyPath, str, str]]:
    for key in OWN_CODE_FIELDS:
        if isinstance(values, dict) and key in values:
            for text in _texts(values[key]):
                yield (*path, key), key, text


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value, in a list of values, and in a distribution."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for key in ("value", "values"):
            yield from _texts(value.get(key))


def _may_be_code(field: str, text: str) -> bool:
    names = {
        "model": PRESETS,
        "optimizer": OPTIMIZER_TRAITS,
        "lr_schedule": SCHEDULE_NAMES,
        "augmentation": AUGMENTATION_NAMES,
        "dataset": [form.partition(":")[0] for form in DATASET_FORMS],
        "metrics": METRIC_TRAITS,
    }[field]
    if field == "dataset" and not text.partition(":")[0].endswith(".py"):  # parquet:images, also if it is misspelt
        text = text.partition(":")[0]
        return text not in names and (is_reference(f"{text}:x") and not did_you_mean(text, names))
    return text not in names
