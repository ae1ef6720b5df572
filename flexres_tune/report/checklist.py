"""Answers to the reproducibility checklists of NeurIPS and ACL that the tables of a sweep can give, as Markdown.

The questions are shortened in our own words. What the tables do not have is called "not recorded", never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flexres_tune.analysis.answer import LevelRow
from flexres_tune.analysis.final import final_run
from flexres_tune.display.format import format_value
from flexres_tune.errors import FlexResError
from flexres_tune.records import Stage, TrialStatus
from flexres_tune.report.data import ReportData
from flexres_tune.report.facts import provenance
from flexres_tune.spec import Distribution, SweepSpec
from flexres_tune.text import format_duration, join_words, plural

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Question:
    """A question of one or both checklists, and the function that answers it."""

    topic: str
    asked_by: str  # the checklists, with the number of the question there
    text: str
    answer: Callable[[ReportData], str]


def checklist(data: ReportData) -> str:
    """The questions with their answers, in Markdown."""
    lines = [
        f"# Reproducibility checklist: {data.sweep}",
        "",
        "Answered from the tables of the sweep, after the NeurIPS paper checklist (2024) and the ACL responsible NLP "
        f'checklist. "{NOT_RECORDED}" is for the authors to fill in.',
    ]
    topic = ""
    for question in QUESTIONS:
        if question.topic != topic:
            topic = question.topic
            lines += ["", f"## {topic}"]
        lines += ["", f"**{question.text}** ({question.asked_by})", "", _escape(question.answer(data))]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """Text of the tables as Markdown without markup of its own: a name may hold any character."""
    for character in "\\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return text


def _not_recorded(what: str) -> Callable[[ReportData], str]:
    return lambda data: f"{NOT_RECORDED}: {what}"


def _spec(data: ReportData) -> SweepSpec | None:
    """The sweep file in plan.json; None if there is none that this version can read."""
    try:
        return SweepSpec.model_validate(data.plan.spec) if data.plan else None
    except (FlexResError, ValueError):
        return None


def _claims(data: ReportData) -> str:
    return data.answer.sentence


def _dataset(data: ReportData) -> str:
    return f"{data.board.dataset}." if data.board.dataset else NOT_RECORDED


def _splits(data: ReportData) -> str:
    """The sizes of the splits, from the labels, and which images are held out, from the trials."""
    labels = [row for row in data.results.labels(data.sweep).to_pylist() if row["dataset"] == data.board.dataset]
    names = {"val": "validation", "test": "test"}
    sizes = {row["split"]: len(row["label"] or ()) for row in labels}
    parts = [f"{sizes[split]:,} {name} images" for split, name in names.items() if split in sizes]
    text = f"{join_words(parts, 'and')}; " if parts else f"sizes of validation and test: {NOT_RECORDED}; "
    ways = sorted({str(row["val_split"] or "fixed") for row in _rows(data, ["val_split"])})
    limits = sorted({row["num_train_images"] for row in _rows(data, ["num_train_images"])} - {None})
    held_out = "held out of the training images"
    if ":" in (data.board.dataset or "") and ways == ["fixed"]:  # files or code may have a validation split
        held_out = f"the data's own validation split, or without one {held_out}"
    text += f"validation images are {held_out}, split {join_words(ways, 'and')}. "
    text += (
        f"Training was limited to {join_words([f'{limit:,}' for limit in limits], 'and')} images."
        if limits
        else "All other training images are trained on; their number is " + NOT_RECORDED + " in the tables."
    )
    return text


def _preprocessing(data: ReportData) -> str:
    used = sorted({"+".join(row["augmentation"] or ()) or "none" for row in _rows(data, ["augmentation"])})
    return f"Augmentation of training images: {join_words(used, 'and')}. Validation and test images are not augmented."


def _rows(data: ReportData, columns: list[str]) -> list[dict[str, Any]]:
    trials = data.results.trials(data.sweep)
    known = {trial.trial_id for trial in data.trials}
    rows = trials.select(["trial_id", *columns]).to_pylist()
    return [row for row in rows if row["trial_id"] in known]


def _models(data: ReportData) -> str:
    found = {(row["model"], row["num_parameters"]) for row in _rows(data, ["model", "num_parameters"])}
    sizes = [f"{model}: {size:,} trainable parameters" for model, size in sorted(found, key=str) if size is not None]
    return "; ".join(sizes[:10]) + (f"; and {len(sizes) - 10} more" if len(sizes) > 10 else "") or NOT_RECORDED


def _ranges(data: ReportData) -> str:
    """What the sweep file searched, and how."""
    if (spec := _spec(data)) is None:
        return f"{NOT_RECORDED}: the sweep has no plan.json; the values that were tried are in the table trials."
    searched = [
        "; ".join(f"{name}: {_range(values)}" for name, values in grid.items()) or "nothing" for grid in spec.parameters
    ]
    how = {"grid": "every combination", "random": "random draws", "tpe": "tree-structured Parzen estimators"}
    early = spec.early_terminate.type
    stopping = "no early stopping" if early == "none" else f"early stopping by {early}"
    return f"{spec.method} ({how[spec.method]}), {stopping}. Searched: {'; or '.join(searched)}."


def _range(distribution: Distribution) -> str:
    if distribution.values is not None:
        return ", ".join(format_value(value) for value in distribution.values)
    return f"{format_value(distribution.min)} to {format_value(distribution.max)} ({distribution.distribution})"


def _tries(data: ReportData) -> str:
    """How many configurations and trials, and what became of them: none is silently left out."""
    if not data.trials:
        return "none yet."
    counts = Counter(trial.status for trial in data.trials)
    ended = ", ".join(f"{counts[status]:,} {status.replace('_', ' ')}" for status in TrialStatus if counts[status])
    stages = Counter(trial.stage for trial in data.trials)
    by_stage = ", ".join(f"{stages[stage]:,} in stage {stage}" for stage in Stage if stages[stage])
    finals = len(_final_rows(data))
    more = f" Besides them {plural(finals, 'final run')} on all training images, not ranked." if finals else ""
    configs = plural(len(data.by_config), "configuration")
    return f"{configs}, {plural(len(data.trials), 'trial')} ({by_stage}); {ended}.{more}"


def _final_rows(data: ReportData) -> list[dict[str, Any]]:
    return [row for row in _all_rows(data) if row["stage"] == Stage.FINAL]


def _selection(data: ReportData) -> str:
    metric, spec = data.board.metric, _spec(data)
    text = f"By {metric.words} {metric.epoch_words}, mean over seeds. The test set chooses nothing."
    leader = next(iter(data.board.ranked), None)
    if leader is None:
        return text
    if leader.stage != Stage.CONFIRM:
        return f"{text} The reported means are of the same seeds by which the configuration was chosen."
    of_each = f" of each {join_words(spec.compare, 'and')}" if spec and spec.compare else ""
    best = f"The best {spec.confirm.top}{of_each}" if spec and spec.confirm else "The best ones"
    return (
        f"{text} {best} of the screening ran again on fresh seeds. Reported means, intervals and tests are of those runs "
        "alone; only the order counts the runs of the screening as well."
    )


def _chosen_values(data: ReportData) -> str:
    if not data.board.ranked:
        return "No configuration has run to the end."
    leader = data.board.ranked[0]
    row = next((row for row in _all_rows(data) if row["config_id"] == leader.config_id), None)
    names = [
        "model",
        "optimizer",
        "lr",
        "momentum",
        "weight_decay",
        "lr_schedule",
        "warmup_epochs",
        "batch_size",
        "epochs",
    ]
    names += ["mixup_alpha", "cutmix_alpha", "label_smoothing"]
    values = [f"{name} {format_value(row[name])}" for name in names if row and row.get(name) is not None]
    return f"Configuration {leader.config_id}: {', '.join(values)}. All columns are in the table trials."


def _all_rows(data: ReportData) -> list[dict[str, Any]]:
    return data.results.trials(data.sweep).to_pylist()


def _validation_result(data: ReportData) -> str:
    """The leader on the validation images, with its interval if it has one."""
    if not data.board.ranked or data.board.ranked[0].metric_mean is None:
        return "No configuration has run to the end."
    leader, metric = data.board.ranked[0], data.board.metric
    level = _level_with_pooled_interval(data)
    interval = metric.interval((level or leader).metric_low, (level or leader).metric_high)
    spread = f", 95 % interval {interval}" if interval else "; one seed, so there is no interval"
    return f"{metric.text(leader.metric_mean, leader.metric_sd)} {metric.words}, n = {leader.num_seeds}{spread}."


def _level_with_pooled_interval(data: ReportData) -> LevelRow | None:
    """The leader's row in the answer, if its interval rests on the seeds of all that were confirmed; else None."""
    leader = data.board.ranked[0].config_id
    return next((row for row in data.answer.rows if row.config_id == leader and row.pooled_sd is not None), None)


