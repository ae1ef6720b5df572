"""The final run of `confirm.final`: whose it is, when it runs, and what a resumed sweep makes of it."""

from dataclasses import replace

from helpers.factories import make_sweep

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.records import Stage, TrialStatus
from flexres_tune.search.base import History
from flexres_tune.search.budget import Spent, make_budgeted_searches
from flexres_tune.search.confirmation import make_confirmation
from flexres_tune.search.final import make_final
from flexres_tune.search.methods import make_search
from flexres_tune.spec import expand_trials

from .test_confirmation import drain, history_of, make_past

SWEEP = {
    "seeds": [3],
    "base": {"model": "tiny", "dataset": "digits", "epochs": 2},
    "parameters": [{"lr": {"values": [0.01, 0.02, 0.05]}}],
    "confirm": {"top": 2, "seeds": [10, 11], "final": {"train_on": "all"}},
}


def searches(spec, history):
    trials = expand_trials(spec, describe_dataset)
    screen = make_search(spec, trials, history)
    confirm = make_confirmation(spec, screen.work.trials, history)
    return screen, confirm, make_final(spec, [screen.work, confirm.work], history)


def history_until_confirmed(spec, confirm_score, **changes):
    """The screening prefers the higher lr; `changes` are of the rows of the confirmation."""
    screened = expand_trials(spec, describe_dataset)
    past = history_of(screened, lambda trial: trial.config.lr)
    confirmed = drain(make_confirmation(spec, screened, past))
    rows = {t.config.trial_id: make_past(t, confirm_score(t), stage="confirm", **changes) for t in confirmed}
    return History(dict(past.trials) | rows)


def test_winner_of_the_confirmation_is_trained_on_all_images_with_the_first_seed():
    spec = make_sweep(**SWEEP)
    history = history_until_confirmed(spec, lambda trial: 0.9 if trial.config.lr == 0.02 else 0.8)
    (final,) = drain(searches(spec, history)[2])
    assert (final.config.lr, final.config.val_split, final.config.seed) == (0.02, "none", 3)
    assert final.stage is Stage.FINAL
    assert final.config.config_id not in {past.config_id for past in history.trials.values()}


def test_nothing_is_final_before_the_confirmation_is_complete():
    spec = make_sweep(**SWEEP)
    history = history_until_confirmed(spec, lambda trial: 0.9)
    last = next(reversed(history.trials))
    unfinished = History({key: past for key, past in history.trials.items() if key != last})
    _, confirm, final = searches(spec, unfinished)
    assert confirm.work.num_todo == 1 and final.work.num_todo == 0
    assert searches(spec, History())[2].work.trials == ()


def test_final_run_is_not_repeated_on_resume():
    spec = make_sweep(**SWEEP)
    history = history_until_confirmed(spec, lambda trial: 0.9)
    (final,) = drain(searches(spec, history)[2])
    done = History(dict(history.trials) | {final.config.trial_id: make_past(final, None, stage="final")})
    assert searches(spec, done)[2].work.num_todo == 0 and searches(spec, done)[2].work.num_done == 1


def test_configuration_with_a_failed_seed_does_not_win():
    spec = make_sweep(**SWEEP)
    history = history_until_confirmed(spec, lambda trial: trial.config.lr)
    best = [key for key, past in history.trials.items() if past.stage == "confirm" and past.score == 0.05]
    failed = {key: replace(history.trials[key], status=TrialStatus.DIVERGED, score=None) for key in best[:1]}
    (final,) = drain(searches(spec, History(dict(history.trials) | failed))[2])
    assert final.config.lr == 0.02


def test_screening_counts_in_the_mean_as_on_the_leaderboard():
    spec = make_sweep(**SWEEP)
    equal = history_until_confirmed(spec, lambda trial: 0.5)
    (final,) = drain(searches(spec, equal)[2])
    assert final.config.lr == 0.05  # which was best in the screening


def test_sweep_without_final_has_none():
    spec = make_sweep(**{**SWEEP, "confirm": {"top": 2, "seeds": [10, 11]}})
    assert searches(spec, history_until_confirmed(spec, lambda trial: 0.9))[2].work.trials == ()


def test_budget_counts_the_final_run():
    for epochs, num_todo in ((16, 1), (14, 0)):  # 3 + 4 trials of 2 epochs are done
        spec = make_sweep(**SWEEP, budget={"epochs": epochs})
        history = history_until_confirmed(spec, lambda trial: 0.9)
        spent = {key: Spent(2, 1.0) for key in history.trials}
        found = make_budgeted_searches(spec, expand_trials(spec, describe_dataset), history, spent)
        assert found.final.work.num_todo == num_todo and found.left_out.runs == 1 - num_todo
