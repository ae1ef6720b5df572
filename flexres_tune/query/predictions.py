"""Answers about what trained models predict: classes, confusion, disagree, hardest and ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from flexres_tune.analysis.metric import metric_of
from flexres_tune.analysis.rows import concatenate, to_table
from flexres_tune.analysis.summary import configuration_name
from flexres_tune.display.format import format_p_value, format_percent
from flexres_tune.display.render import Section
from flexres_tune.errors import ResultsError
from flexres_tune.predictions.behind_leader import interval_words
from flexres_tune.predictions.classes import (
    ClassAccuracy,
    Confusion,
    HardImage,
    class_accuracies,
    confusions,
    hardest_images,
)
from flexres_tune.predictions.disagreement import Comparison, Disagreement, disagreement
from flexres_tune.predictions.ensemble import EnsembleAccuracy, ensemble_accuracies
from flexres_tune.query.output import Answer
from flexres_tune.results.reader import Results
from flexres_tune.text import plural, plural_range

CONFIGS_SHOWN = 3  # on a terminal, next to each other
HARDEST_SHOWN = 20
MATRIX_CLASSES = 20  # the most that fit a terminal as a matrix


def answer_classes(results: Results, sweep: str | None, split: str, limit: int | None) -> Answer:
    """Accuracy per class and configuration; on a terminal one row per class, one column per configuration.

    `limit` counts configurations.
    """
    tables, sections = [], []
    for name in _with_predictions(results, sweep):
        rows, varied = class_accuracies(results, name, split)
        for dataset in dict.fromkeys(row.dataset for row in rows):
            of_dataset = [row for row in rows if row.dataset == dataset]
            sections.append(_classes_section(name, of_dataset, limit, _weights(results, name)))
            first = set(list(dict.fromkeys(row.config_id for row in of_dataset))[:limit])
            tables.append(to_table(ClassAccuracy, [row for row in of_dataset if row.config_id in first], varied))
    return Answer(concatenate(tables), sections)


def _with_predictions(results: Results, sweep: str | None) -> list[str]:
    """The sweeps that have predictions; all of `sweep`'s if none has, so that the answer says why."""
    chosen = results.choose(sweep)
    return [name for name in chosen if results.predictions(name, ["split"]).num_rows] or chosen[:1]


def _weights(results: Results, sweep: str) -> str:
    """Which weights predict, and whether the leaderboard shows the accuracy of others."""
    is_same = metric_of(results, sweep).at == "last"
    return "of the weights after the last epoch" + ("" if is_same else "; the leaderboard has the best epoch")


def _classes_section(sweep: str, rows: Sequence[ClassAccuracy], limit: int | None, weights: str) -> Section:
    shown = list(dict.fromkeys(row.config_id for row in rows))[: limit or CONFIGS_SHOWN]
    columns: dict[str, list[str]] = {"class": [row.class_name for row in rows if row.config_id == shown[0]]}
    for config_id in shown:
        of_config = [row for row in rows if row.config_id == config_id]
        title = f"{configuration_name(of_config[0].parameters, config_id)}: {format_percent(of_config[0].accuracy)}"
        columns[title] = [
            f"{100 * row.class_accuracy:.1f} % ({100 * row.class_accuracy_low:.1f} to {100 * row.class_accuracy_high:.1f})"
            for row in of_config
        ]
    num_configs = len({row.config_id for row in rows})
    first = rows[0]
    notes = [
        "95 % Wilson intervals over the images of a class, mean over "
        f"{plural_range([row.num_seeds for row in rows if row.config_id in shown], 'seed')}; {weights}"
    ]
    if num_configs > len(shown):
        notes.append(f"the best {len(shown)} of {num_configs} configurations; --limit N shows more")
    return Section(
        pa.table(columns),
        title=f"accuracy per class in {sweep} on {first.dataset}, {first.split}",
        notes=tuple(notes),
        limits_rows=False,
        uncut=list(columns)[1:],
    )


def answer_confusion(results: Results, sweep: str | None, config: str, split: str, limit: int | None) -> Answer:
    """The confusion matrix of a configuration; on a terminal as a matrix, or the most frequent errors if it is large."""
    name = _sweep_of(results, sweep, [config])
    rows = confusions(results, name, config, split)
    first = rows[0]
    names = [row.predicted_name for row in rows if row.label == 0]
    table = to_table(Confusion, rows)
    if len(names) <= MATRIX_CLASSES:
        shown = {"label": names}
        shown |= {
            f"→ {names[predicted]}": [str(row.count) for row in rows if row.predicted == predicted]
            for predicted in range(len(names))
        }
        section = Section(pa.table(shown))
    else:
        errors = sorted((row for row in rows if row.label != row.predicted and row.count), key=lambda row: -row.count)
        section = Section(
            to_table(Confusion, errors).select(["label_name", "predicted_name", "count", "share_of_label"])
        )
    title = f"predictions of {first.config_id} on {first.dataset}, {first.split}"
    notes = (
        f"rows are labels, columns predictions, summed over {plural(first.num_seeds, 'seed')}; {_weights(results, name)}",
    )
    return Answer(table.slice(0, limit), [replace(section, title=title, notes=notes)])


