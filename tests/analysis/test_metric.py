"""The metric that a sweep ranks by, and the precision and device of what is compared."""

import json
from dataclasses import replace

import pytest
from helpers.command import invoke
from helpers.factories import make_config, make_epoch, make_sweep, make_trial

from flexres_tune.analysis.leaderboard import leaderboards
from flexres_tune.analysis.metric import METRICS
from flexres_tune.analysis.summary import answer_sentence, sentence_of
from flexres_tune.effects.cost import equal_cost, pareto
from flexres_tune.effects.parameters import parameter_effects
from flexres_tune.query.__main__ import app
from flexres_tune.report.data import read_data
from flexres_tune.report.sections import all_plots, report_html
from flexres_tune.results import open_results
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter
from flexres_tune.run.printout import describe_missing_metrics
from flexres_tune.spec import Metric
from flexres_tune.spec.keys.metric import GOALS


@pytest.fixture
def by_loss(paths):
    """A sweep that ranks by loss: lr 0.1 has the lowest loss (in epoch 1), 0.2 the highest accuracy."""
    losses = {0.1: [0.20, 0.50], 0.2: [0.9, 0.40], 0.3: [0.7, 0.6]}
    accuracies = {0.1: [0.80, 0.81], 0.2: [0.90, 0.95], 0.3: [0.7, 0.75]}
    noise = {0.1: [0.0, 0.01, 0.02], 0.2: [0.02, 0.0, 0.01], 0.3: [0.01, 0.02, 0.0]}
    with SweepWriter(paths) as writer:
        for lr in losses:
            for seed in range(3):
                config = make_config(lr=lr, seed=seed, epochs=2)
                for epoch, (loss, accuracy) in enumerate(zip(losses[lr], accuracies[lr], strict=True), 1):
                    values = {"val_loss": loss + noise[lr][seed], "val_accuracy": accuracy}
                    writer.add_epoch(make_epoch(config.trial_id, epoch, **values))
                writer.add_trial(make_trial(config, best=max(accuracies[lr])), config)
    write_plan(paths, make_plan(make_sweep(name="demo", metric={"name": "val_loss"}), [], "the command", {}))
    return open_results(paths.root)


def test_every_metric_that_a_sweep_file_may_name_can_be_ranked_by():
    for name, metric in METRICS.items():
        assert metric.is_maximized == (Metric(name=name).goal == "maximize")
    assert set(METRICS) == set(GOALS)


def test_leaderboard_ranks_by_the_sweeps_metric_and_names_its_columns_for_it(by_loss):
    (board,) = leaderboards(by_loss)
    assert [row.parameters["lr"] for row in board.ranked] == [0.1, 0.2, 0.3]
    first, second, _ = board.ranked
    assert (first.metric_mean, first.best_epoch) == (pytest.approx(0.21), 1)
    assert second.behind_leader == pytest.approx(0.20) and second.separable_from_leader == "yes"
    assert 0 <= first.metric_low < 0.21 < first.metric_high
    table = board.to_table()
    assert "best_val_accuracy_mean" not in table.column_names
    assert table.schema.field("best_val_loss_mean").metadata[b"unit"] == b"nats"


@pytest.fixture
def by_last(by_loss, paths):
    """The same sweep, ranked by its last epochs: lr 0.1 ends with the loss 0.5, 0.2 with 0.4 and the accuracy 0.95."""

    def make(name):
        spec = make_sweep(name="demo", metric={"name": name, "at": "last"})
        write_plan(paths, make_plan(spec, [], "the command", {}))
        return open_results(paths.root)

    return make


def test_narrow_board_keeps_the_column_that_ranks(by_last, paths):
    by_last("val_accuracy")
    done = invoke(app, "leaderboard", "--results", paths.root, env={"COLUMNS": "60"})
    assert "last val" in done.output and "left out for width" in done.output


@pytest.mark.parametrize(("name", "best"), [("val_loss", 0.2), ("val_accuracy", 0.2)])
def test_trials_are_listed_best_first_by_the_sweeps_metric(by_last, by_loss, paths, name, best):
    first = invoke(app, "trials", "--results", paths.root, "--format", "json", "--limit", "1").output
    assert json.loads(first)[0]["lr"] == 0.1, "the lowest loss of any epoch"
    by_last(name)
    assert json.loads(invoke(app, "trials", "--results", paths.root, "--format", "json").output)[0]["lr"] == best
    shown = invoke(app, "trials", "--results", paths.root, env={"COLUMNS": "200"}).output
    assert "last" in shown and {"val_loss": " 0.4 ", "val_accuracy": " 95.00 % "}[name] in shown


def test_last_epoch_ranks_if_the_sweep_file_says_so(by_last):
    (board,) = leaderboards(by_last("val_loss"))
    assert [row.parameters["lr"] for row in board.ranked] == [0.2, 0.1, 0.3]
    assert board.ranked[0].metric_mean == pytest.approx(0.41) and board.ranked[1].best_epoch == 1
    assert "last_val_loss_mean" in board.to_table().column_names
    budgets = {row.budget: row for row in equal_cost(by_last("val_loss"), "demo") if row.budget_of == "epochs"}
    assert budgets[2].parameters["lr"] == 0.2 and budgets[1].parameters["lr"] == 0.1


