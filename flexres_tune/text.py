"""TODO: text."""

from __future__ import annotations

import unicodedata


def plural(count: int, word: str) -> str:
    """1 trial, 2 trials."""
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def format_duration(seconds: float) -> str:
    """0.5 -> "0.5 s", 303 -> "5 min 03 s", 3720 -> "1 h 02 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def format_bytes(count: float) -> str:
    """1610612736 -> "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def escape(text: str, keep: str = "") -> str:
    r"""Control, direction and unpaired characters spelled out (ESC -> \x1b): a value cannot steer a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in keep or not unicodedata.category(c).startswith(("C", "Zl", "Zp")) else _spelled_out(c) for c in text
    )


def shorten(text: str, width: int) -> str:
    """At most `width` characters, the middle left out: both ends of an id, path or message tell something."""
    if len(text) <= width:
        return text
    head = (width - 1 + 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _spelled_out(character: str) -> str:
    return character.encode("unicode_escape").decode()
