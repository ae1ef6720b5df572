"""RunClient: the laptop's side of a run on the head: start it, follow it through lost connections, stop it, fetch."""

from __future__ import annotations

import re
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flexres_tune.submit.cluster_file import ClusterError
from flexres_tune.submit.head import LINE_MARK, SKIPPED_MARK
from flexres_tune.submit.ray_exec import HeadNode, quote
from flexres_tune.submit.run_folder import FOLDER, HEAD_MODULE

MAX_RECONNECTS = 5  # in a row without a new line of the log


@dataclass
class RunClient:
    """Shows a run's log line by line. It counts the lines, so that a new connection continues after the last one."""

    head: HeadNode
    sweep: str
    show: Callable[[str], None]
    reconnect_pause_s: float = 5.0
    is_followed: bool = False  # the head has confirmed that the run exists
    num_shown: int = 0  # lines of the log
    _other_lines: list[str] = field(default_factory=list)  # output that is not of the log

    def start(self, archive: str, arguments: Sequence[str], environment: Sequence[str]) -> int:
        """Start a run from an archive in the head's home, and follow it; returns its exit status.

        `arguments` are the sweep file's path in the archive and options of `run`; `environment` has assignments such
        as COLUMNS=120. Raises ClusterError if the cluster is not up, or can no longer be reached.
        """
        options = ["--sent", archive, "--storage", self.head.cluster.storage, "--", "start", self.sweep, *arguments]
        return self._follow(self._call_in_archive(archive, *options, environment=environment))

    def attach(self, last: int | None) -> int:
        """Follow the run from its beginning, or from the `last` lines on; returns its exit status."""
        return self._follow(self._call_in_tree("follow", *([] if last is None else ["--last", str(last)])))

    def stop(self) -> int:
        """Interrupt the run, and follow it until it has ended."""
        return self._follow(self._call_in_tree("stop"), max_reconnects=0)

    def fetch(self, archive: str, into: Path, with_checkpoints: bool) -> int:
        """Copy the sweep's tables into a results folder here; returns the number of files.

        The head runs the code of `archive`, in its home: the sweep may have run on another head of the same storage.
        """
        from flexres_tune.submit.fetch import unpack_results

        output: list[str] = []
        options = ["--storage", self.head.cluster.storage, *(["--checkpoints"] if with_checkpoints else [])]
        script = self._call_in_archive(archive, *options, "--", "pack", self.sweep)
        status = self.head.run(f"{script}; status=$?; rm -f ~/{archive}; exit $status", output.append)
        if status != 0 or not output:
            raise ClusterError("\n".join(output) or "the connection was lost; fetch again")
        packed = output[-1]
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "results.tar"
            self.head.get(f"~/{packed}", local)
            origin = f"{self.head.cluster.name}:{self.head.cluster.storage}"
            num_files = unpack_results(local, into, self.sweep, origin)
        self.head.run(f"rm -f ~/{shlex.quote(packed)}", output.append)
        return num_files

    def _follow(self, script: str, max_reconnects: int = MAX_RECONNECTS) -> int:
        status = self._run(script)
        num_reconnects = 0
        while status is None:
            num_before = self.num_shown
            if num_reconnects >= max_reconnects:
                raise ClusterError("the connection to the head was lost; check the network, and give the command again")
            num_reconnects += 1
            self.show(f"the connection to the head was lost; trying again ({num_reconnects} of {max_reconnects})")
            time.sleep(self.reconnect_pause_s)
            try:
                status = self._run(self._call_in_tree("follow", "--skip", str(num_before)))
            except ClusterError:
                if num_reconnects >= max_reconnects:
                    raise
            if self.num_shown > num_before:
                num_reconnects = 0
        return status

    def _run(self, script: str) -> int | None:
        """Run a script over one connection; returns its exit status, or None if the connection was lost."""
        self._other_lines = []
        status = self.head.run(script, self._receive)
        if status is not None:  # of a lost connection they are what Ray and ssh print; one message of ours is enough
            for line in self._other_lines:
                self.show(line)
        return status

    def _receive(self, line: str) -> None:
        if re.fullmatch(rf"{SKIPPED_MARK}[0-9]{{1,18}}", line):
            self.is_followed, self.num_shown = True, int(line[1:])
        elif len(line) >= 2 and line[0] == line[-1] == LINE_MARK:
            self.num_shown += 1
            self.show(line[1:-1])
        else:
            self._other_lines.append(line)

    def _call_in_tree(self, verb: str, *options: str) -> str:
        """A script that calls head.py in the code with which this sweep was submitted."""
        never = f"{self.sweep} was never submitted to cluster {self.head.cluster.name} from this account"
        return (
            f"cd ~/{FOLDER}/{shlex.quote(self.sweep)}/tree 2>/dev/null || {{ echo {shlex.quote(never)}; exit 2; }}; "
            + self._call("-m", HEAD_MODULE, *options, "--", verb, self.sweep)
        )

    def _call_in_archive(self, archive: str, *arguments: str, environment: Sequence[str] = ()) -> str:
        """A script that calls head.py in an archive; -P: nothing in the head's home may be imported instead."""
        call = self._call("-P", "-m", HEAD_MODULE, *arguments, environment=environment)
        return f"PYTHONPATH=~/{archive} {call}"

    def _call(self, *arguments: str, environment: Sequence[str] = ()) -> str:
        settings = ["RAY_AUTH_MODE=token", "PYTHONUTF8=1", *environment]
        return f"{shlex.join(['env', *settings])} {quote(self.head.cluster.python)} {shlex.join(arguments)}"
