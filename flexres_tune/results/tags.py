"""Tags: short texts that people give to trials, one small file each, so that nobody overwrites another's.

They are not in the tables, which the driver writes alone. `notes.md` in the sweep's folder is for longer text.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import re
import socket
import uuid
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime

from flexres_tune.errors import ResultsError, describe_os_error
from flexres_tune.names import name_problem
from flexres_tune.results.paths import SweepPaths
from flexres_tune.storage import atomic_write_text, list_folder, parse_json, read_file
from flexres_tune.text import excerpt, plural

MAX_CHARACTERS = 200  # of a tag
MAX_TAGS = 2_000  # per sweep that are read
MAX_NOTES_BYTES = 50_000
_MAX_BYTES = 4_000  # of a tag's file
TAG_FILE = re.compile(r"\d{8}T\d{12}-[0-9a-f]{8}\.json")  # its name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tag:
    """A text that a person gave to a trial."""

    trial_id: str
    text: str
    who: str  # user@host
    tagged_at: str  # ISO 8601, UTC


def add_tag(paths: SweepPaths, trial_id: str, text: str) -> Tag:
    """Add a tag to a trial.

    Raises:
        ResultsError: the text is empty, too long or has control characters; or the folder cannot be written.
    """
    text = text.strip()
    if not text or len(text) > MAX_CHARACTERS or not text.isprintable():
        raise ResultsError(
            f"a tag must be one line of 1 to {MAX_CHARACTERS} characters, but got {excerpt(repr(text))}; notes.md in "
            f"{paths.folder} is for longer text"
        )
    now = datetime.now(UTC)
    tag = Tag(trial_id, text, f"{_user()}@{socket.gethostname()}", now.isoformat(timespec="seconds"))
    atomic_write_text(paths.tags / f"{now:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}.json", json.dumps(asdict(tag)))
    return tag


def remove_tags(paths: SweepPaths, trial_id: str, text: str) -> int:
    """Remove the tags of a trial that have this text; returns how many there were."""
    found = [name for name, tag in _read(paths).items() if (tag.trial_id, tag.text) == (trial_id, text.strip())]
    for name in found:
        try:
            (paths.tags / name).unlink(missing_ok=True)
        except OSError as error:
            raise ResultsError(f"{paths.tags / name}: {describe_os_error(error)}") from error
    return len(found)


def read_tags(paths: SweepPaths) -> dict[str, list[Tag]]:
    """The tags of each trial that has any, oldest first; a file that is not a tag is left out, with a warning."""
    tags: dict[str, list[Tag]] = {}
    for tag in _read(paths).values():
        tags.setdefault(tag.trial_id, []).append(tag)
    return tags


def read_notes(paths: SweepPaths) -> str:
    """The text of notes.md; "" without one, or a sentence in place of one that cannot be read."""
    try:
        content = read_file(paths.notes, MAX_NOTES_BYTES)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{paths.notes.name} cannot be read: {describe_os_error(error)}"
    return content.decode("utf-8", "replace")


def _read(paths: SweepPaths) -> dict[str, Tag]:
    """File name -> tag, oldest first."""
    try:
        names = sorted(name for name in list_folder(paths.tags) if TAG_FILE.fullmatch(name))
    except OSError:  # there is no such folder until somebody tags a trial
        return {}
    if len(names) > MAX_TAGS:
        log.warning("%s: only the first %s of %s are read", paths.tags, plural(MAX_TAGS, "tag"), f"{len(names):,}")
    found = {}
    for name in names[:MAX_TAGS]:
        tag = None
        with contextlib.suppress(OSError, ResultsError):
            tag = _parse(read_file(paths.tags / name, _MAX_BYTES))
        if tag is None:
            log.warning("%s: not a tag, so it is left out", paths.tags / name)
        else:
            found[name] = tag
    return found


def _parse(content: bytes) -> Tag | None:
    try:
        values = parse_json(content)
        tag = Tag(**{field.name: values[field.name] for field in fields(Tag)})
    except (ValueError, KeyError, TypeError):
        return None
    are_texts = all(isinstance(value, str) and len(value) <= 2 * MAX_CHARACTERS for value in asdict(tag).values())
    return tag if are_texts and name_problem(tag.trial_id) is None else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