def _sweep_of(results: Results, sweep: str | None, configs: Sequence[str]) -> str:
    """The sweep that has these configurations: the given one, or the only one."""
    chosen = _with_predictions(results, sweep)
    known = {name: set(results.trials(name)["config_id"].to_pylist()) for name in chosen}
    fitting = [
        name for name, ids in known.items() if all(any(each.startswith(config) for each in ids) for config in configs)
    ]
    if len(fitting) > 1:
        raise ResultsError(
            f"{' and '.join(configs)}: several sweeps have predictions of it: {', '.join(fitting[:5])}; choose with --sweep"
        )
    return fitting[0] if fitting else chosen[0]


def answer_disagree(results: Results, sweep: str | None, a: str, b: str, split: str, limit: int | None) -> Answer:
    """The images that one configuration gets right and another wrong, per seed, and intervals of the difference."""
    found = disagreement(results, _sweep_of(results, sweep, [a, b]), a, b, split)
    table = to_table(Disagreement, found.trials)
    columns = ["a", "b", "num_images", "num_both_right", "num_only_a_right", "num_only_b_right", "num_both_wrong"]
    p_values = pa.array([format_p_value(row.p_value) for row in found.trials], pa.string())
    shown = table.select(columns).append_column("p_value", p_values)
    title = f"{found.a} (a) and {found.b} (b) on {found.trials[0].dataset}, {split}"
    section = Section(shown, title=title, notes=tuple(_disagree_notes(found)), lists_rows=True)
    return Answer(table.slice(0, limit), [section])


def _disagree_notes(found: Comparison) -> list[str]:
    notes = [
        "p_value: McNemar's exact test of one pair of trained models; it says nothing about training again; "
        "--format json has the image numbers"
    ]
    seeds = found.interval.num_seeds if found.interval else (0, 0)
    for one, other, images in (("a", "b", found.always_a), ("b", "a", found.always_b)):
        if images and min(seeds) > 1:  # one model gets each image either always right or never
            numbers = ", ".join(map(str, images[:10])) + (" ..." if len(images) > 10 else "")
            notes.append(f"{plural(len(images), 'image')} that {one} always gets right and {other} never: {numbers}")
    if found.interval is None:
        return [*notes, "each seed holds out other images: compare the configurations with query diff"]
    images = plural(found.interval.num_images, "image")
    return [*notes, f"a - b on {images} = {interval_words(found.interval, found.trials[0].split)}"]


def answer_hardest(results: Results, sweep: str | None, split: str, limit: int | None) -> Answer:
    """The images that the most trials get wrong."""
    tables, sections = [], []
    for name in _with_predictions(results, sweep):
        rows = hardest_images(results, name, split, limit or HARDEST_SHOWN)
        table = to_table(HardImage, rows)
        tables.append(table)
        columns = ["image", "label_name", "often_predicted_name", "often_predicted_share", "num_wrong", "num_trials"]
        shown = table.select([*columns, "mean_true_probability"])
        title = f"hardest images of {name} on {rows[0].dataset}, {split}"
        notes = ["images that all trials get wrong, and agree on, may have a wrong label"]
        if limit is None and len(rows) == HARDEST_SHOWN:
            notes.append(f"the {HARDEST_SHOWN} hardest; --limit N shows more")
        sections.append(Section(shown, title=title, notes=tuple(notes), lists_rows=True))
    return Answer(concatenate(tables), sections)


def answer_ensemble(results: Results, sweep: str | None, top: int, split: str, limit: int | None) -> Answer:
    """Accuracy of the averaged probabilities of the best 1, 2, ... `top` trials."""
    tables, sections = [], []
    for name in _with_predictions(results, sweep):
        rows = ensemble_accuracies(results, name, top, split)
        table = to_table(EnsembleAccuracy, rows)
        tables.append(table)
        ranges = [_range(row) for row in rows]
        shown = table.select(["num_members", "added_trial_id", "member_accuracy"])
        shown = shown.append_column("ensemble_accuracy", pa.array(ranges, pa.string()))
        notes = ["members are chosen by their accuracy on the validation images"]
        if split == "val":
            notes[0] += ", so these accuracies are too high; use --split test for a report"
        if any(row.num_undecided for row in rows):
            notes.append(
                "the tables have the three highest probabilities per image: a range means that they do not decide "
                f"up to {max(row.num_undecided for row in rows):,} images; the number before it spreads the rest evenly"
            )
        sections.append(Section(shown, title=f"ensembles of {name}, {split}", notes=tuple(notes), lists_rows=True))
    return Answer(concatenate(tables), sections).limited(limit)


def _range(row: EnsembleAccuracy) -> str:
    low, high = format_percent(row.ensemble_accuracy_low), format_percent(row.ensemble_accuracy_high)
    about = format_percent(row.ensemble_accuracy)
    return about if low == high else f"{about} ({low} to {high})"
