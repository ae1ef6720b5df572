"""Answers of compare, diff, stops and the like: numbers for programs, words on a terminal."""

import csv
import io

import pytest
from helpers.factories import make_config, make_decision, make_trial

from flexres_tune.display.render import to_csv
from flexres_tune.query.evidence import answer_compare, answer_diff, answer_pareto, answer_stops
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def results(tmp_path):
    """Two sweeps of sgd and adam, three seeds each; in `second` adam is better, and one trial was stopped."""
    for sweep, gain in (("first", 0.0), ("second", 0.05)):
        with SweepWriter(SweepPaths(tmp_path, sweep)) as writer:
            for optimizer, base in (("sgd", 0.90), ("adam", 0.80 + gain)):
                for seed in range(3):
                    config = make_config(optimizer=optimizer, seed=seed)
                    writer.add_trial(make_trial(config, best=base + 0.01 * seed, sweep=sweep), config)
            if gain:
                config = make_config(optimizer="adagrad", epochs=5)
                record = {"epochs_run": 1, "train_seconds": 30.0, "sweep": sweep}
                writer.add_trial(make_trial(config, "stopped", 0.3, **record), config)
                writer.add_decision(make_decision(config.trial_id, epoch=1, value=0.3, cutoff=0.4))
    return open_results(tmp_path)


def records(answer):
    return list(csv.DictReader(io.StringIO(to_csv(answer.table))))


def test_diff_gives_numbers_to_programs(results):
    rows = {row["what"]: row for row in records(answer_diff(results, None, "first", "second", None))}
    highest = rows["best_val_accuracy of " + make_config(optimizer="adam").config_id]
    assert (float(highest["a_mean"]), int(highest["a_n"])) == (pytest.approx(0.81), 3)
    assert (float(highest["b_mean"]), int(highest["b_n"])) == (pytest.approx(0.86), 3)
    assert float(highest["difference"]) == pytest.approx(-0.05) and highest["unit"] == "fraction"
    assert (rows["configurations"]["a_mean"], rows["configurations"]["b_mean"]) == ("2.0", "3.0")
    assert rows["configurations"]["a_n"] == ""


def test_diff_gives_words_to_a_terminal(results):
    ids = [make_config(optimizer=name).config_id for name in ("sgd", "adam")]
    settings, outcomes = answer_diff(results, "first", *ids, None).sections
    assert settings.title == f"Settings that differ: a = {ids[0]}, b = {ids[1]}"
    assert settings.table.to_pylist()[0] == {"setting": "optimizer", "a": "sgd", "b": "adam"}
    best = outcomes.table.to_pylist()[0]
    assert outcomes.title == "Results that differ"
    assert (best["result"], best["a"], best["b"]) == ("best_val_accuracy", "91.00 % (n = 3)", "81.00 % (n = 3)")
    assert best["difference"].startswith("+10.0 points (no spread, p = ")


def test_stops_are_shown_per_rung_and_per_trial(results):
    rungs, trials = answer_stops(results, "second", None).sections
    assert rungs.notes == (
        "1 of 7 trials were stopped; that saved about 2 min 00 s of device time, and 1 min 30 s was spent",
    )
    assert [row["num_stopped"] for row in rungs.table.to_pylist()] == [1]
    assert [row["val_accuracy"] for row in trials.table.to_pylist()] == [0.3]


def test_compare_highlights_the_best_value_and_counts_the_stopped(results):
    (section,) = answer_compare(results, "second", "optimizer", None, None).sections
    rows = section.table.to_pylist()
    assert rows[section.best_row]["optimizer"] == "sgd"
    assert {row["optimizer"]: row["num_stopped"] for row in rows} == {"adagrad": 1, "adam": 0, "sgd": 0}


def test_pareto_has_a_section_per_cost(results):
    titles = [section.title for section in answer_pareto(results, "first", None).sections]
    assert titles == [
        "first on digits: accuracy against parameters; no cheaper configuration is as accurate",
        "first on digits: accuracy against device-seconds; no cheaper configuration is as accurate",
    ]


def test_pairs_that_the_leader_is_not_part_of_are_not_denied(tmp_path):
    """nesterov leads with a rate of its own; sgd and adagrad share one, and differ in the optimizer alone."""
    with SweepWriter(SweepPaths(tmp_path, "pairs")) as writer:
        for optimizer, lr, best in (("nesterov", 0.1, 0.97), ("adagrad", 0.03, 0.96), ("sgd", 0.03, 0.82)):
            config = make_config(optimizer=optimizer, lr=lr)
            writer.add_trial(make_trial(config, best=best, sweep="pairs"), config)
    (section,) = answer_compare(open_results(tmp_path), "pairs", "optimizer", None, None).sections
    assert any(
        "no configuration that ran to the end differs in optimizer alone from one with nesterov" in note
        for note in section.notes
    )
