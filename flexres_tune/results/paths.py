"""Where a sweep's files lie: results/<sweep>/{trials,epochs,decisions,checkpoints}/, plan.json, report.html ..."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flexres_tune.errors import ResultsError
from flexres_tune.names import name_problem

TABLES = ("trials", "epochs", "decisions")


@dataclass(frozen=True)
class SweepPaths:
    """All paths of one sweep under a results folder.

    Raises:
        ResultsError: a sweep's name that is no safe folder's name, such as `../x`.
    """

    root: Path
    sweep: str

    def __post_init__(self):
        object.__setattr__(self, "root", Path(self.root))
        if problem := name_problem(self.sweep):
            raise ResultsError(f"{self.root}: the sweep's name {problem}")

    @property
    def folder(self) -> Path:
        return self.root / self.sweep

    @property
    def trials(self) -> Path:
        return self.folder / "trials"

    @property
    def epochs(self) -> Path:
        return self.folder / "epochs"

    @property
    def decisions(self) -> Path:
        return self.folder / "decisions"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def plan(self) -> Path:
        return self.folder / "plan.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def logs(self, name: str) -> Path:
        """Where one of `run --logger`'s loggers writes."""
        return self.folder / "logs" / name

    @property
    def lock(self) -> Path:
        return self.folder / "driver.lock"

    @property
    def fetched(self) -> Path:
        """Which files `submit --fetch` has brought, and from where."""
        return self.folder / ".fetched.json"

    def table(self, name: str) -> Path:
        """The folder of one of TABLES."""
        return {"trials": self.trials, "epochs": self.epochs, "decisions": self.decisions}[name]

    def checkpoint(self, trial_id: str) -> Path:
        """The one place of a trial's checkpoint, whichever process writes it."""
        if problem := name_problem(trial_id):
            raise ResultsError(f"{self.checkpoints}: a trial_id {problem}")
        return self.checkpoints / f"{trial_id}.pt"


def index_path(root: Path) -> Path:
    """The page over all sweeps of a results folder."""
    return Path(root) / "index.html"
