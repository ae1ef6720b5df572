"""What a command meets on a machine: a disk without space, folders that it may not write."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def fill_disk(folder: Path, leave: int = 0) -> None:
    """Write a file `filler` into the file system of the folder, so that `leave` bytes are free."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with open(folder / "filler", "wb") as file:
        file.write(bytes(free - leave))


def run_as_user(module: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run `python -m module` as a user for whom permissions of files hold; root may write everywhere."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to give up its right to write everywhere")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", *command]
    return subprocess.run(command, capture_output=True, text=True)
