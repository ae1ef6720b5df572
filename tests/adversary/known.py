"""Known offences: calls that do what none may, by which the oracle itself is tested."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

from flexres_tune.errors import ResultsError


def _refuse(text: str) -> None:
    raise ResultsError(text)


OFFENCES: Mapping[str, Callable[[], object]] = {  # by what the oracle says of it
    "hangs, or ends the process": lambda: time.sleep(1_000),
    "hangs, or ends the process ": lambda: os.abort(),
    "raises ZeroDivisionError": lambda: 1 / 0,
    "raises AssertionError": lambda: (_ for _ in ()).throw(AssertionError("a promise")),
    "prints a traceback": lambda: print("Traceback (most recent call last):", file=sys.stderr),
    "prints '\\x1b'": lambda: print("\x1b[2J"),
    "exits with 3": lambda: sys.exit(3),
    "refuses without a message": lambda: _refuse(""),
    "does not say what to do": lambda: _refuse("x.json: broken"),
    "refuses in 2 lines": lambda: _refuse("x.json: must be JSON\nbut is not"),
    "prints a message of 5,000 characters": lambda: _refuse("must." * 1_000),
    "takes ": lambda: bytearray(9 << 27),
    "raises MemoryError": lambda: bytearray(1 << 40),
    "os.system": lambda: os.system("true"),
    "writes ": lambda: Path("../../outside").write_text("x"),
    "leaves ['outside']": lambda: _write_by_c("../outside"),
    "connects to": lambda: _connect(),
}


def _write_by_c(path: str) -> None:
    """As C++ code writes, without an audit event."""
    with pa.OSFile(path, "wb") as file:
        file.write(b"x")


def _connect() -> None:
    with socket.socket() as connection:
        connection.settimeout(0.1)
        with contextlib.suppress(OSError):
            connection.connect(("192.0.2.1", 9))  # an address that only documentation uses
