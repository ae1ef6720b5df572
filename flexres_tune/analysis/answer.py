"""The answer to a sweep's question: the best configuration of each level of `compare`, and which levels differ.

A level is a value of the compared parameter, or a combination of values of several. Its best configuration is the first
of it on the leaderboard. So the p values are those of the leaderboard, which account for every configuration that was
confirmed, and with that for the choice of each level's best.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from flexres_tune.analysis.final import final_run
from flexres_tune.analysis.leaderboard import (
    TOO_FEW_SEEDS,
    Board,
    BoardRow,
    comparison_problems,
    leaderboards,
    seeds_text,
)
from flexres_tune.analysis.rows import to_table
from flexres_tune.analysis.summary import (
    advice_on_seeds,
    configuration_name,
    further_seeds_text,
    gap_text,
    left_out_words,
    parameters_text,
    sentence_of,
)
from flexres_tune.display.format import NOTHING, format_value
from flexres_tune.errors import FlexResError
from flexres_tune.records import LeftOut, Stage, column
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import plan_or_none
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import column_of_key
from flexres_tune.text import format_duration, join_words, plural, plural_range
from flexres_tune.uncertainty.comparisons import PooledDeviation, Samples, least_differences, pooled_deviation


@dataclass(frozen=True, kw_only=True)
class LevelRow:
    """One level of the question, by its best configuration."""

    sweep: str = column("sweep's name")
    dataset: str = column("data set")
    parameters: Mapping[str, Any]  # the compared ones
    best_configuration: str | None = column("other parameters of the level's best configuration; null without one")
    config_id: str | None = column("its id")
    stage: str | None = column("confirm if its confirm trials are counted, else screen")
    num_seeds: int = column("its seeds that count", "seeds")
    metric_mean: float | None = column("its mean", "metric")
    metric_sd: float | None = column("its standard deviation", "metric")
    metric_low: float | None = column("lower end of the mean's 95 % interval", "metric")
    metric_high: float | None = column("upper end of the mean's 95 % interval", "metric")
    separable_from_leader: str | None = column("as on the leaderboard; null if it is not compared")
    behind_leader: float | None = column("by how much the leader's mean is better", "metric difference")
    behind_leader_low: float | None = column("lower end of its 95 % interval", "metric difference")
    behind_leader_high: float | None = column("upper end of its 95 % interval", "metric difference")
    pooled_sd: float | None = column(
        "standard deviation that the mean's interval has, if it is pooled over all that were confirmed; null if it is "
        "that of the configuration's own seeds",
        "metric difference",
    )
    p_value: float | None = column("adjusted for all comparisons of the leaderboard")
    images_split: str | None = column("val | test: images of the next columns; null without predictions", default=None)
    num_images: int | None = column("number of these images", "images", default=None)
    behind_on_images: float | None = column(
        "by how much the leader's accuracy after the last epoch is higher on these images", "fraction", default=None
    )
    trained_again_low: float | None = column("its 95 % interval if we trained again", "fraction", default=None)
    trained_again_high: float | None = column("its 95 % interval if we trained again", "fraction", default=None)
    other_images_low: float | None = column(
        "its 95 % interval if we trained again and drew other such images", "fraction", default=None
    )
    other_images_high: float | None = column(
        "its 95 % interval if we trained again and drew other such images", "fraction", default=None
    )
    num_configs: int = column("configurations of the level that have a trial", "configurations")
    device_seconds: float | None = column("training time of all trials of the level", "s")
    problem: str | None = column("why the level has no result, or why it is not compared; null if it is")
    row: BoardRow | None = None  # of the best configuration

    @property
    def seeds(self) -> str:
        """Such as "5", or "2 of 3" if a seed did not run to the end."""
        return "0" if self.row is None else seeds_text(self.row).removesuffix("s").removesuffix(" seed")

    @property
    def name(self) -> str:
        """Such as "sgd (lr=0.1)"."""
        return f"{self.level} ({self.best_configuration})" if self.best_configuration else self.level

    @property
    def level(self) -> str:
        """Such as "sgd"."""
        return parameters_text(self.parameters) or ", ".join(f"no {name}" for name in self.parameters)


@dataclass(frozen=True)
class Answer:
    """The answer of a sweep on one data set; without `compare` it has no rows, and its claim is the summary's."""

    board: Board
    compare: tuple[str, ...]
    rows: tuple[LevelRow, ...]  # best first, those without a result last
    claim: str  # which is best, and by how much
    caveats: tuple[str, ...] = ()  # sentences: what was not compared, and what would decide more
    findings: tuple[str, ...] = ()  # sentences about the baseline and the final run, if there are any
    pooled: PooledDeviation | None = None  # that the intervals of the means have; None: each has its own
    baseline: BoardRow | None = None  # of the sweep file, if it has one and it has a result

    @property
    def sentence(self) -> str:
        """All of it in words."""
        return " ".join((self.claim, *self.caveats, *self.findings))

    def to_table(self) -> pa.Table:
        return to_table(LevelRow, self.rows, self.compare, self.board.metric)


