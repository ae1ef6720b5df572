"""YAML file -> Document: YAML 1.2 values with the line of every key, bounded in size, depth and time.

Every YAML file that somebody else may have written is read here: `read_yaml` for sweep files, `parse_yaml` for other
values, and `read_text` with `compose` for files of which only some nodes are needed.

ruamel.yaml parses, builds the nodes and reads the scalars. Its loaders are not used, because they stop at the first
duplicate key, turn dates and tags into objects, and fail without a line on a number of 5,000 digits. Here every such
problem is collected with its line.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexres_tune.errors import Problem, SpecError
from flexres_tune.spec.document.document import Document, KeyPath, Place
from flexres_tune.text import excerpt

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

MAX_BYTES = 50_000  # takes under half a second to parse on a slow core; the sweeps that we know have 2,000
MAX_DEPTH = 40
MAX_VALUES = 20_000  # the longest sweep that we know has 300
MAX_DIGITS = 40  # of a number; Python refuses to print integers of more than 4,300

_HINTS = {  # part of the parser's message: what to do
    "'\\t'": "; indent with spaces",
    "another document": "; remove the '---'",
    "undefined alias": "; define its anchor before it",
    "mapping values are not allowed": "; put a text that contains ': ' in quotes, and each key on a line of its own",
}


def read_yaml(path: str) -> Document:
    """The mapping in a YAML file.

    Raises:
        SpecError: no such file, too large, not UTF-8, not YAML, or not one mapping with text as keys.
    """
    document = parse_yaml(read_text(path, "sweep file"), path)
    if not isinstance(document.data, dict):
        kinds = {list: "a list", type(None): "empty"}
        found = kinds.get(type(document.data), "a single value")
        message = f"a sweep file must be a mapping such as 'name: optim', but is {found}; see sweeps/ for examples"
        raise SpecError([Problem("", message, excerpt(path, 300), 1)])
    return document


def read_text(path: str | Path, what: str) -> str:
    """The text of a regular file in UTF-8 with at most MAX_BYTES; `what` names its kind in messages.

    Raises:
        SpecError: it cannot be read, is no regular file, is too large, or is not UTF-8.
    """
    file, line = excerpt(path, 300), 0
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:  # a named pipe would be waited for
            is_file = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
            raw = stream.read(MAX_BYTES + 1) if is_file else b""
        if not is_file:
            message = f"must be a {what} that can be read, but is not a regular file; check the path"
        elif len(raw) > MAX_BYTES:
            message = f"a {what} must have at most {MAX_BYTES:,} bytes, but has more; shorten or split it"
        else:
            return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"must be UTF-8, but byte {error.start + 1} is 0x{raw[error.start]:02x}; save the file as UTF-8"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"must be a {what} that can be read, but: {reason}; check the path"
    raise SpecError([Problem("", message, file, line)])


def parse_yaml(text: str, file: str, line: int | None = None) -> Document:
    """The value in a YAML text, with the place of every key and list entry.

    Args:
        text: the YAML.
        file: name for messages.
        line: line for messages; by default the text's own lines.

    Raises:
        SpecError: every problem found, each with its line.
    """
    try:
        reader = _Reader(text, str(file), line)
    except YamlError as error:
        place = error.line if line is None else line
        raise SpecError([Problem("", error.message, excerpt(file, 300), place)]) from None
    if reader.problems:
        raise SpecError(sorted(reader.problems, key=lambda problem: problem.line))
    return Document(reader.data, reader.places)


class YamlError(Exception):
    """Why a text cannot be read at all, and on which line (from 1)."""

    def __init__(self, line: int, message: str):
        super().__init__(message)
        self.line, self.message = line, message


class _Reader:
    """Nodes -> plain values, their places, and the problems in them."""

    def __init__(self, text: str, file: str, line: int | None):
        self.file, self.line = file, line
        self.places: dict[KeyPath, Place] = {(): Place((), file, line or 0)}
        self.problems: list[Problem] = []
        root, self._tags, self._constructor = compose(text)
        self.data = None if root is None else self._value(root, ())

    def _value(self, node: Node, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        if len(self.places) > MAX_VALUES:  # aliases of aliases: ten lines can stand for ten million values
            raise YamlError(line, f"aliases must stand for at most {MAX_VALUES:,} values, but stand for more")
        if len(path) > MAX_DEPTH:  # an alias inside the node that it names never ends
            raise _too_deep(line)
        if tag := self._tags.get(id(node)):
            self._problem(node, path, f"tags have no meaning in a sweep file, but got {excerpt(tag, 40)}; remove it")
        if node.id == "sequence":
            return [self._child(child, child, (*path, i)) for i, child in enumerate(node.value)]
        if node.id == "mapping":
            return self._mapping(node, path)
        try:
            return self._scalar(node)
        except ValueError as error:
            self._problem(node, path, str(error))
            return None

    def _child(self, node: Node, named_by: Node, path: KeyPath) -> Any:
        self.places[path] = Place(path, self.file, self._line_of(named_by))
        return self._value(node, path)

    def _mapping(self, node: Node, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key is None:
                what = excerpt(key_node.value, 40) if key_node.id == "scalar" else f"a {key_node.id}"
                self._problem(
                    key_node, path, f"keys must be text, but got {what or 'nothing'}; write a name before ':'"
                )
            elif key_node.tag.endswith(":merge"):
                self._problem(key_node, path, "YAML 1.2 has no merge key '<<'; write the keys out, or use a profile")
            elif key in mapping:
                message = f"duplicate key, first defined on line {first_line[key]}; remove one"
                self._problem(key_node, (*path, key), message)
            else:
                first_line[key] = key_node.start_mark.line + 1
                mapping[key] = self._child(value_node, key_node, (*path, key))
        return mapping

    def _key(self, node: Node) -> str | None:
        try:
            key = self._scalar(node) if node.id == "scalar" else None
        except ValueError:
            return None
        return key if isinstance(key, str) else None

    def _scalar(self, node: Node) -> Any:
        """Value of a scalar by the YAML 1.2 core schema; `on`, `yes` and dates are text."""
        text, kind = node.value, node.tag.rpartition(":")[2]
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("text must be Unicode, but has half of a surrogate pair; write the character itself")
        if kind == "null":
            return None
        if kind == "bool":
            return self._constructor.construct_yaml_bool(node)
        if kind not in ("int", "float"):
            return text
        if len(text) > MAX_DIGITS:
            message = f"a number must have at most {MAX_DIGITS} characters, but got {excerpt(text, 30)}; shorten it"
            raise ValueError(message)
        try:
            construct = (
                self._constructor.construct_yaml_int if kind == "int" else self._constructor.construct_yaml_float
            )
            number = construct(node)
        except ValueError:  # ruamel takes `._` for a number
            return text
        if not math.isfinite(number):
            raise ValueError(f"a number must be finite, but got {text}; write one below 1e308")
        return number

    def _line_of(self, node: Node) -> int:
        return node.start_mark.line + 1 if self.line is None else self.line

    def _problem(self, node: Node, path: KeyPath, message: str) -> None:
        places = {path: Place(path, self.file, self._line_of(node))}
        self.problems.append(Document(None, places).problem(path, message))


def compose(text: str) -> tuple[Node | None, dict[int, str], Any]:
    """The text's only node (None if it is empty), tags written in it by id of their node, and ruamel's constructor.

    Raises:
        YamlError: not YAML, nested too deep, too many values, or a second document.
    """
    from ruamel.yaml import YAML  # 40 ms, which a command without a sweep file does not spend
    from ruamel.yaml.composer import Composer, MaxDepthExceededError
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

    line = num_values = 0
    tags: dict[int, str] = {}

    class BoundedComposer(Composer):
        def compose_node(self, parent: Any, index: Any) -> Node:
            nonlocal line, num_values
            event = self.parser.peek_event()
            line, num_values = event.start_mark.line + 1, num_values + 1
            if num_values > MAX_VALUES:
                message = f"a file must have at most {MAX_VALUES:,} values, but has more; split it"
                raise YamlError(line, message)
            node = super().compose_node(parent, index)
            if getattr(event, "tag", None) not in (None, "!"):
                tags[id(node)] = event.tag
            return node

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.max_depth = BoundedComposer, MAX_DEPTH
    yaml.composer.warn_double_anchors = False
    try:
        return yaml.compose(text), tags, yaml.constructor
    except MaxDepthExceededError as error:
        raise _too_deep(error.problem_mark.line + 1) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        hint = next((hint for part, hint in _HINTS.items() if part in what), "")
        message = f"must be YAML 1.2, but: {excerpt(what, 200)}{hint}"
        raise YamlError(mark.line + 1 if mark else line, message) from None
    except ReaderError as error:
        where = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"must be text without control characters, but has U+{code:04X}; remove it"
        raise YamlError(where, message) from None
    except (YamlError, MemoryError):
        raise
    except Exception as error:  # the parser itself fails on some escapes, such as \UFFFFFFFF (OverflowError)
        message = f"must be YAML 1.2, but the parser stops after this line: {type(error).__name__}"
        raise YamlError(max(line, 1), message) from None


def _too_deep(line: int) -> YamlError:
    return YamlError(line, f"lists and mappings must be at most {MAX_DEPTH} deep, but go deeper; flatten them")
