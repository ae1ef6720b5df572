"""Console of a sweep, which must survive a terminal that closes and must not obey control characters in values."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.markup import escape as escape_markup
from rich.text import Text

from flexres_tune.text import escape

UNLIMITED_WIDTH = 100_000  # of a pipe or file


def make_console() -> Console:
    """A console on stdout that raises neither if the reader is gone nor if a character cannot be encoded."""
    return Console(file=ForgivingStream(sys.stdout), highlight=False, emoji=False)


def escape_for_console(text: str) -> str:
    """Text to be printed with markup: its own control characters and markup are shown, not obeyed."""
    return escape_markup(escape(text, keep="\n"))


def print_trimmed(grid: RenderableType, console: Console, width: int) -> None:
    """Print without the blank lines and trailing spaces that rich puts around a table: they spoil a paste and a diff."""
    for line in console.render_lines(grid, console.options.update(width=width, max_width=width), pad=False):
        text = Text.assemble(*((segment.text, segment.style or "") for segment in line))
        text.rstrip()
        if text.plain:
            console.print(text, soft_wrap=True)


class ForgivingStream:
    """A stream that drops what cannot be written.

    The reader may be gone (a lost connection, `| head`), or the encoding may not have a character: neither is a reason
    to end a sweep.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            return self._stream.write(text.encode(encoding, "replace").decode(encoding))
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