def answer_of(results: Results, sweep: str, boards: Sequence[Board] | None = None) -> Answer:
    """The answer to the question that plan.json has, on the data set used last.

    Raises:
        ResultsError: no such sweep.
    """
    board = (boards or leaderboards(results, sweep))[0]
    plan = plan_or_none(SweepPaths(results.root, sweep))
    spec = plan.spec if plan else {}
    trials = results.trials(sweep)
    names = {key: column_of_key(key, trials.column_names) for key in spec.get("compare") or ()}
    names = {key: name for key, name in names.items() if name in trials.column_names}
    compare = tuple(names.values())
    final = final_run(results, board)
    config_id = _baseline_id(spec) if spec.get("baseline") else None
    baseline = next((row for row in board.rows if row.config_id == config_id and row.num_completed), None)
    findings = _over_baseline(board, spec, config_id, baseline) + ((final.sentence,) if final else ())
    left_out = _left_out(plan.left_out) if plan else ()
    if not compare or not board.rows:
        return Answer(board, (), (), sentence_of(board), left_out, findings, baseline=baseline)
    values = {row.pop("config_id"): row for row in trials.select(["config_id", *compare]).to_pylist()}
    groups: dict[str, list[BoardRow]] = {_key(level): [] for level in _planned_levels(spec, names)}
    levels = {_key(level): level for level in _planned_levels(spec, names)}
    for row in board.rows:
        level = values[row.config_id]
        levels.setdefault(_key(level), level)
        groups.setdefault(_key(level), []).append(row)
    rows = [_level_row(board, levels[key], group) for key, group in groups.items()]
    pooled = _pooled(board)
    rows = [_with_pooled_interval(board, row, pooled) for row in rows] if pooled else rows
    places = {row.config_id: place for place, row in enumerate(board.rows)}
    rows.sort(key=lambda each: len(places) if each.config_id is None else places[each.config_id])
    claim, *caveats = _sentences(board, rows)
    return Answer(board, compare, tuple(rows), claim, (*caveats, *left_out), findings, pooled, baseline)


def interval_note(answer: Answer) -> str:
    """What the intervals of the levels rest on; "" if each rests on its own seeds."""
    if answer.pooled is None:
        return ""
    metric = answer.board.metric
    sd = f"{f'{metric.factor * answer.pooled.sd:#.2g}'.rstrip('.')} {metric.difference}"
    return (
        f"intervals of means have the standard deviation of {sd} between seeds, which is pooled over all that were "
        f"confirmed, with their runs of the screening ({answer.pooled.freedom:.0f} degrees of freedom), because there are "
        "few fresh seeds"
    )


def _pooled(board: Board) -> PooledDeviation | None:
    """The deviation for the intervals of the levels, if there are so few seeds that the tests count the screening."""
    pool = [row for row in board.ranked if row.stage == board.ranked[0].stage and row.scores]
    samples = _samples(pool)
    return pooled_deviation(samples) if pool and samples.count_screening else None


def _samples(rows: Sequence[BoardRow]) -> Samples:
    return Samples.of([row.scores for row in rows], [row.screened for row in rows])


def _with_pooled_interval(board: Board, row: LevelRow, pooled: PooledDeviation) -> LevelRow:
    if row.row is None or row.problem is not None:
        return row
    low, high = board.metric.clip(row.metric_mean, pooled.half_width(row.num_seeds))
    return replace(row, metric_low=low, metric_high=high, pooled_sd=pooled.sd)


def _over_baseline(
    board: Board, spec: Mapping[str, Any], config_id: str | None, row: BoardRow | None
) -> tuple[str, ...]:
    """What the leader gains over the baseline of the sweep file, as a sentence; none without a baseline."""
    if not spec.get("baseline") or not board.ranked:
        return ()
    name = parameters_text(spec["baseline"])
    if config_id is None:
        return (f"The baseline, {name}, is not compared: this version cannot read its settings in plan.json.",)
    leader = board.ranked[0]
    if row is None:
        return (f"The baseline, {name}, has no result.",)
    if row is leader:
        return (f"The baseline, {name}, leads itself: nothing is known to be better.",)
    if row.behind_leader is None:
        return (f"The baseline, {name}, is not compared: it did not run to the end, or was not confirmed.",)
    gain = gap_text(replace(row, parameters=spec["baseline"]), board.metric)
    shown = "" if row.separable_from_leader == "yes" else ", which may be chance"
    return (f"Over the baseline: {configuration_name(leader.parameters, leader.config_id)} is {gain}{shown}.",)


