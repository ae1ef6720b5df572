"""YAML text -> tree of nodes with lines, bounded in depth and number while it is read.

The parser is ruamel.yaml's. The tree is built here from its events, because that refuses a bomb before anything
is built, keeps every line, and constructs no object but the nodes below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flexres_tune.text import excerpt

MAX_DEPTH = 40
MAX_NODES = 20_000  # the longest sweep that we know has 300
MAX_UNCLOSED = 200  # brackets; also in texts and comments, where they mean nothing and hardly ever stand


class YamlError(Exception):
    """What is wrong with a text, and on which line (from 1)."""

    def __init__(self, line: int, message: str):
        super().__init__(message)
        self.line, self.message = line, message


@dataclass(eq=False)
class Node:
    """A scalar, a sequence (`children` are its entries) or a mapping (`children` are key, value, key, value ...)."""

    kind: str  # scalar | sequence | mapping
    line: int
    text: str = ""
    plain: bool = False  # a scalar without quotes, which may be a number
    tag: str | None = None
    children: tuple[Node, ...] = ()


def compose(text: str) -> Node | None:
    """Tree of the text's only document, None if it is empty; an alias is the very node that it names.

    Raises:
        YamlError: not YAML, nested too deep, too many nodes, an alias to nothing, or a second document.
    """
    if line := _line_of_deep_list(text):
        raise _too_deep(line)
    open_nodes: list[tuple[Node, list[Node], str | None]] = []  # node, its children so far, its anchor
    anchors: dict[str, Node] = {}
    root, num_documents, num_nodes = None, 0, 0
    for event, kind, line in _events(text):
        num_nodes += 1
        if num_nodes > MAX_NODES:
            raise YamlError(line, f"a sweep file must have at most {MAX_NODES:,} values, but has more; split it")
        if kind == "DocumentStartEvent":
            num_documents += 1
            if num_documents > 1:
                raise YamlError(line, "a file must be one YAML document, but a second begins here; remove the '---'")
            continue
        if kind in ("SequenceStartEvent", "MappingStartEvent"):
            if len(open_nodes) >= MAX_DEPTH:
                raise _too_deep(line)
            node = Node("sequence" if kind.startswith("Seq") else "mapping", line, tag=event.tag)
            open_nodes.append((node, [], event.anchor))
            continue
        if kind in ("SequenceEndEvent", "MappingEndEvent"):
            node, children, anchor = open_nodes.pop()
            node.children = tuple(children)
        elif kind == "ScalarEvent":
            node, anchor = Node("scalar", line, event.value, event.implicit[0], event.tag), event.anchor
        elif kind == "AliasEvent":
            if event.anchor not in anchors:  # also one inside the node it names, which would never end
                name = excerpt(event.anchor, 40)
                raise YamlError(line, f"an alias must follow the anchor that it names, but *{name} does not; move it")
            node, anchor = anchors[event.anchor], None
        else:
            continue
        if anchor:
            anchors[anchor] = node
        if open_nodes:
            open_nodes[-1][1].append(node)
        else:
            root = node
    return root


def _line_of_deep_list(text: str) -> int | None:
    """Where more than MAX_UNCLOSED lists are open.

    The parser reads 1,024 characters ahead of the event that tells the depth, at a cost that grows with its square.
    """
    depth = 0
    for bracket in re.finditer(r"[\[\]]", text):
        depth = depth + 1 if bracket[0] == "[" else max(0, depth - 1)
        if depth > MAX_UNCLOSED:
            return text.count("\n", 0, bracket.start()) + 1
    return None


def _too_deep(line: int) -> YamlError:
    return YamlError(line, f"lists and mappings must be at most {MAX_DEPTH} deep, but go deeper; flatten them")


def _events(text: str) -> Iterator[tuple[Any, str, int]]:
    """The parser's events, each with its kind and line; every failure of the parser becomes a YamlError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

    line = 1
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            line = event.start_mark.line + 1
            yield event, type(event).__name__, line
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        if "'\\t'" in what:
            what += "; indent with spaces"
        raise YamlError(mark.line + 1 if mark else line, f"must be YAML 1.2, but: {excerpt(what, 200)}") from None
    except ReaderError as error:
        where = text.count("\n", 0, error.position) + 1
        raise YamlError(
            where, f"must be text without control characters, but has U+{_code(error):04X}; remove it"
        ) from None
    except (YamlError, MemoryError):
        raise
    except Exception as error:  # the parser itself fails on some escapes, such as \UFFFFFFFF (OverflowError)
        raise YamlError(
            line, f"must be YAML 1.2, but the parser stops after this line: {type(error).__name__}"
        ) from None


def _code(error: Any) -> int:
    return error.character if isinstance(error.character, int) else ord(error.character)
