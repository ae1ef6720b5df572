"""The estimate of a dry run: epochs by simulating the search, times from speeds that are known."""

from datetime import UTC, datetime, timedelta

import pytest
from helpers.factories import make_config, make_sweep, make_trial

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.estimate.estimate import (
    Simulation,
    describe_estimate,
    describe_left_out,
    estimate,
    sweep_to_estimate,
)
from flexres_tune.estimate.speeds import Speed, SpeedBook, read_speeds, shape_of, store_measured
from flexres_tune.records import TrialStatus
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.search.base import Assignment, History, Outcome, PastTrial
from flexres_tune.search.confirmation import make_confirmation
from flexres_tune.search.final import make_final
from flexres_tune.search.methods import make_search
from flexres_tune.spec import Budget, expand_trials

LRS = {"lr": {"values": [0.01 * k for k in range(1, 19)]}}


def expand(**changes):
    spec = make_sweep(parameters=LRS, **changes)
    return spec, expand_trials(spec, describe_dataset)


def book_of(trials, epoch_s=2.0, overhead_s=1.0):
    return SpeedBook({shape_of(trial.config): Speed(epoch_s, overhead_s, source="x") for trial in trials})


def test_sweep_without_early_stops_has_exact_numbers():
    spec, trials = expand()
    run = Simulation(spec, sweep_to_estimate(spec, trials), 2, book_of(trials)).run(0)
    assert run.num_epochs == 36
    assert run.trial_seconds == pytest.approx(18 * 2 * 2), "as the tables have it: without what starts a trial"
    assert run.wall_seconds == pytest.approx(9 * (1 + 2 * 2))


def test_early_stops_and_the_confirmation_are_simulated():
    base = {"dataset": "digits", "model": "tiny", "epochs": 9}
    spec, trials = expand(base=base, early_terminate={"type": "asha"}, confirm={"top": 2, "seeds": [5, 6]})
    found = estimate(spec, sweep_to_estimate(spec, trials), 2, 0.5, book_of(trials))
    low, high = found.num_epochs
    assert 18 + 4 * 9 < low <= high < 18 * 9 + 4 * 9
    assert low / 1.15 <= found.device_seconds[0] < found.device_seconds[1]
    assert found.wall_seconds[0] > found.device_seconds[0]


def test_method_that_draws_while_it_runs_is_estimated_by_stand_ins():
    spec = make_sweep(method="tpe", num_trials=5, parameters={"lr": {"min": 0.01, "max": 0.1}}, seeds=[0, 1])
    sweep = sweep_to_estimate(spec, ())
    assert estimate(spec, sweep, 2, 0.5, SpeedBook()).num_epochs == (20, 20)


def test_stand_ins_of_a_method_that_draws_pause_at_its_rungs():
    spec = make_sweep(
        method="tpe",
        num_trials=6,
        seeds=[0, 1],
        base={"dataset": "digits", "model": "tiny", "epochs": 9},
        parameters={"lr": {"min": 0.01, "max": 0.1}},
        early_terminate={"type": "halving", "rungs": [{"epochs": 3, "keep": 2}]},
        confirm={"top": 2, "num_runs": 3},
    )
    sweep = sweep_to_estimate(spec, ())
    epochs = 2 * (6 * 3 + 2 * 6) + 3 * 9
    assert estimate(spec, sweep, 2, 0.5, SpeedBook()).num_epochs == (epochs, epochs)


def test_stand_ins_pause_within_the_level_that_they_stand_for():
    spec = make_sweep(
        method="tpe",
        num_trials=7,
        base={"dataset": "digits", "model": "tiny", "epochs": 9},
        parameters={"optimizer": {"values": ["sgd", "adam"]}, "lr": {"min": 0.01, "max": 0.1}},
        compare="optimizer",
        early_terminate={"type": "halving", "rungs": [{"epochs": 3, "keep": 1}]},
        confirm={"top": 1, "seeds": [7]},
    )
    sweep = sweep_to_estimate(spec, ())
    assert [trial.varied["optimizer"] for trial in sweep.stand_ins] == ["sgd", "adam"] * 3 + ["sgd"]
    epochs = 7 * 3 + 2 * 6 + 2 * 9
    assert estimate(spec, sweep, 2, 0.5, SpeedBook()).num_epochs == (epochs, epochs)


def test_unknown_speed_is_said_with_the_option_that_measures_it():
    spec, trials = expand()
    text = describe_estimate(
        estimate(spec, sweep_to_estimate(spec, trials), 2, 0.5, SpeedBook()), 2, SpeedBook(), trials
    )
    assert text.startswith("estimate: 36 epochs; how long they take is not known")
    assert text.endswith("add --measure to measure it")


