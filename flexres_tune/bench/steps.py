"""Lines on stderr about what a benchmark is doing, because each step takes from seconds to minutes."""

from __future__ import annotations

import sys


def say_step(text: str) -> None:
    """One line, printed at once. Figures are on stdout."""
    print(f"{text} ...", file=sys.stderr, flush=True)
