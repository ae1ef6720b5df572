"""Headings of the report claim no more than the tables show: each has a counterexample that it must not claim."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from helpers.factories import make_sweep

from flexres_tune.report.board import answer_html
from flexres_tune.report.data import read_data
from flexres_tune.report.plots.answer import plot_answer
from flexres_tune.report.plots.cost import plot_cost
from flexres_tune.report.plots.curves import plot_curves
from flexres_tune.report.plots.effects import plot_effects
from flexres_tune.report.plots.further import plot_further_metrics
from flexres_tune.report.plots.heatmap import plot_heatmap
from flexres_tune.report.plots.importance import plot_importance
from flexres_tune.report.plots.overlay import plot_overlay
from flexres_tune.report.plots.parallel import plot_parallel
from flexres_tune.report.plots.progress import plot_progress
from flexres_tune.report.plots.ranking import plot_ranking
from flexres_tune.report.plots.timeline import plot_timeline
from flexres_tune.report.trials import trials_html
from flexres_tune.results import open_results
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def report(paths, make_config, make_trial, make_epoch):
    """Writes [(configuration, stage, value; None for a stopped trial)]; the data of the report."""

    def make(*trials):
        with SweepWriter(paths) as writer:
            for values, stage, value in trials:
                config = make_config(**values)
                writer.add_epoch(make_epoch(config.trial_id, 1, val_accuracy=value or 0.2))
                status = "completed" if value else "stopped"
                writer.add_trial(make_trial(config, status, value or 0.2, stage=stage), config)
        return read_data(open_results(paths.root), "demo")

    return make


def grid(optimizer, lr, value, seed=0, stage="screen"):
    return {"optimizer": optimizer, "lr": lr, "seed": seed}, stage, value


def test_effect_of_an_optimizer_is_not_the_mean_over_what_the_scheduler_left(report):
    """sgd has one good rate left, adamw a bad one; where both ran, adamw is as good."""
    data = report(
        grid("sgd", 0.1, 0.987),
        grid("adamw", 0.001, 0.95),
        grid("adamw", 0.3, 0.40),
        grid("sgd", 0.001, None),
        grid("sgd", 0.3, None),
    )
    [finding] = [plot.finding for plot in plot_effects(data) if plot.name == "effect-optimizer"]
    assert finding == (
        "optimizer: no two configurations that ran to the end differ in it alone, so it has no effect to show; of 2 pairs "
        "only one did"
    )


def test_effect_over_pairs_needs_pairs_that_agree(report):
    rates = (0.001, 0.01, 0.1, 0.3)
    better = report(
        *(grid("sgd", lr, 0.95 + lr / 100) for lr in rates), *(grid("adam", lr, 0.93 + lr / 90) for lr in rates)
    )
    [finding] = [plot.finding for plot in plot_effects(better) if plot.name == "effect-optimizer"]
    assert (
        finding.startswith("optimizer: sgd is 1.989 points above adam")
        and "over 4 pairs of configurations that differ in" in finding
    )


def test_effect_that_changes_its_sign_is_not_claimed(report):
    mixed = zip((0.001, 0.01, 0.1), (0.95, 0.80, 0.93), (0.90, 0.85, 0.88), strict=True)
    data = report(*(trial for lr, a, b in mixed for trial in (grid("sgd", lr, a), grid("adam", lr, b))))
    [finding] = [plot.finding for plot in plot_effects(data) if plot.name == "effect-optimizer"]
    assert finding.startswith("optimizer: no effect is shown over 3 pairs")


def test_effect_over_pairs_says_in_how_many_only_one_ran_to_the_end(report):
    """Of three pairs both sgd and adam ran to the end, with sgd ahead; in four others the search stopped sgd."""
    ended, stopped = (0.001, 0.01, 0.1), (0.2, 0.3, 0.4, 0.5)
    data = report(
        *(grid("sgd", lr, 0.95 + lr / 100) for lr in ended),
        *(grid("sgd", lr, None) for lr in stopped),
        *(grid("adam", lr, 0.93 + lr / 90) for lr in (*ended, *stopped)),
    )
    [plot] = [plot for plot in plot_effects(data) if plot.name == "effect-optimizer"]
    assert plot.finding.endswith("; of 4 further pairs only one ran to the end, adam in 4")
    assert any("whose partners with each other value ran to the end" in note for note in plot.notes)


def test_one_pair_is_no_effect(report):
    data = report(grid("sgd", 0.1, 0.95), grid("adam", 0.1, 0.90), grid("adam", 0.3, 0.91))
    [finding] = [plot.finding for plot in plot_effects(data) if plot.name == "effect-optimizer"]
    assert finding.endswith("differ in nothing else; the leaderboard says whether seeds could explain it")


def test_confirmed_leader_is_not_called_the_highest_of_all(report):
    data = report(
        *(grid("sgd", 0.1, 0.95 + seed / 1000, seed, "confirm") for seed in (10, 11, 12)),
        *(grid("adam", 0.1, 0.94 + seed / 1000, seed, "confirm") for seed in (10, 11, 12)),
        grid("adamw", 0.1, 0.99),
    )
    [ranking] = plot_ranking(data)
    assert ranking.finding.startswith("sgd leads the confirmed configurations, ")
    [curves] = plot_curves(data)
    assert "highest" not in curves.finding and "sgd leads the leaderboard" in curves.finding


def test_search_that_ends_with_its_best_trial_is_not_called_rising(report):
    data = report(grid("sgd", 0.1, 0.90), grid("sgd", 0.2, 0.91), grid("sgd", 0.3, 0.92))
    assert all("rising" not in plot.finding for plot in plot_progress(data))


def test_importance_says_among_which_trials(report):
    values = [(lr, opt, 0.9 + lr) for lr in map(float, np.linspace(0.01, 0.1, 10)) for opt in ("sgd", "adam", "adamw")]
    data = report(*(grid(opt, lr, value) for lr, opt, value in values), grid("sgd", 0.2, None))
    [plot] = plot_importance(data)
    assert "among the 30 trials that ran to the end" in plot.finding and plot.finding.startswith(
        "lr explains the largest share"
    )


@pytest.fixture
def rows(paths, make_config, make_trial, make_epoch):
    """Writes [(configuration, changes of the row of `trials`)], each with one epoch; the data of the report."""

    def make(*trials, metric=None):
        with SweepWriter(paths) as writer:
            for values, changes in trials:
                config = make_config(**values)
                row = make_trial(config, **{"best": 0.9} | {name: v for name, v in changes.items() if name != "loss"})
                loss = {"val_loss": changes["loss"]} if "loss" in changes else {}
                epoch = make_epoch(config.trial_id, 1, val_accuracy=row.best_val_accuracy, **loss)
                writer.add_epoch(epoch)
                writer.add_trial(row, config)
        if metric:
            write_plan(paths, make_plan(make_sweep(name="demo", metric=metric), [], "the command", {}))
        return read_data(open_results(paths.root), "demo")

    return make


def sized(lr, value, seconds=10.0, num_parameters=1000, **changes):
    return {"lr": lr}, {"best": value, "train_seconds": seconds, "num_parameters": num_parameters} | changes


def findings(plots):
    return {plot.name: plot.finding for plot in plots}


def test_cost_does_not_call_the_highest_cheapest_if_another_costs_as_little(rows):
    """0.1 and 0.2 have as many parameters; 0.3 has fewer, and is two points behind."""
    data = rows(sized(0.1, 0.95), sized(0.2, 0.95), sized(0.3, 0.93, num_parameters=500))
    finding = findings(plot_cost(data))["cost-parameters"]
    assert finding.endswith(" has the highest mean (as has 1 more), 95.0 %; nothing within one point of it is cheaper")


def test_cost_names_a_cheaper_one_only_within_the_point_and_never_for_nothing(rows):
    data = rows(sized(0.1, 0.95, 1000.0), sized(0.2, 0.945, 1.0), sized(0.3, 0.935, 0.1))
    finding = findings(plot_cost(data))["cost-time"]
    assert (
        finding
        == "lr=0.2 has 94.5 %, within one point of the highest mean, for under 1 % of its device-seconds per trial"
    )


def test_cost_measures_closeness_in_the_unit_of_the_metric(rows):
    trials = [
        sized(lr, 0.9, seconds, loss=loss) for lr, seconds, loss in ((0.1, 9, 0.300), (0.2, 8, 0.305), (0.3, 1, 0.4))
    ]
    finding = findings(plot_cost(rows(*trials, metric={"name": "val_loss"})))["cost-time"]
    assert finding.startswith("lr=0.2 has 0.305, within 0.01 nats of the lowest mean") and "point" not in finding


def test_heat_map_does_not_single_out_one_of_two_equal_combinations(report):
    data = report(*(grid(name, lr, 0.9 if lr == 0.1 else 0.8) for name in ("sgd", "adam") for lr in (0.1, 0.2)))
    [finding] = findings(plot_heatmap(data)).values()
    assert finding.endswith("has the highest, 90.0 % (n = 1) (as has 1 more)")


def test_heat_map_does_not_rank_what_the_search_has_left_over(report):
    """sgd at 0.1 has one survivor at 99 % of two batch sizes; the other cells share the batch size 32 alone."""
    cells = [(name, lr, size) for name in ("sgd", "adam") for lr in (0.1, 0.2) for size in (32, 64)]
    trials = []
    for name, lr, size in cells:
        is_survivor = (name, lr) == ("sgd", 0.1)
        value = (None if size == 32 else 0.99) if is_survivor else (0.9 if name == "sgd" else 0.8) + size / 1e4
        trials.append(({"optimizer": name, "lr": lr, "batch_size": size}, "screen", value))
    plots = {plot.name: plot for plot in plot_heatmap(report(*trials))}
    [plot] = [plot for name, plot in plots.items() if "optimizer" in name and "lr" in name]
    assert (
        "99.0" in plot.finding and "(1 of 1 configs)" not in plot.finding
    )  # shares batch size 64 with each other cell
    assert plot.finding.endswith("(n = 1)") and any("partners in every other field" in note for note in plot.notes)


def test_heat_map_counts_the_mean_over_some_configurations_as_such(report):
    """Of adam with 0.2 only batch size 64 ran to the end, so every mean is over that one, of one or two that ran."""
    trials = []
    for name, lr, size in itertools.product(("sgd", "adam"), (0.1, 0.2), (32, 64)):
        value = 0.8 + lr / 10 + (0.01 if name == "sgd" else 0) + size / 1e4
        is_stopped = (name, lr, size) == ("adam", 0.2, 32)
        trials.append(({"optimizer": name, "lr": lr, "batch_size": size}, "screen", None if is_stopped else value))
    [plot] = [plot for plot in plot_heatmap(report(*trials)) if "batch" not in plot.name]
    assert plot.finding.endswith("has the highest, 83.6 % (1 of 2 configs)")


def test_heat_map_shows_what_failed_as_failed_and_not_as_never_tried(rows):
    grid = [({"optimizer": name, "lr": lr}, {"best": 0.9}) for name in ("sgd", "adam") for lr in (0.1, 0.2)]
    grid += [
        ({"optimizer": "sgd", "lr": 0.3}, {}),
        ({"optimizer": "adam", "lr": 0.3}, {"status": "diverged", "best": None}),
    ]
    [plot] = plot_heatmap(rows(*grid))
    assert [each.text for each in plot.figure.layout.annotations] == ["× 1<br>failed"]
    assert "×: there is no mean, because trials did not run to the end; their number." in plot.notes


def test_values_that_drawn_lines_share_are_not_claimed_of_all_trials(report):
    """Of 600 trials one of the best third, which the plot does not draw, has another optimizer."""
    values = [(0.5 + index / 2000, index) for index in range(600)]
    trials = [
        grid("adam" if index in (1, 497) else "sgd", 0.001 * (index % 7 + 1), value, index) for value, index in values
    ]
    [plot] = plot_parallel(report(*trials))
    assert len(plot.figure.data[-1].x) < 200 * 3 and "optimizer" not in plot.finding


def test_equals_of_the_best_group_are_in_its_claim(report):
    """Which of six equal trials are the best third is chance: all but one of them have the optimizer sgd."""
    names = ["sgd", "sgd", "sgd", "adam", "sgd", "sgd"]
    data = report(
        *(grid(name, 0.1 * (1 + at % 2), 0.9, at) for at, name in enumerate(names)),
        *(grid("adamw", 0.1 + at / 10, 0.5, 10 + at) for at in range(3)),
    )
    [plot] = plot_parallel(data)
    assert "optimizer" not in plot.finding


def test_parameter_without_an_axis_may_be_what_the_best_have_in_common(report):
    """Nine parameters vary and eight have an axis; the best third shares the ninth alone."""
    choices = {
        **{"lr": (0.1, 0.2), "momentum": (0.0, 0.9), "weight_decay": (0.0, 1e-4), "warmup_epochs": (0, 1)},
        **{
            "batch_size": (32, 64),
            "mixup_alpha": (0.0, 0.2),
            "label_smoothing": (0.0, 0.1),
            "normalize": (True, False),
        },
    }
    trials = []
    for at in range(9):
        values = {name: both[(at >> (k % 3)) % 2] for k, (name, both) in enumerate(choices.items())}
        augmentation = ["flip"] if at >= 6 or at % 2 else ["crop"]
        trials.append((values | {"seed": at, "augmentation": augmentation}, "screen", 0.5 + at / 100))
    [plot] = plot_parallel(report(*trials))
    assert "Left out for width: augmentation." in plot.notes
    assert plot.finding == "The best third of the completed trials shares augmentation flip"


def ran(lr, start, minutes, **changes):
    began = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(minutes=start)
    return {"lr": lr}, {"started_at": began, "finished_at": began + timedelta(minutes=minutes)} | changes


def test_timeline_counts_machines_because_devices_of_one_name_are_one_name(rows):
    both = ({"hostname": "a", "device": "H200"}, {"hostname": "b", "device": "H200"})
    [plot] = plot_timeline(rows(ran(0.1, 0, 10, **both[0]), ran(0.2, 0, 10, **both[0]), ran(0.3, 0, 10, **both[1])))
    assert (
        plot.finding
        == "3 trials on 2 machines, 10 min 00 s from the first start to the last end; 3.0 ran at once on average"
    )


def test_timeline_claims_no_average_if_earlier_attempts_are_not_in_the_table(rows):
    [plot] = plot_timeline(rows(ran(0.1, 0, 10), ran(0.2, 50, 10, attempt=2)))
    assert "at once" not in plot.finding and "last attempt" in plot.notes[0]


def test_timeline_says_what_the_clocks_leave_out(rows):
    [plot] = plot_timeline(rows(ran(0.1, 0, 10), ran(0.2, 0, 10), ran(0.3, 0, -5)))
    assert plot.finding.startswith("2 trials") and plot.notes[-1].startswith("1 trial left out")


def test_training_is_compared_with_validation_over_the_same_trials(paths, make_config, make_trial, make_epoch):
    """The second seed has no training accuracy; its validation accuracy must not be in the gap either."""
    with SweepWriter(paths) as writer:
        for seed, train, val in ((0, 0.9, 0.8), (1, None, 0.2)):
            config = make_config(seed=seed)
            writer.add_epoch(make_epoch(config.trial_id, 1, val_accuracy=val, train_accuracy=train))
            writer.add_trial(make_trial(config, best=val), config)
    finding = findings(plot_overlay(read_data(open_results(paths.root), "demo")))["train-val-accuracy"]
    assert finding.endswith(
        "training accuracy is 10.0 points above validation accuracy after epoch 1 (90.0 and 80.0 %)"
    )


@pytest.mark.parametrize(("losses", "says"), [
    ((0.9, 0.5, 0.5), "lowest after the last epoch"),
    ((0.9, 0.4, 0.5), "lowest after epoch 2, 0.4, and 0.5 after 1 epoch more"),
])  # fmt: skip
def test_loss_is_called_lowest_at_its_last_minimum(paths, make_config, make_trial, make_epoch, losses, says):
    config = make_config()
    with SweepWriter(paths) as writer:
        for epoch, loss in enumerate(losses, 1):
            writer.add_epoch(make_epoch(config.trial_id, epoch, val_loss=loss))
        writer.add_trial(make_trial(config), config)
    assert says in findings(plot_overlay(read_data(open_results(paths.root), "demo")))["train-val-loss"]


def test_most_stops_are_more_than_half(rows):
    stops = [
        ({"lr": lr}, {"status": "stopped", "epochs_run": epoch})
        for lr, epoch in ((1, 1), (2, 1), (3, 2), (4, 3), (5, 4))
    ]
    [plot] = plot_curves(rows(*stops))
    assert plot.finding == "5 of 5 trials were stopped early, after 1 to 4 epochs"


def test_completed_trial_without_a_rank_is_not_called_missing(rows):
    data = rows(({"seed": 0}, {}), ({"seed": 1}, {"status": "diverged"}))
    [plot] = plot_curves(data)
    assert plot.finding == "2 trials with a curve, 1 completed, no configuration ranked"


def test_ranking_does_not_single_out_one_of_equal_means(report):
    [plot] = plot_ranking(report(grid("sgd", 0.1, 0.9), grid("adam", 0.1, 0.9), grid("adamw", 0.1, 0.8)))
    assert "has the highest mean (as has 1 more), 90.0 %" in plot.finding


def test_ranking_of_one_fresh_run_each_does_not_contradict_the_answer(report, paths):
    """The answer tests them with the deviation of the screening, so the titles must not say that nothing is known."""
    means = {"sgd": 0.95, "adam": 0.90, "adamw": 0.85}
    trials = [grid(name, 0.1, mean + 0.001) for name, mean in means.items()]
    trials += [grid(name, 0.1, mean, 10, "confirm") for name, mean in means.items()]
    report(*trials)
    spec = make_sweep(name="demo", parameters={"optimizer": {"values": list(means)}}, compare="optimizer")
    write_plan(paths, make_plan(spec, [], "the command", {}))
    data = read_data(open_results(paths.root), "demo")
    [ranking], [answer] = plot_ranking(data), plot_answer(data)
    assert ranking.finding.endswith("2 of the 2 others compared with it are separable from it")
    assert "is best" in answer.finding and "pooled over all that were confirmed" in answer.notes[0]
    assert all(row.metric_low is None for row in data.board.ranked)  # the interval of the answer is the pooled one
    assert answer.figure.data[1].error_x.array[0] > 0


def test_table_of_the_answer_says_why_a_higher_mean_is_not_first(report, paths):
    trials = [grid("sgd", 0.1, 0.90), grid("sgd", 0.1, 0.95, 10, "confirm")]
    trials += [grid("nesterov", 0.1, 0.99), grid("nesterov", 0.1, 0.94, 10, "confirm")]
    report(*trials)
    spec = make_sweep(name="demo", parameters={"optimizer": {"values": ["sgd", "nesterov"]}}, compare="optimizer")
    write_plan(paths, make_plan(spec, [], "the command", {}))
    assert "In the order of the mean over all runs" in answer_html(read_data(open_results(paths.root), "demo"))


def test_further_metric_is_not_called_that_of_a_leader_without_it(paths, make_config, make_trial, make_epoch):
    """The leader is of an older run, whose epochs have no such metric."""
    with SweepWriter(paths) as writer:
        for lr, best, values in ((0.1, 0.9, None), (0.2, 0.8, '{"top5": 0.95}')):
            config = make_config(lr=lr)
            writer.add_epoch(make_epoch(config.trial_id, 1, val_accuracy=best, metrics=values))
            writer.add_trial(make_trial(config, best=best, metrics=values), config)
    [plot] = plot_further_metrics(read_data(open_results(paths.root), "demo"))
    assert plot.finding == "top-5 accuracy of lr=0.2 after epoch 1: 95 %"


def test_one_trial_after_the_best_is_not_called_the_very_end(rows):
    """The last of three trials took most of the time."""
    order = [ran(lr, at, 1, best=value, train_seconds=seconds) for at, (lr, value, seconds) in
             enumerate([(0.1, 0.8, 60.0), (0.2, 0.9, 60.0), (0.3, 0.7, 600.0)])]  # fmt: skip
    by_time = findings(plot_progress(rows(*order)))["best-by-time"]
    assert "very end" not in by_time and "the last 83 % brought no better one that ran to the end" in by_time


def test_stopped_trial_above_the_best_is_not_called_worse(rows):
    order = [
        ran(0.1, 0, 1, best=0.8),
        ran(0.2, 1, 1, best=0.9),
        ran(0.3, 2, 1, best=0.95, status="stopped"),
        ran(0.4, 3, 1, best=0.7),
    ]
    by_trials = findings(plot_progress(rows(*order)))["best-by-trials"]
    assert by_trials.endswith("came with trial 2 of 4; no later one that ran to the end was better")


def test_best_few_of_many_values_are_counted_and_not_called_a_tenth(report):
    trials = [grid("sgd", round(0.01 * at, 3), 0.5 + at / 100, at) for at in range(1, 15)]
    finding = findings(plot_effects(report(*trials)))["effect-lr"]
    assert finding == "lr: the best 2 of the 14 completed trials are between 0.13 and 0.14"


def test_left_out_trials_are_called_worse_and_not_lower(rows, monkeypatch):
    """A loss is worse if it is higher."""
    monkeypatch.setattr("flexres_tune.report.trials.MOST_ROWS", 1)
    html = trials_html(rows(({"lr": 0.1}, {"loss": 0.3}), ({"lr": 0.2}, {"loss": 0.5}), metric={"name": "val_loss"}))
    assert "The 1 trial with worse values, or none, is left out" in html