def test_last_accuracy_has_one_column_in_tables(by_last):
    (board,) = leaderboards(by_last("val_accuracy"))
    names = board.to_table().column_names
    assert names.count("last_val_accuracy_mean") == 1 and "best_val_accuracy_mean" not in names
    assert board.ranked[0].metric_mean == pytest.approx(0.94)  # the factory's last epoch is 0.01 below the best
    results = by_last("val_accuracy")
    html = report_html(read_data(results, "demo"), str(results.root))
    assert "after the last epoch" in html and "last validation accuracy (%)" in html
    assert "best validation accuracy (%)" not in html


def test_plan_without_at_means_the_best_epoch_as_earlier_versions_did(by_loss, paths):
    assert leaderboards(by_loss)[0].metric.at == Metric().at == "best"
    plan = json.loads(paths.plan.read_text())
    del plan["spec"]["metric"]["at"]
    paths.plan.write_text(json.dumps(plan))
    assert leaderboards(open_results(paths.root))[0].metric.at == "best"


@pytest.mark.parametrize(
    ("at", "scores", "reached"),
    [
        ("best", {1: 0.9, 2: 0.8}, 0.9),
        ("last", {2: 0.8, 1: 0.9}, 0.8),
        ("best", {1: 0.9, 2: float("nan")}, 0.9),
        ("last", {1: 0.9, 2: float("nan")}, None),
        ("best", {}, None),
        ("last", {}, None),
    ],
)
def test_score_of_a_trial_is_that_of_its_best_or_last_epoch(at, scores, reached):
    assert Metric(at=at).reached(scores) == reached


def test_terminal_shows_the_metric_with_its_deviation(by_loss, paths):
    text = invoke(app, "leaderboard", "--results", paths.root).output
    assert "best val loss" in " ".join(text.split()) or "0.21 ± 0.01" in text
    rows = json.loads(invoke(app, "leaderboard", "--results", paths.root, "--format", "json").output)
    assert [row["lr"] for row in rows] == [0.1, 0.2, 0.3] and rows[0]["best_val_loss_mean"] == pytest.approx(0.21)


@pytest.fixture
def by_further(paths):
    """A sweep that measures top5 and an own metric, `cost`, and ranks by the one that is named."""

    def make(name, goal):
        values = {0.1: (0.91, 3.5), 0.2: (0.95, 7.0), 0.3: (0.93, -2.0)}
        with SweepWriter(paths) as writer:
            for lr, (top5, cost) in values.items():
                for seed in range(2):
                    config = make_config(lr=lr, seed=seed, epochs=1)
                    metrics = json.dumps({"top5": top5 + seed / 1000, "cost": cost + seed / 100, "lr": 9, "a b": 1})
                    writer.add_epoch(make_epoch(config.trial_id, 1, metrics=metrics))
                    writer.add_trial(make_trial(config, metrics=metrics), config)
        spec = make_sweep(name="demo", metric={"name": name, "goal": goal}, metrics=["top5"])
        write_plan(paths, make_plan(spec, [], "the command", {}))
        return open_results(paths.root)

    return make


@pytest.mark.parametrize(
    ("name", "goal", "order", "shown"),
    [
        ("top5", "maximize", [0.2, 0.3, 0.1], "95.05 ± 0.07 %"),
        ("cost", "minimize", [0.3, 0.1, 0.2], "-1.995 ± 0.007"),
        ("cost", "maximize", [0.2, 0.1, 0.3], "7.005 ± 0.007"),
    ],
)
def test_a_further_metric_ranks_and_is_shown(by_further, name, goal, order, shown):
    results = by_further(name, goal)
    (board,) = leaderboards(results)
    first = board.ranked[0]
    assert [row.parameters["lr"] for row in board.ranked] == order
    assert board.metric.text(first.metric_mean, first.metric_sd) == shown
    assert {row.parameters["lr"] for row in equal_cost(results, "demo")} == {order[0]}
    assert ("top-5 accuracy" if name == "top5" else "cost") in report_html(read_data(results, "demo"), "results")


def test_further_metrics_are_columns_of_both_tables(by_further, paths):
    results = by_further("top5", "maximize")
    for table in (results.trials("demo"), results.epochs("demo")):
        assert table["top5"].to_pylist()[0] == 0.91 and table.schema.field("top5").metadata[b"unit"] == b"fraction"
        assert table.column_names.count("lr") == 1 and "a b" not in table.column_names  # no names of a stranger
    assert results.sql("SELECT max(top5) AS x FROM epochs")["x"].to_pylist() == [0.951]
    text = invoke(app, "sql", "SELECT top5 FROM trials ORDER BY top5 DESC", "--results", paths.root).output
    assert "95.10 %" in text


