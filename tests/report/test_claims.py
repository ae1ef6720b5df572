"""Headings of the report claim no more than the tables show: each has a counterexample that it must not claim."""

import numpy as np
import pytest

from flexres_tune.report.data import read_data
from flexres_tune.report.plots.curves import plot_curves
from flexres_tune.report.plots.effects import plot_effects
from flexres_tune.report.plots.importance import plot_importance
from flexres_tune.report.plots.progress import plot_progress
from flexres_tune.report.plots.ranking import plot_ranking
from flexres_tune.results import open_results
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
    assert "among the 30 trials that ran to the end" in plot.finding and plot.finding.startswith("lr explains most")
