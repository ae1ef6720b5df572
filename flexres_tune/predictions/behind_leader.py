"""How far the others of an answer are behind its leader, on the images of a split, if seeds and images are redrawn.

The others are the best configurations of the levels that a sweep compares, or the leaderboard's second one, and the
baseline of the sweep file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flexres_tune.analysis.answer import Answer
from flexres_tune.analysis.leaderboard import BoardRow
from flexres_tune.analysis.ranked_trials import ranked_trials
from flexres_tune.analysis.summary import configuration_name
from flexres_tune.errors import ResultsError
from flexres_tune.predictions.classes import PredictedTrials, read_predictions
from flexres_tune.predictions.disagreement import DifferenceInterval, interval_of_configurations
from flexres_tune.records import TrialStatus
from flexres_tune.results.reader import Results
from flexres_tune.text import plural_range

SPLITS = {"test": "test", "val": "validation"}  # in this order: the difference of the test accuracies, if there are any


@dataclass(frozen=True)
class BehindLeader:
    """How much more accurate the leader is than another configuration, on the images of a split."""

    names: tuple[str, str]  # the leader, the other one
    config_id: str  # of the other one
    split: str  # val | test
    interval: DifferenceInterval

    @property
    def sentence(self) -> str:
        """Both intervals in words; with one seed each, nothing is known about training again."""
        a, b = self.names
        images = f"{self.interval.num_images:,} {SPLITS[self.split]} images"
        return f"On the {images}, accuracy of {a} less {b}, after the last epoch: {interval_words(self.interval, self.split)}."


def behind_leader(results: Results, answer: Answer) -> list[BehindLeader]:
    """Of each other level's best, or of the leaderboard's second row, then of the baseline; by the trials that count there.

    Those that were not measured like the leader, or have no predictions of the same images, are left out.
    """
    rows = [row.row for row in answer.rows if row.row is not None and row.problem is None]
    rows = rows if len(rows) > 1 else list(answer.board.ranked[:2])
    if answer.baseline is not None and answer.baseline.config_id not in [row.config_id for row in rows]:
        rows.append(answer.baseline)
    leader, *others = rows or [None]
    others = [row for row in others if row.rank is not None and row.stage == leader.stage]
    if not others:
        return []
    only = _trial_ids(results, answer.board.sweep, [leader, *others])
    found: dict[str, BehindLeader] = {}
    for split in SPLITS:
        if len(found) == len(others):
            break
        groups = _read(results, answer.board.sweep, split, only)
        for row in others:
            interval = interval_of_configurations(groups, leader.config_id, row.config_id)
            if interval is not None and row.config_id not in found:
                names = tuple(configuration_name(each.parameters, each.config_id) for each in (leader, row))
                found[row.config_id] = BehindLeader(names, row.config_id, split, interval)
    return [found[row.config_id] for row in others if row.config_id in found]


def with_intervals(answer: Answer, found: Sequence[BehindLeader]) -> Answer:
    """The answer with the differences in the rows of their levels."""
    by_config = {each.config_id: each for each in found}
    rows = []
    for row in answer.rows:
        if row.config_id in by_config and row.problem is None:
            split, interval = by_config[row.config_id].split, by_config[row.config_id].interval
            seeds, both = interval.seeds or (None, None), interval.seeds_and_images or (None, None)
            row = replace(
                row,
                images_split=split,
                num_images=interval.num_images,
                behind_on_images=interval.difference,
                trained_again_low=seeds[0],
                trained_again_high=seeds[1],
                other_images_low=both[0],
                other_images_high=both[1],
            )
        rows.append(row)
    return replace(answer, rows=tuple(rows))


def _read(results: Results, sweep: str, split: str, only: Sequence[str]) -> list[PredictedTrials]:
    try:
        return read_predictions(results, sweep, split, only=only)
    except ResultsError:  # none has predictions of this split
        return []


def _trial_ids(results: Results, sweep: str, rows: Sequence[BoardRow]) -> list[str]:
    """The trials whose means the leaderboard shows for these configurations."""
    wanted = {(row.config_id, row.stage) for row in rows}
    columns = ["trial_id", "config_id", "stage", "status"]
    return [
        row["trial_id"]
        for row in ranked_trials(results, sweep).select(columns).to_pylist()
        if (row["config_id"], row["stage"]) in wanted and row["status"] == TrialStatus.COMPLETED
    ]


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
        f"{SPLITS[split]} images: {both[0]:+.2f} to {both[1]:+.2f} (95 %, {plural_range(interval.num_seeds, 'seed')}"
        f"{', paired' if interval.is_paired else ''})"
    )
