"""Oracle: what no call may do, whatever it was given.

A call ends in time, with an exit status of cli.py; prints no traceback and no control character; a refusal is one line
that says what to do; nothing is executed; nothing is written outside of its folder; memory stays under a bound.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from adversary.attack import CANARY, Call

HANG_S = 30.0  # a call takes milliseconds; on a machine with other work, seconds
MAX_MEMORY_BYTES = 1 << 30  # by which one call may increase the process's peak
MAX_MESSAGE = 2_000  # characters; a message quotes at most part of what it found
STATUSES = (0, 1, 2)
REMEDY = re.compile(
    r";|did you mean|\b(must|run|give|name|choose|remove|delete|add|install|free|write|check|move|try|use|copy|needs?"
    r"|skipped|tables:|columns of)\b"
)
DUCKDB = re.compile(r"[A-Z][\w ]+ Error: ")  # begins what it says about a query
PROBLEM = re.compile(r"[^\n]*\.ya?ml(:\d+)?: |--[a-z-]+.*: ")  # a sweep file may have several, each a line
WARNING = re.compile(r"skipped|; kept as|to be kept as")  # of a damaged part, before the refusal
LIBRARY_SIZE = 1_000_000  # characters of a script, beyond which it is Plotly
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_STARTS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "os.fork", "pty.spawn"}
_CHANGES = {
    *("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
    *("shutil.rmtree", "shutil.move", "shutil.copyfile"),
}
_DANGEROUS = {"os", "posix", "nt", "subprocess", "builtins", "sys", "runpy", "importlib"}


@dataclass(frozen=True)
class Outcome:
    """What a call did."""

    status: int
    stdout: str
    stderr: str
    error: str = ""  # the traceback of an exception that is not a FlexResError
    memory_bytes: int = 0  # by which the process's peak grew
    events: tuple[str, ...] = ()  # of the watch


@dataclass
class Watch:
    """Audit hook of this process: starts of programs, writes outside of `inside`, connections to other machines."""

    inside: tuple[str, ...]  # prefixes of paths that may be written
    is_on: bool = False
    events: list[str] = field(default_factory=list)

    def install(self) -> None:
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple) -> None:
        if not self.is_on:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and self._is_outside(path):
                self.events.append(f"writes {path!r}")
        elif event in _STARTS:
            program = str(arguments[0])
            if event != "subprocess.Popen" or Path(program).name not in ("git", "nvidia-smi"):
                self.events.append(f"{event} {arguments!r:.200}")
        elif event in _CHANGES:
            self.events += [f"{event} {path!r}" for path in arguments[:2] if self._is_outside(path)]
        elif event == "socket.connect":
            address = arguments[1]
            if isinstance(address, tuple) and not str(address[0]).startswith("127."):
                self.events.append(f"connects to {address!r}")
        elif event == "pickle.find_class" and arguments[0].partition(".")[0] in _DANGEROUS:
            self.events.append(f"unpickles {arguments!r}")

    def _is_outside(self, path: object) -> bool:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str | os.PathLike):
            return False  # a file descriptor, or a mode
        return not os.path.abspath(path).startswith((*self.inside, "/dev/null", "/dev/tty"))


def judge(call: Call, outcome: Outcome) -> list[str]:
    """What the call did that it must not; empty if it survived."""
    found = list(outcome.events)
    output = outcome.stdout + outcome.stderr
    if outcome.error:
        found.append(f"raises {outcome.error.strip().splitlines()[-1][:300]}")
    elif "Traceback (most recent call last)" in outcome.stderr:
        found.append("prints a traceback")
    if outcome.memory_bytes > MAX_MEMORY_BYTES:
        found.append(f"takes {outcome.memory_bytes / 2**20:,.0f} MiB")
    if not outcome.error and outcome.status not in STATUSES:
        found.append(f"exits with {outcome.status}")
    is_data = any(word in call.argv for word in ("csv", "json"))  # a value may contain anything, quoted
    if wrong := _control_character(outcome.stderr if is_data else output):
        found.append(f"prints {wrong!r}")
    if outcome.status == 2 and "Usage:" not in output:  # which Typer has printed
        found += _bad_message(outcome.stderr)
    return found


def _bad_message(text: str) -> list[str]:
    lines = text.strip().splitlines()
    if not lines:
        return ["refuses without a message"]
    if len(max(lines, key=len)) > MAX_MESSAGE:
        return [f"prints a message of {len(max(lines, key=len)):,} characters"]
    refusal = [line for line in lines if line.strip() and not WARNING.search(line)]
    is_list = all(map(PROBLEM.match, refusal))
    is_duckdb = any(map(DUCKDB.match, refusal))  # shows the place in the query
    if len(refusal) > 1 and not is_list and not is_duckdb:
        return [f"refuses in {len(refusal)} lines: {refusal[1][:300]!r}"]
    return [] if REMEDY.search(text) or is_duckdb else [f"does not say what to do: {lines[-1][:300]!r}"]


def _control_character(text: str) -> str:
    return next((c for c in text if not (c.isprintable() or c in "\n\t")), "")


class _Page(HTMLParser):
    """Tags and attributes of a page that contain the canary: a value of a table was taken for HTML."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data):
        if len(data) < LIBRARY_SIZE and (wrong := _control_character(data)):
            self.found.append(f"a page has the character {wrong!r}")

    def handle_starttag(self, tag, attrs):
        if wrong := _control_character("".join(value or "" for _, value in attrs)):
            self.found.append(f"an attribute of <{tag}> has the character {wrong!r}")
        names = [tag, *(name for name, _ in attrs)]
        active = [value or "" for name, value in attrs if name.startswith("on") or name in ("src", "href", "action")]
        if any(CANARY in each for each in (*names, *active)):
            self.found.append(f"a page has the tag {self.get_starttag_text()[:200]}")


def bad_page(html: str) -> list[str]:
    """What in a page of ours comes from a value that was not escaped."""
    page = _Page()
    page.feed(html.replace("&nbsp;", " "))  # our own: in a value, the entity is escaped and the character spelled out
    return page.found
