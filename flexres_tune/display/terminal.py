"""The terminal of a sweep: it may go away while the sweep goes on, and shows values that strangers wrote."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape as escape_markup

from flexres_tune.text import escape


def make_console() -> Console:
    """A console on stdout that never raises."""
    return Console(file=ForgivingStream(sys.stdout), highlight=False, emoji=False)


def escape_for_console(text: str) -> str:
    """Text for a console's markup: neither control characters nor markup of its own."""
    return escape_markup(escape(text, keep="\n"))


class ForgivingStream:
    """A stream whose reader may be gone (a lost connection, `| head`), or cannot show a character: neither is a reason
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