def _left_out(left_out: LeftOut) -> tuple[str, ...]:
    """What the budget left out, as a sentence; none if nothing."""
    words = left_out_words(left_out)
    return (f"The budget left out {words}; raise it to run the rest.",) if words else ()


def _baseline_id(spec: Mapping[str, Any]) -> str | None:
    """config_id of the baseline; None if this version of the package cannot read the plan."""
    from flexres_tune.spec import SweepSpec
    from flexres_tune.spec.expand import baseline_trial

    try:
        return baseline_trial(SweepSpec.model_validate(spec), lambda dataset: None).config.config_id
    except (FlexResError, ValueError):
        return None


def _key(level: Mapping[str, Any]) -> str:
    """Equal for 1 and 1.0, because a table has one of them and a sweep file may have the other."""
    values = [float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in level.values()]
    return json.dumps(values, default=str)


def _planned_levels(spec: Mapping[str, Any], compare: Mapping[str, str]) -> list[dict[str, Any]]:
    """The levels of the sweep file; those of values that are written otherwise in the tables are left out.

    So are those that an entry of `exclude` names. `compare` has the column of each key.
    """
    found, excluded = [], [entry for entry in spec.get("exclude") or () if entry.keys() <= compare.keys()]
    for grid in spec.get("parameters") or ():
        listed = [grid[name].get("values") if name in grid else [spec.get("base", {}).get(name)] for name in compare]
        for values in itertools.product(*(each or () for each in listed)):
            level = dict(zip(compare, values, strict=True))
            is_plain = all(isinstance(value, str | int | float) for value in values)
            if is_plain and not any(all(level[key] == entry[key] for key in entry) for entry in excluded):
                found.append({compare[key]: value for key, value in level.items()})
    return found


def _level_row(board: Board, level: Mapping[str, Any], group: Sequence[BoardRow]) -> LevelRow:
    best = next((row for row in group if row.num_completed and row.metric_mean is not None), None)
    others = {} if best is None else {name: v for name, v in best.parameters.items() if name not in level}
    same = ("config_id", "stage", "metric_mean", "metric_sd", "metric_low", "metric_high", "separable_from_leader")
    same += ("p_value", "behind_leader", "behind_leader_low", "behind_leader_high")
    seconds = [row.device_seconds for row in group if row.device_seconds is not None]
    return LevelRow(
        sweep=board.sweep,
        dataset=board.dataset,
        parameters=level,
        best_configuration=parameters_text(others) or None,
        **{name: None if best is None else getattr(best, name) for name in same},
        num_seeds=0 if best is None else best.num_seeds,
        pooled_sd=None,
        num_configs=len(group),
        device_seconds=sum(seconds) if seconds else None,
        problem=_problem(board, best, group),
        row=best,
    )


def _problem(board: Board, best: BoardRow | None, group: Sequence[BoardRow]) -> str | None:
    if not group:
        return "none of its trials has ended"
    if best is None:
        counts = {
            "stopped early": sum(row.num_stopped for row in group),
            "paused": sum(row.num_paused for row in group),
            "interrupted": sum(row.num_interrupted for row in group),
            "diverged": sum(row.num_diverged for row in group),
            "out of memory": sum(row.num_out_of_memory for row in group),
            "failed": sum(row.num_failed for row in group),
        }
        return "no trial ran to the end: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if best.rank is None:
        return f"{seeds_text(best)} ran to the end"
    if best.stage != board.ranked[0].stage:
        return "it was not confirmed"
    return None


def _sentences(board: Board, rows: Sequence[LevelRow]) -> list[str]:
    """The claim which levels are best, and by how much they beat the others; then its caveats."""
    compared = [row for row in rows if row.row is not None and row.problem is None]
    without = [f"{row.level} ({row.problem})" for row in rows if row.problem]
    left_out = [f"Not compared: {join_words(without, 'and')}."] if without else []
    if len(compared) < 2:
        return [sentence_of(board), *left_out]
    problems = [f"{text[0].upper()}{text[1:]}." for text in comparison_problems(board) if "precision" in text]
    claim, *advice = _comparison(board, compared)
    return [claim, *left_out, *problems, *advice]


