"""The exceptions that a user sees: a FlexResError is printed as its message, never as a traceback."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass


class FlexResError(Exception):
    """Base of all errors meant for the user; its text gives the place, the rule, the value found and what to do."""

    exit_status = 2


@dataclass(frozen=True)
class Problem:
    """One problem of a sweep file: `file:line: key path: message`."""

    path: str  # key path such as "parameters[1].lr"; "" for the whole file
    message: str  # rule that must hold, value found, what to do
    file: str = ""
    line: int = 0  # from 1; 0 if no line can be named

    def __str__(self) -> str:
        place = self.file + (f":{self.line}" if self.line else "")
        return ": ".join(part for part in (place, self.path, self.message) if part)


class SpecError(FlexResError):
    """A sweep that cannot be run as written; contains every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem]):
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class ArchitectureError(FlexResError, ValueError):
    """A ResNet that cannot be built; names the layer and the numbers.

    Also a ValueError, so that pydantic reports it as a problem of the field it was raised for.
    """


class DataError(FlexResError):
    """Images that are missing, damaged or not in the expected layout; names the places that were searched."""


class DeviceError(FlexResError):
    """A device, precision or resource that this machine or cluster does not have."""


class ResultsError(FlexResError):
    """A results folder that cannot be read or written, or a query that cannot be answered."""


class StorageError(ResultsError, OSError):
    """A file that cannot be written, or object storage that does not answer or refuses; also an OSError.

    If reading raises it, the content is unknown, which differs from a missing or damaged file: callers must not treat it
    as either.
    """

    def __init__(self, text: str, reason: str = ""):
        super().__init__(text)
        self.reason = reason or text  # without the path


class CheckpointError(FlexResError):
    """A checkpoint that is damaged or belongs to another configuration."""


class DivergedError(FlexResError):
    """A loss that is not finite: the trial ends as `diverged`."""


def describe_os_error(error: OSError) -> str:
    """The system's reason, and what to do about it if there is a usual remedy."""
    if isinstance(error, StorageError):
        return error.reason
    reason = error.strerror or str(error) or type(error).__name__
    remedy = {
        "ENOSPC": "free some space",
        "EDQUOT": "free some of your quota",
        "EROFS": "choose a writable folder with --storage",
        "ENOENT": "choose a writable folder with --storage",
        "EACCES": "choose a writable folder with --storage",
        "ENOTDIR": "there is a file where a folder must be; move it or choose another folder with --storage",
        "EEXIST": "there is a file where a folder must be; move it or choose another folder with --storage",
    }.get(errno.errorcode.get(error.errno or 0, ""))
    return f"{reason}; {remedy}" if remedy else reason
