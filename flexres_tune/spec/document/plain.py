"""Python values -> Document: a sweep that was built in Python, with the values that a sweep file could hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from flexres_tune.errors import SpecError
from flexres_tune.spec.document.document import Document, Finding, KeyPath
from flexres_tune.spec.document.yaml_reader import MAX_DEPTH
from flexres_tune.text import excerpt


def plain_document(sweep: Mapping[str, Any]) -> Document:
    """The mapping as a Document without places, so that problems are reported by key instead of by line.

    Tuples become lists, paths become text, and numbers of numpy become Python's.

    Raises:
        SpecError: every value that a sweep file could not hold.
    """
    findings: list[Finding] = []
    document = Document(_plain(sweep, (), findings))
    if findings:
        raise SpecError([document.problem(path, message) for path, message in findings])
    return document


def _plain(value: Any, path: KeyPath, findings: list[Finding]) -> Any:
    if len(path) > MAX_DEPTH:
        findings.append((path[:3], f"lists and mappings must be at most {MAX_DEPTH} deep, but go deeper; flatten them"))
        return None
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            findings.append((path, f"keys must be text, but got {excerpt(repr(wrong[0]), 40)}; write a name"))
        return {key: _plain(item, (*path, key), findings) for key, item in value.items() if isinstance(key, str)}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, index), findings) for index, item in enumerate(value)]
    if isinstance(value, Enum):
        return _plain(value.value, path, findings)
    if isinstance(value, PurePath):
        return str(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):  # a number or an array
        return _plain(value.tolist(), path, findings)
    if isinstance(value, float) and not math.isfinite(value):
        findings.append((path, f"a number must be finite, but got {value}; write one below 1e308"))
    elif callable(value):
        message = f"code must be named as FILE.py:NAME or package:NAME, but got {_kind(value)}; save it in a file"
        findings.append((path, message))
    elif not (value is None or isinstance(value, str | bool | int | float)):
        message = f"must be text, a number, true, false, null, a list or a mapping, but got {_kind(value)}"
        findings.append((path, message))
    return value


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
