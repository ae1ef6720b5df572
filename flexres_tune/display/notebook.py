"""Output of a sweep in a notebook: plain lines below the cell, and one display that changes while the sweep runs."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType

from flexres_tune.display.terminal import ForgivingStream

WIDTH = 120  # characters; a cell's output scrolls if it is narrower
REFRESH_PERIOD_S = 1.0  # each refresh is a message to the browser
_HTML = '<pre style="line-height:1.3;font-family:monospace">{code}</pre>'


def is_notebook() -> bool:
    """Whether a notebook shows what this process prints."""
    return Console().is_jupyter


def make_notebook_console() -> Console:
    """A console that writes lines of text: rich's own HTML would make a separate output of each line."""
    stream = ForgivingStream(sys.stdout)
    return Console(file=stream, width=WIDTH, force_jupyter=False, force_terminal=False, highlight=False, emoji=False)


def shows_in_notebook(console: Console) -> bool:
    """Whether the console writes to the output of a notebook's cell, and not to a file or a string."""
    return isinstance(console.file, ForgivingStream) and is_notebook()


class NotebookLive:
    """Shows what `render` returns below the cell, again every REFRESH_PERIOD_S, until stop() removes it.

    It needs IPython only. rich's own Live also needs ipywidgets.
    """

    def __init__(self, render: Callable[[], RenderableType]):
        self._render = render
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._display: Any = None

    def start(self) -> None:
        """Show it for the first time."""
        from IPython.display import display

        self._display = display(self._bundle(), raw=True, display_id=True)
        self._thread = threading.Thread(target=self._refresh, name="notebook display", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Remove it."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._display.update({"text/plain": ""}, raw=True)
            self._thread = None

    def _refresh(self) -> None:
        while not self._ended.wait(REFRESH_PERIOD_S):
            with contextlib.suppress(Exception):  # a display that fails does not end a sweep
                self._display.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, str]:
        console = Console(
            record=True, file=io.StringIO(), width=WIDTH, force_jupyter=False, highlight=False, emoji=False
        )
        console.print(self._render())
        html = console.export_html(inline_styles=True, code_format=_HTML, clear=False)
        return {"text/plain": console.export_text(), "text/html": html}
