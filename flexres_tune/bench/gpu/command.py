"""bench gpu: shows that training works on this machine's GPU, check by check, without Ray.

It needs torch, torchvision, numpy, scikit-learn, pillow, rich, typer and filelock; images in Parquet files also need
pyarrow. On a machine where nothing can be installed, carry these wheels, which tests/machines/gpu_bundle.sh packs with the code
and the images: pydantic, pydantic-core, annotated-types, typing-inspection, ruamel.yaml. For Python 3.12, torch 2.11.

Every check runs in a process that is replaced if it dies, hangs or breaks the device, so that no failure hides another.
All of them take less than ten minutes. Without a GPU those that a CPU can run are run, and the others are listed.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from flexres_tune.bench.figures import describe_machine
from flexres_tune.storage import atomic_write_text
from flexres_tune.text import last_line

TOTAL_S = 570.0  # a check that would begin later is not run


@dataclass(frozen=True)
class Outcome:
    """What one check found."""

    number: int
    name: str
    status: str  # pass | fail | not run
    figure: str  # what was measured, or why it failed or was not run
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.status:>7}  {self.number:>2}  {self.name:<46}  {self.figure}  ({self.seconds:.1f} s)"


def run_checks(dataset: str, report: Path, numbers: Sequence[int] = (), total_s: float = TOTAL_S) -> bool:
    """Run the checks, print a line for each as soon as it ends, and write all to `report`; whether none failed.

    Args:
        dataset: whose images are trained on where speed is measured.
        numbers: of the checks to run; empty: all.
    """
    import torch

    from flexres_tune.bench.gpu.checks import CHECKS

    num_gpus = torch.cuda.device_count()
    machine = describe_machine()
    print(machine if num_gpus else f"{machine}: no GPU here, so only what a CPU can run is checked", flush=True)
    started, outcomes = time.monotonic(), []
    with CheckProcess(dataset) as process:
        for check in sorted(CHECKS, key=lambda check: (check.limit_s, check.number)):
            if numbers and check.number not in numbers:
                continue
            if check.num_gpus > num_gpus:
                missing = "needs a GPU" if check.num_gpus == 1 else f"needs {check.num_gpus} GPUs"
                outcomes.append(Outcome(check.number, check.name, "not run", missing))
            elif time.monotonic() - started > total_s:
                outcomes.append(Outcome(check.number, check.name, "not run", f"{total_s:g} s had passed"))
            else:
                outcomes.append(process.run(check.number, check.name, check.limit_s))
            print(outcomes[-1], flush=True)
            write_report(report, machine, outcomes)
    count = {status: sum(one.status == status for one in outcomes) for status in ("pass", "fail", "not run")}
    print(f"{count['pass']} passed, {count['fail']} failed, {count['not run']} not run; {report}", flush=True)
    return not count["fail"]


def write_report(report: Path, machine: str, outcomes: Sequence[Outcome]) -> None:
    """All outcomes so far, by number: a later check that hangs takes no earlier one with it."""
    checks = [asdict(outcome) for outcome in sorted(outcomes, key=lambda outcome: outcome.number)]
    atomic_write_text(report, json.dumps({"machine": machine, "checks": checks}, indent=1))


class CheckProcess:
    """A process that runs checks one after the other, and is replaced by a new one after a failure."""

    def __init__(self, dataset: str, target: Callable[[str, Connection], None] | None = None):
        """Starts nothing yet.

        Args:
            target: main function of the process; None: `serve_checks`.
        """
        self._dataset = dataset
        self._target = target or serve_checks
        self._process: multiprocessing.Process | None = None
        self._connection: Connection | None = None

    def run(self, number: int, name: str, limit_s: float) -> Outcome:
        """One check's outcome; a process that dies or takes longer than limit_s fails it."""
        started = time.monotonic()
        if self._process is None:
            self._start()
        status, figure = "fail", f"took longer than {limit_s:g} s"
        try:
            self._connection.send(number)
            if self._connection.poll(limit_s):
                passed, figure = self._connection.recv()
                status = "pass" if passed else "fail"
        except (EOFError, OSError):
            self._process.join(10)
            figure = f"its process died with status {self._process.exitcode}"
        if status == "fail":
            self._stop()
        return Outcome(number, name, status, figure, time.monotonic() - started)

    def __enter__(self) -> CheckProcess:
        return self

    def __exit__(self, *exc_info) -> None:
        self._stop()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=self._target, args=(self._dataset, other))
        self._process.start()
        other.close()

    def _stop(self) -> None:
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._process = None


def serve_checks(dataset: str, connection: Connection) -> None:
    """Main function of the process: answers each number with (whether the check passed, its figure)."""
    from flexres_tune.bench.gpu.checks import CHECKS

    checks = {check.number: check for check in CHECKS}
    for number in _requests(connection):
        try:
            answer = checks[number].run(dataset)
        except Exception as error:
            answer = False, f"{type(error).__name__}: {last_line(str(error))[:300]}"
        connection.send(answer)


def _requests(connection: Connection) -> Iterator[int]:
    while True:
        try:
            yield connection.recv()
        except EOFError:  # the parent has closed the connection
            return