def _comparison(board: Board, compared: Sequence[LevelRow]) -> list[str]:
    """The claim about levels that were measured alike, best first; then how to find out more."""
    leader, *others = compared
    metric = board.metric
    estimate = metric.estimate(leader.metric_mean, leader.metric_sd, leader.metric_low, leader.metric_high)
    mean = f"{leader.name} has {estimate}"
    one_seed = [row.name for row in compared if row.metric_low is None and row.num_seeds < 2]
    if one_seed:
        of_whom = "" if len(one_seed) == len(compared) else f" of {join_words(one_seed, 'and')}"
        advice = advice_on_seeds(board)
        return [
            f"{mean} and leads, but with one seed there is no interval{of_whom}; {advice} to find out how sure that is."
        ]
    equals = [row for row in others if row.separable_from_leader != "yes"]
    worse = [row for row in others if row.separable_from_leader == "yes"]
    top = [leader, *equals]
    names = join_words([row.name for row in top], "and")
    parts = []
    if equals and any(row.separable_from_leader.endswith(TOO_FEW_SEEDS) for row in equals):
        parts.append(f"{plural_range([row.num_seeds for row in top], 'seed')} cannot show which of {names} is best")
    elif equals:
        parts.append(f"{names} are not separable")
    parts += _victories(board, top, worse)
    n = leader.num_seeds if leader.num_seeds == min(r.num_seeds for r in compared) else None
    seeds = f" over {plural(n, 'fresh seed' if leader.stage == Stage.CONFIRM else 'seed')}" if n else ""
    more = further_seeds_text(board, equals[0].row, f"{leader.name} and {equals[0].name}") if equals else ""
    chosen = (
        ""
        if leader.stage == Stage.CONFIRM
        else f"They were chosen by these same seeds, so {advice_on_seeds(board)} to measure them on fresh ones."
    )
    first = f"{parts[0]}; " if equals else f"{leader.name} is best: "
    rest = "; ".join(parts[1:] if equals else parts)
    text = f"{first}{rest}".rstrip("; ")
    return [f"{text}. {mean}{seeds}.", *filter(None, (more.strip(), chosen))]


def _victories(board: Board, top: Sequence[LevelRow], worse: Sequence[LevelRow]) -> list[str]:
    """Clauses such as "both beat adamw by at least 0.4 points"; the bounds hold together in 95 % of sweeps."""
    if not worse:
        return []
    pool = [row for row in board.ranked if row.stage == top[0].stage and row.scores]
    places = {row.config_id: place for place, row in enumerate(pool)}
    bounds = least_differences(_samples(pool), [places[row.config_id] for row in [*top, *worse]])
    columns = {row.config_id: len(top) + index for index, row in enumerate(worse)}
    by_all = [row for row in worse if all(bounds[i, columns[row.config_id]] > 0 for i in range(len(top)))]
    by_leader = [row for row in worse if row not in by_all]
    subject = top[0].name if len(top) == 1 else "both beat" if len(top) == 2 else f"all {len(top)} beat"
    clauses = []
    for rows, who, some in ((by_all, subject, range(len(top))), (by_leader, top[0].name, range(1))):
        if not rows:
            continue
        least = min(bounds[i, columns[row.config_id]] for i in some for row in rows)
        names = join_words([row.name for row in rows], "and")
        verb = "it beats" if len(top) == 1 else who if who.endswith(" beat") else f"{who} beats"
        clauses.append(f"{verb} {names}{_at_least(board, least)}")
    return clauses


def _at_least(board: Board, least: float) -> str:
    metric = board.metric
    shown = metric.factor * least
    digits = next((digits for digits in range(1, 4) if round(shown, digits) > 0), None)
    return "" if digits is None or not shown > 0 else f" by at least {shown:.{digits}f} {metric.difference}"


def answer_cells(answer: Answer) -> tuple[list[str], list[list[str]]]:
    """(names of the columns, texts of each row); columns that are empty in all rows are left out."""
    metric = answer.board.metric
    has_sd = any(row.metric_sd is not None for row in answer.rows)
    value = f"{metric.column} ±sd" if has_sd else metric.column
    names = [*answer.compare, "best_configuration", value, "interval_95_%", "num_seeds"]
    names += ["behind_leader", "interval_of_that", "p_adjusted", "separable", "num_configs", "device_time", "problem"]
    rows = []
    for row in answer.rows:
        apart = row.behind_leader is not None and row.separable_from_leader != "leader"
        rows.append(
            [
                *(format_value(row.parameters[name]) for name in answer.compare),
                row.best_configuration or NOTHING,
                NOTHING if row.metric_mean is None else metric.text(row.metric_mean, row.metric_sd),
                metric.interval(row.metric_low, row.metric_high) or NOTHING,
                NOTHING if row.row is None else row.seeds,
                metric.gap(row.behind_leader) if apart else NOTHING,
                (apart and metric.gap_interval(row.behind_leader_low, row.behind_leader_high)) or NOTHING,
                NOTHING if row.p_value is None else "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}",
                row.separable_from_leader or NOTHING,
                str(row.num_configs),
                NOTHING if row.device_seconds is None else format_duration(row.device_seconds),
                row.problem or NOTHING,
            ]
        )
    kept = [i for i, name in enumerate(names) if i < len(answer.compare) or any(r[i] != NOTHING for r in rows)]
    return [names[i] for i in kept], [[row[i] for i in kept] for row in rows]