def _test_result(data: ReportData) -> str:
    if not data.board.ranked or data.board.ranked[0].test_accuracy_mean is None:
        return f"test accuracy of the winner: {NOT_RECORDED}."
    leader = data.board.ranked[0]
    mean, sd = leader.test_accuracy_mean, leader.test_accuracy_sd
    spread = "" if sd is None else f" (standard deviation {100 * sd:.2f} points)"
    text = f"{100 * mean:.2f} % test accuracy over {plural(leader.num_seeds, 'seed')}{spread}, of the weights after the last epoch."
    final = final_run(data.results, data.board)
    return f"{text} {final.sentence}" if final else text


def _error_bars(data: ReportData) -> str:
    """Of the mean and of differences: few fresh seeds have them with a deviation pooled over configurations."""
    if not data.board.ranked:
        return "No: no configuration has run to the end."
    leader, pooled = data.board.ranked[0], _level_with_pooled_interval(data)
    is_tested = any(row.p_value is not None for row in data.board.ranked)
    if leader.num_seeds < 2 and pooled is None and not is_tested:
        return "No: the winner has fewer than two seeds."
    sd = f"± is the standard deviation over {plural(leader.num_seeds, 'seed')}; " if leader.num_seeds > 1 else ""
    if pooled is not None:
        what = (
            f"Yes. {sd}95 % intervals have the standard deviation pooled over all that were confirmed, with their runs of "
            f"the screening ({data.answer.pooled.freedom:.0f} degrees of freedom), and cover"
        )
    elif leader.num_seeds > 1:
        what = f"Yes. {sd}intervals are 95 % t intervals of the mean and cover"
    else:
        what = "Of differences, and not of the mean, because the winner has one seed. They cover"
    split = sorted({str(row["val_split"] or "fixed") for row in _rows(data, ["val_split"])})
    covers = "seeds and the choice of validation images" if split != ["fixed"] else "seeds, on fixed validation images"
    tests = "Differences are tested as in docs/statistics.md, adjusted for all comparisons."
    return f"{what} the luck of {covers}. {tests}"


