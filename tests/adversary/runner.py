"""Runner: attacks for a given time, in a victim process that is replaced if it hangs or crashes."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adversary.oracle import HANG_S

TESTS = Path(__file__).parents[1]
START_S = 120.0  # within which a victim must have imported everything
SHARES = {"bytes": 3, "columns": 4, "special": 2}  # of the time; of other families 1
REPEAT = "FLEXRES_TUNE_ADVERSARY_ATTACK={} python -m pytest tests/adversary -m slow -s"


@dataclass(frozen=True)
class Finding:
    """Something that a call must not do."""

    attack: str  # SEED:FAMILY:NUMBER
    call: str
    text: str
    details: str = ""  # a traceback

    @property
    def kind(self) -> str:
        """Equal for findings with one cause: the last line of our code in the traceback, or the text without values."""
        ours = re.findall(r'flexres_tune/([\w/]+\.py)", line (\d+)', self.details)
        text = re.sub(r"'.*'|\"[^\"]*\"|/\S+|[\d,.]+", "_", self.text)[:80]
        return f"{text} {ours[-1]}" if ours else text

    def __str__(self) -> str:
        text = (
            f"{self.text}\n    in {self.call[:300]}\n    repeat: {REPEAT.format(self.attack)}\n{self.details[-3000:]}"
        )
        return text.encode("utf-8", "backslashreplace").decode()


@dataclass
class Report:
    """What a run of attacks found."""

    seconds: float = 0.0
    num_attacks: int = 0
    num_calls: int = 0
    by_family: dict[str, int] = field(default_factory=dict)
    findings: dict[str, list[Finding]] = field(default_factory=dict)  # by kind

    def add(self, finding: Finding) -> None:
        self.findings.setdefault(finding.kind, []).append(finding)

    def __str__(self) -> str:
        rate = 60 * self.num_calls / max(self.seconds, 1e-9)
        families = ", ".join(f"{name}: {count}" for name, count in self.by_family.items())
        lines = [
            f"{self.num_attacks:,} attacks, {self.num_calls:,} calls in {self.seconds:.0f} s ({rate:,.0f} calls per "
            f"minute); {families}; {len(self.findings)} findings"
        ]
        return "\n".join([*lines, *(f"{len(each)} x {each[0]}" for each in self.findings.values())])


class _Process:
    """A victim process, with its scratch folder and what it prints."""

    def __init__(self, hang_s: float):
        self._hang_s = hang_s
        shared_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._scratch = Path(tempfile.mkdtemp(prefix="adversary_", dir=shared_memory))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open while the process runs
        self._process = subprocess.Popen(
            [sys.executable, "-m", "adversary.victim", str(self._scratch), str(hang_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=TESTS,
            env=os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"},
        )
        if self.read(START_S) is None:
            raise RuntimeError(f"the victim does not start: {self.end()}")

    def read(self, timeout_s: float) -> dict | None:
        """Its next answer; None if it has ended or does not answer in time."""
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def attack(self, name: str) -> dict | None:
        self._process.stdin.write(f"{name}\n".encode())
        self._process.stdin.flush()
        return self.read(10 * self._hang_s)

    def end(self) -> str:
        """Kill it; returns what it printed last, such as the traceback of a hang."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-8000:]


def attack_names(seed: int, families: Sequence[str]) -> Iterator[str]:
    """Endless names of attacks; the time that passes between two of them is shared by the families, by SHARES."""
    seconds, numbers = dict.fromkeys(families, 0.0), Counter[str]()
    while True:
        family = min(seconds, key=seconds.get)
        begin = time.monotonic()
        yield f"{seed}:{family}:{numbers[family]}"
        seconds[family] += (time.monotonic() - begin) / SHARES.get(family, 1)
        numbers[family] += 1


def run_attacks(names: Iterator[str], seconds: float, hang_s: float = HANG_S) -> Report:
    """Run attacks until the time is over or there are no more names."""
    report, process = Report(), _Process(hang_s)
    begin = time.monotonic()
    try:
        for name in names:
            if time.monotonic() - begin > seconds:
                break
            process = process or _Process(hang_s)
            answer = process.attack(name)
            family = name.split(":")[1]
            report.num_attacks += 1
            report.by_family[family] = report.by_family.get(family, 0) + 1
            if answer is None:
                report.add(Finding(name, "the process", "hangs, or ends the process", process.end()))
                process = None
                continue
            report.num_calls += answer["calls"]
            for finding in answer["findings"]:
                report.add(Finding(name, *finding))
    finally:
        if process is not None:
            process.end()
        report.seconds = time.monotonic() - begin
    return report