def test_rows_without_the_metric_have_no_value(by_loss, paths):
    spec = make_sweep(name="demo", metric={"name": "top5"}, metrics=["top5"])
    write_plan(paths, make_plan(spec, [], "the command", {}))
    (board,) = leaderboards(by_loss)
    assert {row.metric_mean for row in board.rows} == {None}
    assert "top5 in 9 trials" in describe_missing_metrics(paths, spec)


def test_summary_is_about_the_metric(by_loss):
    assert answer_sentence(by_loss, "demo").startswith(
        "lr=0.1 is best: 0.210 validation loss (95 % interval 0.185 to 0.235) over 3 seeds in fp32; it is 0.200 nats below "
    )


def test_effects_and_cost_are_about_the_metric(by_loss):
    effects = {row.parameters["lr"]: row for row in parameter_effects(by_loss, "demo", "lr")}
    assert effects[0.2].metric_mean == pytest.approx(0.41) and effects[0.1].extreme == pytest.approx(0.21)
    assert {row.parameters["lr"] for row in equal_cost(by_loss, "demo")} == {0.1}
    assert {row.parameters["lr"] for row in pareto(by_loss, "demo")} == {0.1}


def test_compare_marks_the_value_with_the_lowest_loss(by_loss, paths):
    text = invoke(app, "compare", "lr", "--results", paths.root).output
    assert "lowest" in text and "highest" not in text


def test_report_shows_the_metric_in_every_plot(by_loss):
    data = read_data(by_loss, "demo")
    html = report_html(data, "results")
    assert "lr=0.1 is best" in html and "Rankings are by validation loss" in html
    plots = {plot.name: plot for plot in all_plots(data)}
    assert plots["ranking"].finding.startswith("lr=0.1 has the lowest mean, 0.210")
    assert plots["curves"].finding.startswith("lr=0.1 leads the leaderboard, with 0.210")
    assert plots["effect-lr"].finding.startswith("lr: 0.1 is 0.")
    plots.pop("train-val-accuracy")  # training against validation is drawn in both units
    texts = " ".join(plot.figure.to_json() + plot.finding for plot in plots.values())
    assert "accuracy" not in texts and "%{y" in texts
    assert min(min(trace.y) for trace in plots["effect-lr"].figure.data) < 1  # nats, not per cent


@pytest.fixture
def mixed(paths):
    """A sweep in which the trials of one optimizer were trained in another precision, on another device."""

    def write(**changes):
        with SweepWriter(paths) as writer:
            for optimizer, precision in (("sgd", "bf16"), ("adagrad", "fp32")):
                for seed in range(2):
                    config = make_config(optimizer=optimizer, seed=seed, precision=changes.get(precision, "auto"))
                    record = make_trial(
                        config,
                        best=0.9 + 0.01 * seed + 0.02 * (optimizer == "sgd"),
                        precision_used=precision,
                        device=f"device of {precision}",
                    )
                    writer.add_trial(record, config)
        return open_results(paths.root)

    return write


MIXED = (
    "were trained in different precisions (bf16, fp32): part of a difference between configurations may come from that"
)


def test_board_summary_compare_and_report_say_that_precisions_differ(mixed, paths):
    results = mixed()
    board = invoke(app, "leaderboard", "--results", paths.root).output
    assert MIXED in board and "precision" in board
    assert "ran on different devices (device of bf16, device of fp32): their times are not comparable" in board
    assert MIXED in invoke(app, "compare", "optimizer", "--results", paths.root).output
    assert MIXED in answer_sentence(results, "demo")
    html = report_html(read_data(results, "demo"), "results")
    assert html.count(MIXED) == 2  # below the facts, and in the answer
    assert "bf16 (2 trials), fp32 (2 trials)" in html


def test_precision_is_named_if_all_trials_have_the_same(results, paths):
    opened = results(({"lr": 0.1}, 0, "completed", 0.9), ({"lr": 0.2}, 0, "completed", 0.8))
    assert "precision fp32" in invoke(app, "leaderboard", "--results", paths.root).output
    assert "all were trained in fp32" in invoke(app, "compare", "lr", "--results", paths.root).output
    assert "90.0 % validation accuracy in fp32" in answer_sentence(opened, "demo")
    assert "<dt>precision</dt><dd>fp32</dd>" in report_html(read_data(opened, "demo"), "results")


def test_precisions_that_the_sweep_varies_are_no_problem(mixed, paths):
    mixed(bf16="bf16", fp32="fp32")
    assert "different precisions" not in invoke(app, "leaderboard", "--results", paths.root).output


def test_interval_that_ends_just_below_zero_has_no_minus_zero(results):
    opened = results(*(({"lr": lr}, seed, "completed", 0.9 + lr / 10) for lr in (0.1, 0.2) for seed in range(3)))
    (board,) = leaderboards(opened)
    first, second = board.rows
    second = replace(second, behind_leader_low=-0.0002, behind_leader_high=0.03, p_value=0.06)
    assert "(95 % interval 0.0 to 3.0, adjusted p = 0.06)" in sentence_of(replace(board, rows=(first, second)))
