"""RunOptions: every option of the `run` command, parsed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flexres_tune.records import TrialStatus
from flexres_tune.storage import AnyPath


@dataclass(frozen=True)
class RunOptions:
    """How to run a sweep file; the defaults are those of the command."""

    # which sweep
    profile: str = "auto"  # auto: laptop if there is no GPU
    overrides: tuple[str, ...] = ()  # KEY=VALUE
    allow_code: bool = False  # the file may name code outside of its folder and of installed packages
    stage: Literal["all", "screen", "confirm"] = "all"
    # which of its trials
    reuse: bool = True  # copy rows that other sweeps have
    retry: tuple[TrialStatus, ...] = ()  # run trials with these statuses again
    # where
    storage: AnyPath = Path("results")
    address: str | None = None  # of a Ray cluster; None: one that is found, or one of our own
    local: bool = False  # start Ray here even if a cluster is found
    # how
    max_concurrent: int | None = None  # trials at once
    max_failures: int = 2  # restarts of a trial whose process dies
    trial_timeout_s: float | None = None  # a trial is killed if it reports no epoch for this time
    loggers: tuple[str, ...] = ()  # keys of raytune.loggers, checked
    verbose: bool = False  # show Ray's own messages
