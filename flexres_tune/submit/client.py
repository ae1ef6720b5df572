"""A run on the head, as its commands see it from here: start, follow through lost connections, stop, fetch."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flexres_tune.submit.cluster_file import ClusterError
from flexres_tune.submit.head import EDGE, POSITION
from flexres_tune.submit.ray_exec import Head, quote
from flexres_tune.submit.run_folder import FOLDER

MODULE = "flexres_tune.submit.head"
TRIES = 5  # so often in a row a lost connection is taken up again
PAUSE_S = 5.0


@dataclass
class Follower:
    """Shows a run's log line by line; knows how far it is, so that a new connection goes on there."""

    head: Head
    sweep: str
    show: Callable[[str], None]
    is_followed: bool = False  # the head has said that the run is there
    num_seen: int = 0  # lines of its log
    _others: list[str] = field(default_factory=list)  # lines that are not of the log

    def start(self, archive: str, arguments: Sequence[str], environment: Sequence[str]) -> int:
        """Run a sweep out of an archive that lies in the head's home, and follow it; its exit status.

        Args:
            arguments: the sweep file inside the archive, and options of `run`.
            environment: assignments such as COLUMNS=120.

        Raises:
            ClusterError: the cluster is not up, or cannot be reached any more.
        """
        options = ["--sent", archive, "--storage", self.head.cluster.storage]
        inside = [*options, "--", "start", self.sweep, *arguments]
        return self._follow(f"PYTHONPATH=~/{archive} {self._call(environment, '-P', '-m', MODULE, *inside)}")

    def attach(self, last: int | None) -> int:
        """Follow the run from its beginning, or from so many lines before now; its exit status."""
        return self._follow(self._in_tree("follow", *([] if last is None else ["--last", str(last)])))

    def stop(self) -> int:
        """Ctrl-C for the run, and what it says until it has ended."""
        return self._follow(self._in_tree("stop"), tries=0)

    def fetch(self, archive: str, into: Path, with_checkpoints: bool) -> int:
        """The sweep's tables into a results folder here; how many files.

        Args:
            archive: of the working tree, in the head's home: another head may have run the sweep.
        """
        from flexres_tune.submit.fetch import unpack_results

        said: list[str] = []
        options = ["--storage", self.head.cluster.storage, *(["--checkpoints"] if with_checkpoints else [])]
        script = f"PYTHONPATH=~/{archive} {self._call((), '-P', '-m', MODULE, *options, '--', 'pack', self.sweep)}"
        status = self.head.run(f"{script}; status=$?; rm -f ~/{archive}; exit $status", said.append)
        if status != 0 or not said:
            raise ClusterError("\n".join(said) or "the connection was lost; fetch again")
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "results.tar"
            self.head.get(f"~/{said[-1]}", local)
            origin = f"{self.head.cluster.name}:{self.head.cluster.storage}"
            num_files = unpack_results(local, into, self.sweep, origin)
        self.head.run(f"rm -f ~/{shlex.quote(said[-1])}", said.append)
        return num_files

    def _follow(self, script: str, tries: int = TRIES) -> int:
        status = self._run(script)
        num_tries = 0
        while status is None:
            seen = self.num_seen
            if num_tries >= tries:
                raise ClusterError("the connection to the head was lost")
            num_tries += 1
            self.show(f"the connection to the head was lost; trying again ({num_tries} of {tries})")
            time.sleep(PAUSE_S)
            try:
                status = self._run(self._in_tree("follow", "--skip", str(seen)))
            except ClusterError:
                if num_tries >= tries:
                    raise
            if self.num_seen > seen:
                num_tries = 0
        return status

    def _run(self, script: str) -> int | None:
        """One connection; the exit status, or None where it was lost."""
        self._others = []
        status = self.head.run(script, self._hear)
        for line in self._others if status is not None else ():  # else Ray's and ssh's: that it was lost is said
            self.show(line)
        return status

    def _hear(self, line: str) -> None:
        if line.startswith(POSITION) and line[1:].isdigit():
            self.is_followed, self.num_seen = True, int(line[1:])
        elif len(line) >= 2 and line[0] == line[-1] == EDGE:
            self.num_seen += 1
            self.show(line[1:-1])
        else:
            self._others.append(line)

    def _in_tree(self, verb: str, *options: str) -> str:
        """One of the head's commands, by the code that this sweep was submitted with."""
        never = f"{self.sweep} was never submitted to cluster {self.head.cluster.name} from this account"
        return (
            f"cd ~/{FOLDER}/{shlex.quote(self.sweep)}/tree 2>/dev/null || {{ echo {shlex.quote(never)}; exit 2; }}; "
            + self._call((), "-m", MODULE, *options, "--", verb, self.sweep)
        )

    def _call(self, environment: Sequence[str], *arguments: str) -> str:
        settings = ["RAY_AUTH_MODE=token", "PYTHONUTF8=1", *environment]
        return f"{shlex.join(['env', *settings])} {quote(self.head.cluster.python)} {shlex.join(arguments)}"
