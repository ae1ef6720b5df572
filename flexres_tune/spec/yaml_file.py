"""Sweep file -> Document: YAML 1.2 values with the line of every key, read without trust."""

from __future__ import annotations

import math
import re
from pathlib import Path as FilePath
from typing import Any

from flexres_tune.errors import Problem, SpecError
from flexres_tune.spec.document import Document, KeyPath, Place
from flexres_tune.spec.yaml_tree import MAX_DEPTH, MAX_NODES, Node, YamlError, compose
from flexres_tune.text import excerpt

MAX_BYTES = 50_000  # under half a second of parsing on a slow core; the sweeps that we know have 2,000
MAX_DIGITS = 40  # of a number; Python refuses to print integers of more than 4,300

# YAML 1.2 core schema, with underscores between digits, which YAML 1.1 had and people use
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {"": None, "~": None} | {
    spelling: value
    for word, value in {"null": None, "true": True, "false": False}.items()
    for spelling in (word, word.capitalize(), word.upper())
}


def read_yaml(path: str) -> Document:
    """The mapping in a YAML file.

    Raises:
        SpecError: no such file, too large, not UTF-8, not YAML, or not one mapping with text as keys.
    """
    file = excerpt(path, 300)
    try:
        with FilePath(path).open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"must be a sweep file that can be read, but: {reason}; check the path"
        raise SpecError([Problem("", message, file)]) from None
    if len(raw) > MAX_BYTES:
        message = f"a sweep file must have at most {MAX_BYTES:,} bytes, but has more; split it into several sweeps"
        raise SpecError([Problem("", message, file)])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"must be UTF-8, but byte {error.start + 1} is 0x{raw[error.start]:02x}; save the file as UTF-8"
        raise SpecError([Problem("", message, file, line)]) from None
    document = parse_yaml(text, path)
    if not isinstance(document.data, dict):
        kinds = {list: "a list", type(None): "empty"}
        found = kinds.get(type(document.data), "a single value")
        message = f"a sweep file must be a mapping such as 'name: optim', but is {found}; see sweeps/ for examples"
        raise SpecError([Problem("", message, file, 1)])
    return document


def parse_yaml(text: str, file: str, line: int | None = None) -> Document:
    """The value in a YAML text, with the place of every key and list entry.

    Args:
        text: the YAML.
        file: name for messages.
        line: line for messages; the text's own lines if absent.

    Raises:
        SpecError: every problem found, each with its line.
    """
    try:
        root = compose(text)
        reader = _Reader(str(file), line)
        data = None if root is None else reader.construct(root, ())
    except YamlError as error:
        place = error.line if line is None else line
        raise SpecError([Problem("", error.message, excerpt(file, 300), place)]) from None
    if reader.problems:
        raise SpecError(sorted(reader.problems, key=lambda problem: problem.line))
    return Document(data, reader.places)


class _Reader:
    """Nodes -> plain values; collects places and problems on the way."""

    def __init__(self, file: str, line: int | None):
        self.file, self.line = file, line
        self.places: dict[KeyPath, Place] = {(): Place((), file, line or 0)}
        self.problems: list[Problem] = []

    def construct(self, node: Node, path: KeyPath) -> Any:
        if len(self.places) > MAX_NODES:  # aliases of aliases: ten lines can stand for ten million values
            raise YamlError(node.line, f"aliases must stand for at most {MAX_NODES:,} values, but stand for more")
        if len(path) > MAX_DEPTH:
            raise YamlError(
                node.line, f"lists and mappings must be at most {MAX_DEPTH} deep, but go deeper; flatten them"
            )
        if node.tag and node.tag != "!":
            self._problem(
                node, path, f"tags have no meaning in a sweep file, but got {excerpt(node.tag, 40)}; remove it"
            )
        if node.kind == "sequence":
            return [self._child(child, child.line, (*path, i)) for i, child in enumerate(node.children)]
        if node.kind == "mapping":
            return self._mapping(node, path)
        try:
            return _scalar(node)
        except ValueError as error:
            self._problem(node, path, str(error))
            return None

    def _child(self, node: Node, line: int, path: KeyPath) -> Any:
        self.places[path] = Place(path, self.file, line if self.line is None else self.line)
        return self.construct(node, path)

    def _mapping(self, node: Node, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in zip(node.children[::2], node.children[1::2], strict=True):
            key = key_node.text
            if key_node.kind != "scalar" or (key_node.plain and not isinstance(_key(key_node), str)):
                what = excerpt(key, 40) if key_node.kind == "scalar" else f"a {key_node.kind}"
                self._problem(
                    key_node, path, f"keys must be text, but got {what or 'nothing'}; write a name before ':'"
                )
                continue
            if key_node.plain and key == "<<":
                self._problem(key_node, path, "'<<' is no part of YAML 1.2; write the keys out, or use a profile")
                continue
            if key in mapping:
                first = first_line[key]
                self._problem(
                    key_node, (*path, key), f"a key must stand once, but stands on line {first} too; remove one"
                )
                continue
            first_line[key] = key_node.line
            mapping[key] = self._child(value_node, key_node.line, (*path, key))
        return mapping

    def _problem(self, node: Node, path: KeyPath, message: str) -> None:
        line = node.line if self.line is None else self.line
        places = {path: Place(path, self.file, line)}
        self.problems.append(Document(None, places).problem(path, message))


def _key(node: Node) -> Any:
    try:
        return _scalar(node)
    except ValueError:
        return None


def _scalar(node: Node) -> Any:
    """Value of a scalar by the YAML 1.2 core schema; `on`, `yes` and dates are text."""
    text = node.text
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("text must be Unicode, but has half of a surrogate pair; write the character itself")
    if not node.plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"a number must be finite, but got {text}; write a number")
    is_integer, is_other = _INTEGER.fullmatch(text), _OTHER_BASE.fullmatch(text)
    if not (is_integer or is_other or _FLOAT.fullmatch(text)):
        return text
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number must have at most {MAX_DIGITS} characters, but got {excerpt(text, 30)}; shorten it")
    if is_other:
        return int(text, 0)
    digits = text.replace("_", "")
    number = int(digits) if is_integer else float(digits)
    if math.isinf(number):
        raise ValueError(f"a number must be finite, but {text} is too large; write a smaller one")
    return number