def write_trials(paths, batch_size, epoch_s, count=3):
    started = datetime(2026, 1, 1, tzinfo=UTC)
    with SweepWriter(paths) as writer:
        for seed in range(count):
            config = make_config(seed=seed, batch_size=batch_size, epochs=4)
            record = make_trial(
                config,
                epochs_run=4,
                train_seconds=4 * epoch_s,
                started_at=started,
                finished_at=started + timedelta(seconds=4 * epoch_s + 1.5),
            )
            writer.add_trial(record, config)


def test_speed_of_the_sweeps_own_trials_counts_before_those_of_others(tmp_path, monkeypatch):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path / "cache"))
    own, other = SweepPaths(tmp_path, "own"), SweepPaths(tmp_path, "other")
    write_trials(own, 64, 2.0)
    write_trials(other, 64, 9.0)
    write_trials(other, 128, 3.0, count=2)
    other.plan.write_text("{}")
    known, of_other, unknown = (shape_of(make_config(batch_size=size, epochs=4)) for size in (64, 128, 256))
    book = read_speeds(own, {known, of_other, unknown}, 2)
    assert book.of(known) == Speed(2.0, 1.0, 3, "own", "cpu", end_s=0.5)
    assert book.of(of_other) == Speed(3.0, 1.0, 2, "other", "cpu", end_s=0.5)
    assert book.of(unknown) is None
    assert book.describe({known, of_other}) == "2 s to 3 s per epoch, in 5 earlier trials of other and own on cpu"
    store_measured(unknown, 2, Speed(0.5, 1.0, source="measured", device="cpu"))
    again = read_speeds(own, {unknown}, 2)
    assert again.describe({unknown}) == "0.5 s per epoch, measured on cpu"
    assert read_speeds(own, {unknown}, 1).of(unknown) is None, "it was measured with two at once"


def test_trials_that_waited_for_their_process_do_not_make_the_others_slow(tmp_path):
    paths = SweepPaths(tmp_path, "own")
    started = datetime(2026, 1, 1, tzinfo=UTC)
    with SweepWriter(paths) as writer:
        for seed, overhead_s in enumerate((10.2, 9.8, 0.2, 0.3, 0.2, 0.1, 0.2)):
            config = make_config(seed=seed, epochs=4)
            times = {"started_at": started, "finished_at": started + timedelta(seconds=8 + overhead_s)}
            writer.add_trial(make_trial(config, epochs_run=4, train_seconds=8.0, **times), config)
    shape = shape_of(make_config(epochs=4))
    speed = read_speeds(paths, {shape}, 2).of(shape)
    assert (speed.overhead_s, speed.start_s) == (pytest.approx(0.2), pytest.approx(9.8))


def test_a_trial_that_pauses_has_no_test_images_to_measure(tmp_path):
    paths = SweepPaths(tmp_path, "own")
    started = datetime(2026, 1, 1, tzinfo=UTC)
    with SweepWriter(paths) as writer:
        for seed, (status, overhead_s) in enumerate(
            [("paused", 15.0), ("paused", 1.8), ("completed", 16.0), ("completed", 10.0), ("completed", 9.8)]
        ):
            config = make_config(seed=seed, epochs=4)
            times = {"started_at": started, "finished_at": started + timedelta(seconds=8 + overhead_s)}
            writer.add_trial(make_trial(config, status, epochs_run=4, train_seconds=8.0, **times), config)
    shape = shape_of(make_config(epochs=4))
    speed = read_speeds(paths, {shape}, 2).of(shape)
    assert (speed.overhead_s, speed.end_s) == (pytest.approx(1.8), pytest.approx(8.2))
    assert speed.start_s == pytest.approx((13.2 + 6.0) / 2)


def test_the_test_images_take_time_at_the_end_of_each_trial():
    spec, trials = expand()
    speed = Speed(2.0, 1.0, source="x", end_s=3.0)
    book = SpeedBook({shape_of(trial.config): speed for trial in trials})
    run = Simulation(spec, sweep_to_estimate(spec, trials), 2, book).run(0)
    assert run.wall_seconds == pytest.approx(9 * (1 + 2 * 2 + 3)) and run.trial_seconds == pytest.approx(18 * 4)


def test_optimizer_and_seed_do_not_change_the_shape_but_the_model_does():
    assert shape_of(make_config(lr=0.1, seed=1)) == shape_of(make_config(optimizer="adam", lr=1e-3))
    assert shape_of(make_config()) != shape_of(make_config(model="small"))


