"""Versions of the packages and commit of the working tree; imports neither ray nor torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import flexres_tune
from flexres_tune.records import Versions

SENT_COMMIT = "FLEXRES_TUNE_GIT_COMMIT"


def versions() -> Versions:
    """Versions on the driver; in a trial's row a worker replaces torch and Python by its own."""
    return Versions(
        flexres_tune=flexres_tune.__version__,
        torch=importlib.metadata.version("torch"),
        ray=importlib.metadata.version("ray"),
        python=platform.python_version(),
    )


def git_commit(folder: Path | None = None) -> str | None:
    """Commit of a folder's working tree, with -dirty if tracked files differ; None outside a working tree.

    The folder is this package's by default. A tree that `submit` sent has no .git; its commit is in the environment.
    Other text is never returned: tables are public, and a remote's address may contain a password.
    """
    if not (commit := os.environ.get(SENT_COMMIT)):
        try:
            commit = subprocess.run(
                ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
                cwd=folder or Path(flexres_tune.__file__).parent,
                capture_output=True,
                text=True,
                timeout=10,
            ).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            return None
    return commit if re.fullmatch("[0-9a-f]{7,64}(-dirty)?", commit) else None
