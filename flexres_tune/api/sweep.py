"""Sweep: one sweep of a results folder, with its tables, its answers and its models; Sweeps: all of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flexres_tune.analysis.answer import Answer, answer_of
from flexres_tune.analysis.leaderboard import leaderboards
from flexres_tune.analysis.metric import metric_of
from flexres_tune.analysis.rows import concatenate, to_table
from flexres_tune.display.html import section_html
from flexres_tune.effects.parameters import Effect, parameter_effects
from flexres_tune.query.views import answer_leaderboard, answer_status
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.storage import AnyPath, make_path
from flexres_tune.text import escape_html

if TYPE_CHECKING:
    import torch

ROWS_IN_NOTEBOOK = 15


def open_results(path: str | AnyPath = "results") -> Sweeps:
    """The sweeps in a results folder, or at an address such as s3://bucket/results: `open_results("results")["optim"]`.

    Raises:
        ResultsError: no such folder, or a file in its place; names the command that makes one.
    """
    return Sweeps(make_path(path))


class Sweeps(Results):
    """The sweeps of a results folder by name, and the tables of all of them together."""

    def __getitem__(self, name: str) -> Sweep:
        """A sweep by its name.

        Raises:
            ResultsError: no sweep of that name; suggests similar ones.
        """
        self.choose(name)
        return Sweep(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sweeps())

    def __len__(self) -> int:
        return len(self.sweeps())

    def __contains__(self, name: object) -> bool:
        return name in self.sweeps()

    def __repr__(self) -> str:
        return f"<Sweeps of {self.root}: {', '.join(self.sweeps()) or 'none'}>"

    def _repr_html_(self) -> str:
        """Notebooks show this: what is done and missing in each sweep."""
        if not self.sweeps():
            return f"<p>{escape_html(f'{self.root}: no sweeps')}</p>"
        return "".join(map(section_html, answer_status(self, None, None).sections))


class Sweep:
    """One sweep: every call reads what the tables hold now, also while the sweep runs.

    Tables are Arrow tables, and `.to_pandas()` makes data frames of them. Accuracies are fractions.
    """

    def __init__(self, results: Results, name: str):
        self._results, self.name = results, name

    @property
    def folder(self) -> AnyPath:
        """The folder of its tables, checkpoints and report."""
        return SweepPaths(self._results.root, self.name).folder

    def trials(self) -> pa.Table:
        """One row per trial and stage: configuration, status, accuracies, times."""
        return self._results.trials(self.name)

    def epochs(self) -> pa.Table:
        """One row per trial and epoch: losses, accuracies, learning rate."""
        return self._results.epochs(self.name)

    def decisions(self) -> pa.Table:
        """One row per decision to stop, pause, promote or confirm a trial."""
        return self._results.decisions(self.name)

    def predictions(self) -> pa.Table:
        """One row per completed trial and split: what it says about each image."""
        return self._results.predictions(self.name)

    def sql(self, query: str) -> pa.Table:
        """The rows of a DuckDB query over `trials`, `epochs`, `decisions`, `predictions` and `labels` of this sweep.

        Raises:
            ResultsError: the query is wrong, with DuckDB's message.
        """
        return self._results.sql(query, self.name)

    def leaderboard(self) -> pa.Table:
        """Configurations, best first, with intervals and their comparison with the leader; a data set after another."""
        return concatenate([board.to_table() for board in leaderboards(self._results, self.name)])

    def compare(self, parameter: str, by: str | None = None) -> pa.Table:
        """The effect of a parameter, or of two, with intervals: one row per value.

        Raises:
            ResultsError: the parameter does not vary in the sweep; suggests similar ones.
        """
        keys = [parameter] if by is None else [parameter, by]
        effects = parameter_effects(self._results, self.name, parameter, by)
        return to_table(Effect, effects, keys, metric_of(self._results, self.name))

    def answer(self) -> Answer:
        """The answer to the sweep's question: `.sentence`, and with `compare` in the sweep `.to_table()`."""
        from flexres_tune.predictions.behind_leader import behind_leader, with_intervals

        answer = answer_of(self._results, self.name)
        return with_intervals(answer, behind_leader(self._results, answer)) if answer.rows else answer

    def best(self) -> dict[str, Any]:
        """The row of `trials` of the best seed of the leaderboard's first configuration.

        Raises:
            ResultsError: no configuration has run to its end.
        """
        from flexres_tune.export.trained import best_rows

        return dict(best_rows(self._results, self.name)[0])

    def load_model(
        self, trial: str | Mapping[str, Any] | None = None, *, code: str | Path | None = None, device: str = "cpu"
    ) -> torch.nn.Module:
        """A trained network: images (B, 3, H, W) in [0, 1] -> logits (B, classes). It normalises the images itself.

        Args:
            trial: a trial_id or a row of `trials`; by default the best trial that has its weights.
            code: the sweep file's folder, if the trial has own code, which is executed.
            device: where the network is put, such as cuda.

        Raises:
            ResultsError: no such trial, it did not run to its end, or its weights are missing; the message has the
                command that trains them.
        """
        from flexres_tune.export.trained import find_best, find_trial, read_code

        trial_id = trial["trial_id"] if isinstance(trial, Mapping) else trial
        found = (
            find_best(self._results, self.name) if trial_id is None else find_trial(self._results, trial_id, self.name)
        )
        found = read_code(found, code, "load_model", "as code=FOLDER")
        from flexres_tune.export.network import load_network

        return load_network(found).normalised.to(device)

    def write_report(self) -> AnyPath:
        """Write the report, one HTML file, and return its path."""
        from flexres_tune.report.files import write_report

        return write_report(self._results, self.name)

    def __repr__(self) -> str:
        return f"<Sweep {self.name} in {self._results.root}: {answer_of(self._results, self.name).sentence}>"

    def _repr_html_(self) -> str:
        """Notebooks show this: the answer, and the first rows of the leaderboard as a person reads it."""
        board = answer_leaderboard(self._results, self.name, ROWS_IN_NOTEBOOK)
        sentence = f"<p>{escape_html(answer_of(self._results, self.name).sentence)}</p>"
        return sentence + "".join(section_html(section) for section in board.sections)
