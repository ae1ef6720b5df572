"""Words, numbers and quoted text as messages and tables show them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from difflib import get_close_matches
from urllib.parse import unquote

_WORD = re.compile(r"""[^\s'"`<>]++""")
_USER_INFORMATION = re.compile(
    r"""(?P<before>://|(?<![^(=/]))       # after a scheme, or `user:password@host` without one
        (?:(?<=://)[^/?\#@]++             # user, or user:password
        |[^/?\#@:=]++:(?!\d*/)[^@]++)@""",  # the password may contain / ? or #
    re.VERBOSE,
)
_PARAMETER = re.compile(r"(?<=[?&;])([^=&;?]+)=([^&;]+)")
_SECRET_NAME = re.compile(
    r"secret|passw|pwd|token|signature|credential|^(sig|auth|authorization|key)$|(access|account|api|private)[-_]?key",
    re.IGNORECASE,
)


def plural(count: int, word: str) -> str:
    """1 trial, 2 trials."""
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def number_range(counts: Iterable[int]) -> str:
    """[3, 3] -> "3", [5, 2] -> "2 to 5"."""
    numbers = sorted(set(counts))
    return " to ".join(f"{number:,}" for number in dict.fromkeys((numbers[0], numbers[-1])))


def plural_range(counts: Iterable[int], word: str) -> str:
    """[3, 3] -> "3 seeds", [5, 2] -> "2 to 5 seeds"."""
    found = tuple(counts)
    return f"{number_range(found)} {word}" + ("" if max(found) == 1 else "s")


def join_words(names: Iterable[str], word: str = "or") -> str:
    """["a", "b", "c"] -> "a, b or c"."""
    *most, last = names
    return f"{', '.join(most)} {word} {last}" if most else last


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
    r"""Text with every character that is not printable spelled out: ESC -> \x1b, no-break space -> \xa0.

    So a value that somebody else wrote cannot steer the terminal, and a wrong character in it is visible.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def escape_html(text: object, keep: str = "") -> str:
    """Text as HTML, for elements, quoted attributes and labels of plots; characters not printable are spelled out."""
    escaped = html.escape(escape(str(text), keep), quote=False)
    return escaped.replace('"', "&#34;").replace("'", "&#39;")  # Plotly knows no &quot;


def shorten(text: str, width: int) -> str:
    """At most `width` characters, the middle left out: both ends of an id, path or message are informative."""
    if len(text) <= width:
        return text
    head = width // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def excerpt(text: object, width: int = 80) -> str:
    """A text as a message quotes it: at most `width` characters of it, escaped."""
    return escape(shorten(str(text), width))


def last_line(text: str | None, otherwise: str = "no message") -> str:
    """The last line that is not blank: of a traceback, the exception. `otherwise` if there is none."""
    lines = (text or "").strip().splitlines()
    return lines[-1].strip() if lines else otherwise


def mask_secrets(text: str) -> str:
    """The text with `***` instead of user information and secret query parameters in the addresses that it contains.

    `s3://u:p@host/x?secret_key=k&region=eu` -> `s3://***@host/x?secret_key=***&region=eu`. Percent-encoded forms are
    found too. A second call changes nothing.
    """

    def mask_word(match: re.Match[str]) -> str:
        head, at, tail = match[0].rpartition("@")
        return _PARAMETER.sub(mask_parameter, _USER_INFORMATION.sub(r"\g<before>***@", head + at) + tail)

    def mask_parameter(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if _SECRET_NAME.search(unquote(name)):
            return f"{name}=***"
        plain = unquote(value)
        masked = mask_secrets(plain) if plain != value else value  # such as endpoint_override=http%3A%2F%2Fu%3Ap%40host
        return f"{name}={masked if masked != plain else value}"

    return _WORD.sub(mask_word, text)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`; did you mean X?` with the known name that is closest to a misspelt one; "" if none is close."""
    near = get_close_matches(str(name)[:100], list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
