"""Head: a cluster's head node, through Ray's own `ray exec`, `ray rsync-up` and `ray rsync-down`."""

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

MAX_SAID = 12  # lines of Ray's that a message repeats
PATIENCE_S = 10.0  # for a `ray exec` that has said its last word


class Head:
    """Commands on the head, and files to and from it.

    `ray exec` mixes its own lines, those of the login shell and the command's, and makes 1 of any failure. So a command
    stands between two marks that nothing else can write, of which the second carries its exit status.
    """

    def __init__(self, cluster: ClusterFile, ray: str | None = None):
        self.cluster = cluster
        self._ray = ray or find_ray()

    def run(self, script: str, show: Callable[[str], None]) -> int | None:
        """Run a shell script on the head; its exit status, or None where the connection was lost meanwhile.

        Args:
            script: for bash, in the head's home.
            show: is called with each line of its output, without its end.

        Raises:
            ClusterError: it was not even started: no such cluster, no way to it.
        """
        mark = f"flexres_tune-{secrets.token_hex(8)}"
        end = re.compile(rf"{mark} ended (\d+)")
        said: list[str] = []
        has_begun = False
        with self._exec(f"echo {mark} begins; ( {script} ); echo {mark} ended $?") as lines:
            for line in lines:
                if match := end.fullmatch(line):
                    return int(match[1])
                if has_begun:
                    show(line)
                elif line == f"{mark} begins":
                    has_begun = True
                else:
                    said.append(line)
        if has_begun:
            return None
        raise self._error(said)

    def put(self, source: Path, target: str) -> None:
        """Send one file. `target` is a path on the head without characters that a shell reads."""
        self._rsync("rsync-up", str(source), target)

    def get(self, source: str, target: Path) -> None:
        """Bring one file."""
        self._rsync("rsync-down", source, str(target))

    @contextmanager
    def _exec(self, script: str) -> Iterator[Iterator[str]]:
        """Lines of `ray exec`, in a session of its own: Ctrl-C is for this process, and not for the run."""
        command = [self._ray, "exec", str(self.cluster.path), script]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield (line.decode(errors="replace").rstrip("\r\n") for line in process.stdout)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()
            process.stdout.close()

    def _rsync(self, verb: str, source: str, target: str) -> None:
        # into a file: ssh leaves a process behind that keeps a pipe open for ten seconds
        with tempfile.TemporaryFile() as output:
            command = [self._ray, verb, str(self.cluster.path), source, target]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            output.seek(0)
            if done.returncode != 0:
                raise self._error(output.read().decode(errors="replace").splitlines())

    def _error(self, said: Sequence[str]) -> ClusterError:
        """What Ray said, in a message that names the way out where it is known."""
        path, name = self.cluster.path, self.cluster.name
        text = "\n".join(said)
        if "Head node of cluster" in text or "not found!" in text:
            here = " (with provider local, Ray knows it only on the machine that started it)"
            return ClusterError(
                f"{path}: cluster {name} must be up, but is not{here if self.cluster.provider == 'local' else ''}; "
                f"start it with: ray up -y {shlex.quote(str(path))}"
            )
        lines = [line.rstrip() for line in said if line.strip() and not line.startswith("Shared connection to")]
        reasons = [
            line for line in lines if re.search(r"ssh: |Permission denied|rsync: |rsync error|Error: |: error", line)
        ]
        shown = "\n".join(f"    {line[:300]}" for line in (reasons or lines or ["nothing"])[-MAX_SAID:])
        return ClusterError(f"{path}: the head of cluster {name} must answer, but Ray says:\n{shown}")


def find_ray() -> str:
    """The `ray` command: of the shell, else of this Python."""
    beside = Path(sys.executable).with_name("ray")
    found = shutil.which("ray") or (str(beside) if beside.exists() else None)
    if found is None:
        raise ClusterError("ray: the command must be installed here, but is not; pip install -r requirements.txt")
    return found


def quote(path: str) -> str:
    """A path for a shell; ~ at its beginning stays the head's home."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") else shlex.quote(path)
