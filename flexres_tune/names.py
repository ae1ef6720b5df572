"""The rule for a sweep's name, which is also the name of its folder; sweep files and `results/` share it."""

from __future__ import annotations

import unicodedata

MAX_CHARACTERS = 100
MAX_BYTES = 200  # a folder's name has at most 255 bytes on Linux; the rest is for what tools append

_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))]
)  # Windows: a results folder copied there could not be opened


def name_problem(name: object) -> str | None:
    """The problem of a sweep's name as rule, value and what to do; None if it is a safe name of a folder.

    Letters and digits of any script, `.`, `_` and `-` are allowed: no separator, NUL or shell character, so that the
    folder stays inside the results folder. Every reader would skip a hidden name (leading `.`).
    """
    if not isinstance(name, str):
        return f"must be text, but got {name!r:.100}; put it in quotes"
    if not name:
        return 'must not be empty, but got ""; give the sweep a name such as optim'
    shown = repr(name[:60]) + ("..." if len(name) > 60 else "")
    if len(name) > MAX_CHARACTERS or len(name.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return (
            f"must have at most {MAX_CHARACTERS} characters and {MAX_BYTES} bytes, but {shown} has {len(name)} "
            "characters; shorten it"
        )
    wrong = sorted({c for c in name if not (c.isalnum() or c in "._-")})
    if wrong:
        listed = ", ".join(repr(c) for c in wrong[:5])
        advice = "use those instead"
        composed = unicodedata.normalize("NFC", name)
        if composed != name and name_problem(composed) is None:
            advice = f"write it with composed letters: {composed}"  # "u" + a combining mark, as macOS writes names
        return f"must consist of letters, digits, '.', '_' and '-', but {shown} has {listed}; {advice}"
    if name[0] in ".-" or name[-1] == "." or ".." in name:
        return f"must not start with '.' or '-', end with '.' or contain '..', but got {shown}; remove that"
    if name.lower() == "index.html":
        return f"must not be index.html, the report of all sweeps in the results folder, but got {shown}; use index"
    if name.split(".")[0].lower() in _RESERVED:
        return f"must not be a name that Windows reserves, but got {shown}; use for example {name.split('.')[0]}_sweep"
    return None
