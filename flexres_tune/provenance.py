"""What a trial ran with: versions of the packages, commit of the working tree; without ray or torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import flexres_tune
from flexres_tune.records import Versions

SENT_COMMIT = "FLEXRES_TUNE_GIT_COMMIT"


def versions() -> Versions:
    """Versions of the driver; a worker's own torch and Python take their place in a trial's row."""
    return Versions(
        flexres_tune=flexres_tune.__version__,
        torch=importlib.metadata.version("torch"),
        ray=importlib.metadata.version("ray"),
        python=platform.python_version(),
    )


def git_commit() -> str | None:
    """Commit of the working tree that holds this package, with -dirty if tracked files differ; None outside one.

    A tree that `submit` has sent has no .git: its commit was sent along.
    """
    if sent := os.environ.get(SENT_COMMIT):
        return sent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(flexres_tune.__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
