import math
from dataclasses import replace

import pytest
from helpers.factories import make_decision, make_metrics, make_planned, make_predictions, make_sweep

from flexres_tune.records import TrialStatus, Versions
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import TrialConfig
from flexres_tune.sweep.history import read_reports
from flexres_tune.sweep.journal import Journal
from flexres_tune.sweep.worker import TrialFacts, TrialReport

FACTS = TrialFacts(hostname="here", device="a CPU", torch_version="2.11", python_version="3.11")


def trial(lr, epochs=3, seed=0, stage="screen"):
    config = TrialConfig(model="tiny", dataset="digits", epochs=epochs, lr=lr, seed=seed)
    return make_planned(config, varied={"lr": lr}, stage=stage)


def epoch(number, accuracy, status=None, test_accuracy=None):
    return TrialReport(
        make_metrics(number, accuracy, val_loss=1 - accuracy, epoch_seconds=2.0, test_accuracy=test_accuracy),
        FACTS,
        status,
    )


@pytest.fixture
def sweep(tmp_path):
    spec = make_sweep(early_terminate={"type": "asha", "variant": "stopping", "grace_period": 1, "reduction_factor": 2})
    return spec, SweepPaths(tmp_path, "test")


def journal_of(sweep, writer):
    return Journal(sweep[0], writer, Versions(flexres_tune="0.1.0", ray="2.60"), "abc")


def rows(sweep, table="trials"):
    return getattr(open_results(sweep[1].root), table)("test").to_pylist()


def past(sweep):
    return read_reports(sweep[1], sweep[0].metric)


def run(journal, planned, accuracies, attempt=1):
    """Report until told to stop; the row."""
    state = journal.start(planned, attempt)
    for number, accuracy in enumerate(accuracies, 1):
        is_last = number == planned.config.epochs
        report = epoch(number, accuracy, TrialStatus.COMPLETED if is_last else None, accuracy if is_last else None)
        verdict = journal.judge(state.trial_id, report)
        state.was_stopped = verdict is not None and verdict.stop
        journal.add(state.trial_id, report)
        if state.was_stopped:
            break
    return journal.finish(state.trial_id)


def test_completed_trial_has_its_best_last_and_test_accuracy(sweep):
    with SweepWriter(sweep[1]) as writer:
        record = run(journal_of(sweep, writer), trial(0.1), [0.2, 0.8, 0.6])
    (row,) = rows(sweep)
    assert (row["status"], row["best_val_accuracy"], row["best_epoch"]) == ("completed", 0.8, 2)
    assert (row["last_val_accuracy"], row["test_accuracy"], row["epochs_run"]) == (0.6, 0.6, 3)
    assert row["versions"]["torch"] == "2.11"
    assert row["train_seconds"] == pytest.approx(6.0)
    assert record.device == "a CPU"
    assert [r["epoch"] for r in rows(sweep, "epochs")] == [1, 2, 3]


def test_stopped_trial_says_at_which_rung_against_which_cutoff(sweep):
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        run(journal, trial(0.1), [0.5, 0.6, 0.7])
        record = run(journal, trial(0.2), [0.1, 0.2, 0.3])
    assert (record.status, record.epochs_run, record.test_accuracy) == ("stopped", 1, None)
    decision = rows(sweep, "decisions")[-1]
    assert decision["trial_id"] == record.trial_id
    assert (decision["rung"], decision["value"], decision["cutoff"], decision["action"]) == (0, 0.1, 0.5, "stop")
    assert decision["ladder"] == "asha, 3 epochs"


def test_trials_of_different_lengths_are_not_compared(sweep):
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        run(journal, trial(0.1, epochs=3), [0.9, 0.9, 0.9])
        assert run(journal, trial(0.1, epochs=4), [0.1, 0.1, 0.1, 0.1]).status == "completed"


def test_confirmed_trial_is_never_stopped(sweep):
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        run(journal, trial(0.1), [0.9, 0.9, 0.9])
        assert run(journal, trial(0.2, seed=9, stage="confirm"), [0.1, 0.1, 0.1]).status == "completed"


def test_loss_is_judged_the_other_way_round(sweep):
    spec = sweep[0].model_copy(update={"metric": make_sweep(metric={"name": "val_loss"}).metric})
    with SweepWriter(sweep[1]) as writer:
        journal = Journal(spec, writer, Versions(), None)
        run(journal, trial(0.1), [0.9, 0.9, 0.9])  # val_loss 0.1
        assert run(journal, trial(0.2), [0.1, 0.1, 0.1]).status == "stopped"
    decision = rows(sweep, "decisions")[-1]
    assert (decision["value"], decision["cutoff"]) == pytest.approx((0.9, 0.1))