@pytest.mark.slow
def test_measured_speed_is_remembered_for_later_dry_runs(tmp_path, monkeypatch):
    """Two processes at once, as two trials would run."""
    from flexres_tune.estimate.measure import measure_speeds

    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    spec = make_sweep(parameters={"lr": {"values": [0.1, 0.2]}})
    trials, said = expand_trials(spec, describe_dataset), []
    shape = shape_of(trials[0].config)
    speed = measure_speeds(trials, 2, 1, said.append).of(shape)
    assert speed.epoch_s > 0
    assert said == ["measuring tiny, batch size 64 (1 of 1) ..."]
    again = read_speeds(SweepPaths(tmp_path / "results", "x"), {shape}, 2)
    assert again.describe({shape}).endswith("measured on " + speed.device)


def test_budget_is_divided_and_what_does_not_fit_is_counted():
    spec, trials = expand(confirm={"top": 2, "seeds": [5, 6]}, budget={"epochs": 20})
    found = estimate(spec, sweep_to_estimate(spec, trials), 2, 0.5, SpeedBook())
    assert found.num_epochs == (20, 20)
    assert describe_left_out(found) == "12 trials of the screening"
    everything = spec.model_copy(update={"budget": Budget(epochs=44)})
    assert describe_left_out(estimate(everything, sweep_to_estimate(everything, trials), 2, 0.5, SpeedBook())) == ""


HALVING = {
    "base": {"dataset": "digits", "model": "tiny", "epochs": 9},
    "early_terminate": {"type": "halving", "rungs": [{"epochs": 3, "keep": 2}]},
    "confirm": {"top": 2, "num_runs": 3, "final": {"train_on": "all"}},
}


def play_sweep(spec, trials, until=10**9):
    """The history after at most `until` assignments of a sweep whose scores are its learning rates."""
    past = {}
    stages = [
        lambda: make_search(spec, trials, History(past)),
        lambda: make_confirmation(spec, stages[0]().work.trials, History(past)),
        lambda: make_final(spec, [stages[0]().work, stages[1]().work], History(past)),
    ]
    for make in stages:
        search = make()
        while len(past) < until and isinstance(step := search.ask(), Assignment):
            config, epoch = step.trial.config, step.until_epoch
            status = TrialStatus.COMPLETED if epoch == config.epochs else TrialStatus.PAUSED
            score = None if step.trial.stage == "final" else config.lr
            past[config.trial_id] = PastTrial(
                *(config.trial_id, config.config_id, config.seed, step.trial.stage, status, 1),
                val_accuracy=score,
                score=score,
                is_done=status.is_final,
                values={"lr": config.lr},
                scores=dict.fromkeys(range(1, epoch + 1), score),
            )
            search.tell(Outcome(step, status, score, score))
    return History(past)


@pytest.mark.parametrize("method", ["grid", "tpe"])
def test_nothing_is_estimated_of_a_sweep_that_has_ended_though_its_trials_are_paused(method):
    lr = {"min": 0.01, "max": 0.1} if method == "tpe" else {"values": [0.01, 0.02, 0.03, 0.04, 0.05]}
    spec = make_sweep(method=method, num_trials=5 if method == "tpe" else None, parameters={"lr": lr}, **HALVING)
    trials = () if method == "tpe" else expand_trials(spec, describe_dataset)
    history = play_sweep(spec, trials)
    sweep = sweep_to_estimate(spec, trials, history)
    assert len(sweep.missing) == 3, "those that were paused"
    assert estimate(spec, sweep, 2, 0.5, SpeedBook()).num_epochs == (0, 0)
    fresh = estimate(spec, sweep_to_estimate(spec, trials), 2, 0.5, SpeedBook())
    assert fresh.num_epochs == (5 * 3 + 2 * 6 + 3 * 9 + 9,) * 2


@pytest.mark.parametrize("method", ["grid", "tpe"])
def test_what_earlier_runs_have_trained_is_not_estimated_again(method):
    lr = {"min": 0.01, "max": 0.1} if method == "tpe" else {"values": [0.01, 0.02, 0.03, 0.04, 0.05]}
    spec = make_sweep(method=method, num_trials=5 if method == "tpe" else None, parameters={"lr": lr}, **HALVING)
    trials = () if method == "tpe" else expand_trials(spec, describe_dataset)
    sweep = sweep_to_estimate(spec, trials, play_sweep(spec, trials, until=4))
    assert estimate(spec, sweep, 2, 0.5, SpeedBook()).num_epochs == (1 * 3 + 2 * 6 + 3 * 9 + 9,) * 2


def test_a_baseline_that_the_sweep_does_not_list_is_estimated():
    spec, trials = expand(baseline={"lr": 0.5}, confirm={"top": 2, "seeds": [5, 6]})
    assert estimate(spec, sweep_to_estimate(spec, trials), 2, 0.5, book_of(trials)).num_epochs == (36 + 12, 36 + 12)
