"""The first two of a leaderboard, or of the levels that a sweep compares: their difference if seeds and images are redrawn."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.answer import Answer
from flexres_tune.analysis.leaderboard import BoardRow, ranked_trials
from flexres_tune.analysis.summary import configuration_name
from flexres_tune.errors import ResultsError
from flexres_tune.predictions.classes import read_predictions
from flexres_tune.predictions.disagreement import DifferenceInterval, interval_of_configurations
from flexres_tune.records import TrialStatus
from flexres_tune.results.reader import Results
from flexres_tune.text import plural

SPLITS = {"test": "test", "val": "validation"}  # in this order: the difference of the test accuracies, if there are any


@dataclass(frozen=True)
class FirstTwo:
    """How much more accurate the first configuration is than the second, on the images of a split."""

    names: tuple[str, str]
    split: str  # val | test
    interval: DifferenceInterval

    @property
    def sentence(self) -> str:
        """Both intervals in words; with one seed each, nothing is known about training again."""
        a, b = self.names
        images = f"{self.interval.num_images:,} {SPLITS[self.split]} images"
        return f"On the {images}, {a} less {b}, after the last epoch: {interval_words(self.interval, self.split)}."


def first_two(results: Results, answer: Answer) -> FirstTwo | None:
    """Of the two levels that lead the answer, or of the leaderboard's first two; by the trials that count there.

    None if they were not measured alike, or if their predictions are not stored for the same images.
    """
    rows = [row.row for row in answer.rows if row.row is not None and row.problem is None] or list(answer.board.ranked)
    pair = [row for row in rows if row.rank is not None and row.stage == rows[0].stage][:2]
    if len(pair) < 2:
        return None
    trial_ids = [_trial_ids(results, answer.board.sweep, row) for row in pair]
    for split in SPLITS:
        try:
            groups = read_predictions(results, answer.board.sweep, split, only=[*trial_ids[0], *trial_ids[1]])
        except ResultsError:
            continue
        interval = interval_of_configurations(groups, pair[0].config_id, pair[1].config_id)
        if interval is not None:
            names = tuple(configuration_name(row.parameters, row.config_id) for row in pair)
            return FirstTwo(names, split, interval)
    return None


def _trial_ids(results: Results, sweep: str, row: BoardRow) -> list[str]:
    """The trials whose mean the leaderboard shows for this configuration."""
    trials = ranked_trials(results, sweep)
    wanted = {"config_id": row.config_id, "stage": row.stage, "status": TrialStatus.COMPLETED.value}
    for name, value in wanted.items():
        trials = trials.filter(pc.is_in(trials[name], value_set=pa.array([value], pa.string())))
    return trials["trial_id"].to_pylist()


def interval_words(interval: DifferenceInterval, split: str) -> str:
    """ "+1.20 points; if we trained again: +0.30 to +2.10; ...": the intervals of a difference."""
    points = f"{100 * interval.difference:+.2f} points"
    if interval.seeds is None or interval.seeds_and_images is None:
        low, high = (100 * bound for bound in interval.images)
        return (
            f"{points}; with these models on other images: {low:+.2f} to {high:+.2f}; with one seed nothing is known about "
            "training again"
        )
    seeds, both = ((100 * low, 100 * high) for low, high in (interval.seeds, interval.seeds_and_images))
    return (
        f"{points}; if we trained again: {seeds[0]:+.2f} to {seeds[1]:+.2f}; if we trained again and drew other "
        f"{SPLITS[split]} images: {both[0]:+.2f} to {both[1]:+.2f} (95 %, {plural(min(interval.num_seeds), 'seed')}"
        f"{', paired' if interval.is_paired else ''})"
    )