def test_pause_and_promotion_are_rows_once_each_with_the_metric_and_decide_no_rule(sweep):
    spec = sweep[0].model_copy(update={"metric": make_sweep(metric={"name": "val_loss"}).metric})
    pause = make_decision(trial(0.1).config.trial_id, action="pause", value=-0.5, cutoff=-0.4, ladder="halving")
    promote = replace(pause, action="promote", until_epoch=3)
    for _ in range(2):  # the second time as a search that was rebuilt from the tables
        with SweepWriter(sweep[1]) as writer:
            journal = Journal(spec, writer, Versions(), None)
            journal.replay(past(sweep), [trial(0.1)])
            for decision in (pause, pause, promote):
                journal.record_decision(decision)
    found = [(row["action"], row["value"], row["cutoff"], row["until_epoch"]) for row in rows(sweep, "decisions")]
    assert found == [("pause", 0.5, 0.4, None), ("promote", 0.5, 0.4, 3)]


def test_diverged_trial_keeps_the_epochs_before(sweep):
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        state = journal.start(trial(0.1), 1)
        journal.add(state.trial_id, epoch(1, 0.3))
        journal.add(state.trial_id, TrialReport(None, FACTS, TrialStatus.DIVERGED, "loss is nan in epoch 2"))
        journal.finish(state.trial_id)
    (row,) = rows(sweep)
    assert (row["status"], row["error"], row["epochs_run"]) == ("diverged", "loss is nan in epoch 2", 1)


def test_unfinished_trials_become_interrupted(sweep):
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        run(journal, trial(0.1), [0.5, 0.6, 0.7])
        state = journal.start(trial(0.2), 1)
        journal.add(state.trial_id, epoch(1, 0.7))
        assert journal.close() == [state]
    assert {row["status"] for row in rows(sweep)} == {"completed", "interrupted"}


def test_journal_replayed_from_the_tables_decides_as_one_that_went_on(sweep):
    with SweepWriter(sweep[1]) as writer:
        run(journal_of(sweep, writer), trial(0.1), [0.5, 0.6, 0.7])
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        journal.replay(past(sweep), [trial(0.1)])
        assert run(journal, trial(0.2), [0.1, 0.2, 0.3]).status == "stopped"
    assert len(rows(sweep, "decisions")) == 3  # two of the first trial, one of the second; none twice


def test_history_reported_again_after_a_crash_adds_no_row(sweep):
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        journal.start(trial(0.1), 1)
        journal.add(trial(0.1).config.trial_id, epoch(1, 0.5))
        run(journal, trial(0.1), [0.5, 0.6, 0.7], attempt=2)
    assert [row["epoch"] for row in rows(sweep, "epochs")] == [1, 2, 3]
    assert rows(sweep)[0]["attempt"] == 2


def test_history_that_a_resumed_trial_repeats_keeps_the_attempt_that_computed_it(sweep):
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        journal.start(trial(0.1), 1)
        journal.add(trial(0.1).config.trial_id, epoch(1, 0.5))
    with SweepWriter(sweep[1]) as writer:  # the driver was killed before it had written the second epoch
        journal = journal_of(sweep, writer)
        journal.start(trial(0.1), 2)
        for number, accuracy, is_repeat in ((1, 0.5, True), (2, 0.6, True), (3, 0.7, False)):
            journal.add(trial(0.1).config.trial_id, replace(epoch(number, accuracy), is_repeat=is_repeat))
    assert [(row["epoch"], row["attempt"]) for row in rows(sweep, "epochs")] == [(1, 1), (2, 1), (3, 2)]


def test_decision_taken_stays_taken_though_its_epoch_was_computed_again(sweep):
    """The row of an epoch that is computed again moves to the table's end: its order alone would decide otherwise."""
    first, second = trial(0.1), trial(0.2)
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        for planned, accuracy in ((first, 0.9), (second, 0.5)):
            journal.start(planned, 1)
            verdict = journal.judge(planned.config.trial_id, epoch(1, accuracy))
            journal.add(planned.config.trial_id, epoch(1, accuracy))
        assert verdict.stop
        journal.start(first, 2)  # its process died
        journal.add(first.config.trial_id, epoch(1, 0.9))
    assert [row["trial_id"] for row in rows(sweep, "epochs")] == [second.config.trial_id, first.config.trial_id]
    with SweepWriter(sweep[1]) as writer:  # and the driver was killed before it wrote that the second was stopped
        journal = journal_of(sweep, writer)
        journal.replay(past(sweep), [first, second])
        journal.start(second, 2)
        assert journal.judge(second.config.trial_id, replace(epoch(1, 0.5), is_repeat=True)).stop
    assert len(rows(sweep, "decisions")) == 2


