"""HeadNode: a cluster's head, reached by Ray's own commands `ray exec`, `ray rsync-up` and `ray rsync-down`."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from flexres_tune.submit.cluster_file import ClusterError, ClusterFile

MAX_QUOTED_LINES = 12  # of Ray's output, in an error message
EXIT_TIMEOUT_S = 10.0  # for a `ray exec` whose output has ended
REASONS = re.compile(r"ssh: |Permission denied|rsync: |rsync error|Error: |: error")


class HeadNode:
    """Runs scripts on the head, and copies files to and from it.

    `ray exec` mixes its own lines and those of the login shell with the script's, and exits with 1 on any failure. So
    the script runs between two lines with a random mark. The second one carries its exit status.
    """

    def __init__(self, cluster: ClusterFile, ray: str | None = None):
        self.cluster = cluster
        self._ray = ray or find_ray()

    def run(self, script: str, on_line: Callable[[str], None]) -> int | None:
        """Run a bash script in the head's home; returns its exit status, or None if the connection was lost.

        `on_line` is called with each line of its output, without the line end. Raises ClusterError if the script did
        not start, for example because the cluster is not up.
        """
        mark = f"flexres_tune-{secrets.token_hex(8)}"
        end = re.compile(rf"{mark} ended (\d+)")
        output_before: list[str] = []
        has_started = False
        with self._exec(f"echo {mark} begins; ( {script} ); echo {mark} ended $?") as lines:
            for line in lines:
                if match := end.fullmatch(line):
                    return int(match[1])
                if has_started:
                    on_line(line)
                elif line == f"{mark} begins":
                    has_started = True
                else:
                    output_before.append(line)
        if has_started:
            return None
        raise self._error(output_before)

    def put(self, source: Path, target: str) -> None:
        """Copy one file to the head. `target` is a path there without characters that are special in a shell."""
        self._rsync("rsync-up", str(source), target)

    def get(self, source: str, target: Path) -> None:
        """Copy one file from the head."""
        self._rsync("rsync-down", source, str(target))

    @contextmanager
    def _exec(self, script: str) -> Iterator[Iterator[str]]:
        """The lines of `ray exec`. It has its own session: Ctrl-C interrupts this process, and not the run."""
        command = [self._ray, "exec", str(self.cluster.path), script]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield (line.decode(errors="replace").rstrip("\r\n") for line in process.stdout)
            with suppress(subprocess.TimeoutExpired):
                process.wait(EXIT_TIMEOUT_S)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()
            process.stdout.close()

    def _rsync(self, verb: str, source: str, target: str) -> None:
        # its output goes to a file: ssh leaves a process running that would keep a pipe open for ten seconds
        with tempfile.TemporaryFile() as output:
            command = [self._ray, verb, str(self.cluster.path), source, target]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            output.seek(0)
            if done.returncode != 0:
                raise self._error(output.read().decode(errors="replace").splitlines())

    def _error(self, output: Sequence[str]) -> ClusterError:
        """Ray's output as an error, with the remedy if the cause is known."""
        path, name = self.cluster.path, self.cluster.name
        text = "\n".join(output)
        if "Head node of cluster" in text or "not found!" in text:
            is_local = self.cluster.provider == "local"
            note = " (with provider local, only the machine that started it can reach it)" if is_local else ""
            return ClusterError(
                f"{path}: cluster {name} must be up, but is not{note}; start it with: "
                f"ray up -y {shlex.quote(str(path))}"
            )
        lines = [line.rstrip() for line in output if line.strip() and not line.startswith("Shared connection to")]
        reasons = [line for line in lines if REASONS.search(line)]
        quoted = "\n".join(f"    {line[:300]}" for line in (reasons or lines or ["nothing"])[-MAX_QUOTED_LINES:])
        return ClusterError(f"{path}: the head of cluster {name} must answer, but Ray prints:\n{quoted}")


def find_ray() -> str:
    """The `ray` command on the PATH, or else the one next to this Python."""
    sibling = Path(sys.executable).with_name("ray")
    found = shutil.which("ray") or (str(sibling) if sibling.exists() else None)
    if found is None:
        raise ClusterError(
            "ray: the command must be installed on this machine, but is not; pip install -r requirements.txt"
        )
    return found


def quote(path: str) -> str:
    """A path quoted for a shell, except for a leading ~, which the head expands."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") else shlex.quote(path)
