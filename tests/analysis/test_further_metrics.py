"""The metrics that a sweep file lists are columns of its leaderboard: means over the seeds that count."""

import json

import pytest
from helpers.command import invoke
from helpers.factories import make_config, make_epoch, make_sweep, make_trial

from flexres_tune.analysis.leaderboard import leaderboards
from flexres_tune.query.__main__ import app
from flexres_tune.report.board import leaderboard_html
from flexres_tune.report.data import read_data
from flexres_tune.report.plots.further import plot_further_metrics
from flexres_tune.report.sections import report_html
from flexres_tune.results import open_results
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter

VALUES = {  # (lr, seed, stage): values of the last epoch
    (0.1, 0, "screen"): {"top5": 0.1, "gain": 1.0},
    (0.1, 10, "confirm"): {"top5": 0.90, "gain": 2.0},
    (0.1, 11, "confirm"): {"top5": 0.94},
    (0.2, 0, "screen"): {"top5": 0.8, "gain": 5.0},
    (0.3, 0, "screen"): {},
}


@pytest.fixture
def results(paths):
    with SweepWriter(paths) as writer:
        for (lr, seed, stage), metrics in VALUES.items():
            config = make_config(lr=lr, seed=seed)
            for epoch in (1, 2) if metrics else ():
                values = {name: value * epoch / 2 for name, value in metrics.items()}
                writer.add_epoch(make_epoch(config.trial_id, epoch, metrics=json.dumps(values)))
            row = make_trial(config, best=1 - lr, stage=stage, metrics=json.dumps(metrics) if metrics else None)
            writer.add_trial(row, config)
    write_plan(paths, make_plan(make_sweep(name="demo", metrics=["top5"]), [], "the command", {}))
    return open_results(paths.root)


def test_a_configuration_has_the_mean_of_the_seeds_that_rank_it(results):
    (board,) = leaderboards(results, "demo")
    rows = {row["lr"]: row for row in board.to_table().to_pylist()}
    assert rows[0.1]["top5_mean"] == pytest.approx(0.92) and rows[0.1]["top5_sd"] == pytest.approx(0.0283, abs=1e-4)
    assert (rows[0.1]["gain_mean"], rows[0.1]["gain_sd"]) == (2.0, None)
    assert (rows[0.2]["top5_mean"], rows[0.2]["top5_sd"], rows[0.3]["top5_mean"]) == (0.8, None, None)


def test_tables_show_them_with_their_unit_and_choose_by_them(results):
    def ask(*arguments):
        done = invoke(app, "leaderboard", "--results", results.root, *arguments, env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "92 ± 3 %" in ask() and "top5" in ask()
    chosen = ask("--where", "top5_mean > 0.85", "--columns", "lr,top5", "--format", "csv").splitlines()
    assert chosen[0] == "lr,top5_mean,top5_sd" and len(chosen) == 2 and chosen[1].startswith("0.1,0.9")


def test_the_reports_leaderboard_has_them(results):
    page = leaderboard_html(read_data(results, "demo"))
    assert "<button>top5" in page and "92 ± 3 %" in page


def test_the_report_draws_one_of_them_at_a_time_by_the_readers_choice(results):
    data = read_data(results, "demo")
    (plot,) = plot_further_metrics(data)
    visible = [(trace.name.partition(".")[0], list(trace.y)) for trace in plot.figure.data if trace.visible]
    assert visible[0] == ("1", [46.0, 92.0]) and len(visible) == 2, "mean over the seeds that rank it, in percent"
    (menu,) = plot.figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["top-5 accuracy", "gain"]
    shown, layout = menu.buttons[1].args
    assert shown["visible"] == [False, False, True, True] and layout == {"yaxis.title.text": "gain"}
    assert plot.finding == "top-5 accuracy of lr=0.1 after epoch 2: 92 %"
    assert "Further metrics" in report_html(data, "results")