def test_decision_lost_with_the_driver_is_taken_again_and_written(sweep):
    with SweepWriter(sweep[1]) as writer:
        run(journal_of(sweep, writer), trial(0.1), [0.5, 0.6, 0.7])
    for part in sweep[1].decisions.glob("*.parquet"):
        part.unlink()
    with SweepWriter(sweep[1]) as writer:
        journal_of(sweep, writer).replay(past(sweep), [trial(0.1)])
    assert [(row["epoch"], row["action"]) for row in rows(sweep, "decisions")] == [(1, "continue"), (2, "continue")]


def test_rows_of_another_base_are_on_no_ladder(sweep):
    with SweepWriter(sweep[1]) as writer:
        run(journal_of(sweep, writer), trial(0.1), [0.9, 0.9, 0.9])
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        journal.replay(replace(past(sweep), decisions=()), [trial(0.2)])
        assert run(journal, trial(0.2), [0.1, 0.1, 0.1]).status == "completed"


def test_decisions_of_another_metric_decide_nothing(sweep):
    with SweepWriter(sweep[1]) as writer:
        run(journal_of(sweep, writer), trial(0.1), [0.5, 0.6, 0.7])
    spec = sweep[0].model_copy(update={"metric": make_sweep(metric={"name": "val_loss"}).metric})
    with SweepWriter(sweep[1]) as writer:
        journal = Journal(spec, writer, Versions(), None)
        journal.replay(read_reports(sweep[1], spec.metric), [trial(0.1)])
    ladders = {row["ladder"] for row in rows(sweep, "decisions")}
    assert ladders == {"asha, 3 epochs", "asha, 3 epochs, val_loss"}


def test_closed_journal_takes_in_nothing(sweep):
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        state = journal.start(trial(0.1), 1)
        journal.close()
        journal.add(state.trial_id, epoch(1, 0.5))
        assert journal.judge(state.trial_id, epoch(1, 0.0)) is None
        journal.finish(state.trial_id)
    assert [row["status"] for row in rows(sweep)] == ["interrupted"]
    assert rows(sweep, "epochs") == []


def test_trial_that_was_drawn_is_known_although_its_driver_was_killed(sweep):
    spec = sweep[0].model_copy(update={"method": "tpe"})
    with SweepWriter(sweep[1]) as writer:
        Journal(spec, writer, Versions(), None).start(trial(0.1), 1)
    ((row),) = rows(sweep)
    assert (row["status"], row["lr"], row["epochs_run"]) == ("interrupted", 0.1, 0)


def test_accuracy_that_is_not_a_number_does_not_hide_the_best(sweep):
    with SweepWriter(sweep[1]) as writer:
        record = run(journal_of(sweep, writer), trial(0.1, epochs=2), [0.5, math.nan])
    assert record.best_val_accuracy == 0.5


@pytest.mark.parametrize(("status", "score"), [("stopped", 0.5), ("completed", 0.5), ("diverged", None)])
def test_score_is_the_best_value_unless_the_trial_ended_badly(sweep, status, score):
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        state = journal.start(trial(0.1), 1)
        for number, accuracy in enumerate((0.5, math.nan, 0.4), 1):
            journal.add(state.trial_id, epoch(number, accuracy))
        journal.finish(state.trial_id, TrialStatus(status))
    assert state.score(journal.metric) == score


def test_predictions_are_written_and_not_kept_in_memory(sweep):
    with SweepWriter(sweep[1]) as writer:
        journal = journal_of(sweep, writer)
        state = journal.start(trial(0.1, epochs=1), 1)
        row, labels = make_predictions([[0.1, 0.9]], [1], state.trial_id)
        report = replace(epoch(1, 0.5, TrialStatus.COMPLETED), predictions=(row,), labels=(labels,))
        journal.add(state.trial_id, report)
        assert not state.report.predictions and not state.report.labels
        journal.finish(state.trial_id)
    assert [each["predicted"] for each in rows(sweep, "predictions")] == [[1]]
    assert [each["label"] for each in rows(sweep, "labels")] == [[1]]