def _compute(data: ReportData) -> str:
    seconds = [trial.train_seconds for trial in data.trials if trial.train_seconds]
    if not seconds:
        return f"time of the trials: {NOT_RECORDED}."
    of_finals = sum(row["train_seconds"] or 0.0 for row in _final_rows(data))
    final = f", and {format_duration(of_finals)} of the final run" if of_finals else ""
    peak = [row["peak_memory_bytes"] for row in _rows(data, ["peak_memory_bytes"]) if row["peak_memory_bytes"]]
    memory = f"; peak memory of a trial at most {max(peak) / 2**30:.2f} GiB" if peak else ""
    return (
        f"{format_duration(3600 * data.device_hours)} of training time over {plural(len(data.trials), 'trial')}, stopped and "
        f"failed ones included{final}; a trial took {format_duration(float(np.median(seconds)))} (median){memory}. Other "
        f"experiments of the paper: {NOT_RECORDED}."
    )


def _hardware(data: ReportData) -> str:
    devices = Counter(trial.device for trial in data.trials if trial.device)
    precisions = sorted({trial.precision_used for trial in data.trials if trial.precision_used})
    if not devices:
        return NOT_RECORDED
    named = join_words([f"{name} ({plural(count, 'trial')})" for name, count in devices.most_common()], "and")
    return f"{named}; precision {join_words(precisions, 'and') or NOT_RECORDED}."


def _software(data: ReportData) -> str:
    return "; ".join(f"{name}: {text}" for name, text in provenance(data) if name != "machines") or NOT_RECORDED


def _code(data: ReportData) -> str:
    if not data.plan:
        return f"command: {NOT_RECORDED}."
    return f"This one, which runs only what is missing: {data.plan.command} (the resolved sweep file is in plan.json)"


_N5, _N6, _N7, _N8 = ("NeurIPS 5", "NeurIPS 6", "NeurIPS 7", "NeurIPS 8")

QUESTIONS: tuple[Question, ...] = (
    Question("Claims", "NeurIPS 1", "What is claimed, and how sure is it?", _claims),
    Question("Claims", "NeurIPS 2, ACL A1", "What are the limitations?", _not_recorded("the tables know none.")),
    Question("Data", f"{_N6}, ACL B6", "Which data?", _dataset),
    Question("Data", f"{_N6}, ACL B6", "How many images are in each split, and how were they split?", _splits),
    Question("Data", f"{_N6}, ACL B1", "Which preprocessing?", _preprocessing),
    Question(
        "Data", "NeurIPS 12, ACL B2", "Licence and origin of the data?", _not_recorded("see the data's own page.")
    ),
    Question("Experiments", "ACL C1", "Which models, with how many parameters?", _models),
    Question("Experiments", f"{_N6}, ACL C2", "Which ranges were searched, and how?", _ranges),
    Question("Experiments", f"{_N6}, ACL C2", "How many configurations were tried, and what became of them?", _tries),
    Question("Experiments", f"{_N6}, ACL C2", "By which rule was the winner chosen?", _selection),
    Question("Experiments", f"{_N6}, ACL C2", "Which values did it choose?", _chosen_values),
    Question("Results", f"{_N7}, ACL C3", "What is the validation result, over how many runs?", _validation_result),
    Question("Results", f"{_N7}, ACL C3", "What is the test result?", _test_result),
    Question("Results", f"{_N7}, ACL C3", "Are there error bars, and of what?", _error_bars),
    Question("Compute", f"{_N8}, ACL C1", "How much compute?", _compute),
    Question("Compute", f"{_N8}, ACL C1", "Which hardware?", _hardware),
    Question("Compute", f"{_N8}, ACL C1", "Which energy and emissions?", _not_recorded("no energy is measured.")),
    Question("Code", f"{_N5}, ACL C4", "Which versions of which packages?", _software),
    Question("Code", _N5, "Which command reproduces the result?", _code),
    Question("Code", _N5, "Where is the code published?", _not_recorded("the tables have only the commit.")),
)
