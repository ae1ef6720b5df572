"""BudgetSearch: never more than fits, the same after a resume, and the rest for the confirmation."""

from dataclasses import replace

import pytest
from helpers.factories import make_config, make_planned, make_sweep
from helpers.search_driver import drive
from hypothesis import given, settings
from hypothesis import strategies as st

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.records import TrialStatus
from flexres_tune.search.base import DONE, WAIT, Assignment, History, Outcome, PastTrial
from flexres_tune.search.budget import Account, BudgetSearch, Spent, make_budgeted_searches
from flexres_tune.search.ladders import Candidate, Rung
from flexres_tune.search.lists import ListSearch
from flexres_tune.search.rungs import RungSearch
from flexres_tune.spec import Budget, expand_trials

EPOCHS = 4
TRIALS = [make_planned(make_config(lr=0.01 * k, epochs=EPOCHS)) for k in range(1, 9)]
CONFIGS = {trial.config.trial_id: trial.config for trial in TRIALS}


def end(assignment, num_epochs=None, status=None, seconds_per_epoch=1.0, score=0.5):
    trial = assignment.trial
    num_epochs = assignment.until_epoch if num_epochs is None else num_epochs
    whole = num_epochs == trial.config.epochs
    status = status or (TrialStatus.COMPLETED if whole else TrialStatus.PAUSED)
    return Outcome(assignment, status, score, score, num_epochs, num_epochs * seconds_per_epoch)


def run(search, slots=1, **ending):
    """Ask and tell until the search is done: the assignments, in order."""
    return drive(search, lambda done: end(done, **ending), slots)


@pytest.mark.parametrize(("budget", "number"), [(3, 0), (4, 1), (11, 2), (100, 8)])
def test_only_whole_trials_that_fit_are_assigned(budget, number):
    search = BudgetSearch(ListSearch(TRIALS), Account(Budget(epochs=budget)))
    assert (search.work.num_todo, search.num_left_out) == ((8, 0) if number else (0, 8))
    assert len(run(search, slots=3)) == number


def test_reserve_is_left():
    search = BudgetSearch(ListSearch(TRIALS), Account(Budget(epochs=20)), reserve=9)
    assert len(run(search)) == 2


def test_search_waits_for_running_trials_that_may_be_stopped_early():
    search = BudgetSearch(ListSearch(TRIALS), Account(Budget(epochs=8)))
    first, second = search.ask(), search.ask()
    assert search.ask() is WAIT
    search.tell(end(first, num_epochs=1, status=TrialStatus.STOPPED))
    assert search.ask() is WAIT
    search.tell(end(second, num_epochs=1, status=TrialStatus.STOPPED))
    third = search.ask()
    assert third.trial is TRIALS[2]
    search.tell(end(third))
    assert search.ask() is DONE


def test_device_time_counts_the_share_of_a_device_and_what_epochs_have_taken_so_far():
    hours = Budget(device_hours=1)
    account = Account(
        hours,
        {TRIALS[0].config.trial_id: Spent(2, 3600.0)},
        TRIALS,
        device_share=0.25,
    )
    assert account.spent == 900
    assert account.cost(Assignment.whole(TRIALS[1])) == EPOCHS * 1800 * 0.25
    search = BudgetSearch(ListSearch(TRIALS), account)
    assert len(run(search, seconds_per_epoch=1800)) == 2
    assert account.spent == 3600, "two further epochs of the first trial, and four of the second"


def test_before_the_first_epoch_nothing_is_known_and_everything_fits():
    account = Account(Budget(device_hours=0.001))
    search = BudgetSearch(ListSearch(TRIALS), account)
    assert len(run(search, seconds_per_epoch=100)) == 1


def test_continued_trial_costs_only_its_further_epochs():
    account = Account(Budget(epochs=100), {TRIALS[0].config.trial_id: Spent(3, 3.0)}, TRIALS)
    assert account.cost(Assignment.whole(TRIALS[0])) == 1


def make_budgeted(budget, spent=None, history=None, **changes):
    parameters = {"lr": {"values": [0.01 * k for k in range(1, 28)]}, "optimizer": {"values": ["sgd", "nesterov"]}}
    base = {"dataset": "digits", "model": "tiny", "epochs": 9}
    spec = make_sweep(parameters=parameters, base=base, budget=budget, **changes)
    trials = expand_trials(spec, describe_dataset)
    return make_budgeted_searches(spec, trials, history or History(), spent or {})


def test_confirmation_gets_at_most_half_of_the_budget():
    confirm = {"top": 2, "seeds": [5, 6, 7]}
    assert make_budgeted({"epochs": 300}, confirm=confirm).reserve == 6 * 9
    assert make_budgeted({"epochs": 60}, confirm=confirm).reserve == 30
    assert make_budgeted({"epochs": 60}).reserve == 0
    assert make_budgeted({"epochs": 600}, confirm=confirm, compare="optimizer").reserve == 12 * 9


def test_search_that_pauses_begins_only_what_can_go_through_all_rungs():
    early = {"type": "halving", "grace_period": 3}
    all_of_them = make_budgeted({"epochs": 10_000}, early_terminate=early, compare="optimizer")
    assert all_of_them.num_reduced == 0
    some = make_budgeted({"epochs": 150}, early_terminate=early, compare="optimizer")
    assert some.num_reduced > 0
    begun = [trial.varied["optimizer"] for trial in some.screen.work.trials]
    assert begun.count("sgd") == begun.count("nesterov") > 1
    given = run(some.screen, slots=4)
    assert {each.until_epoch for each in given} >= {3, 9}
    assert len(given) > len(begun), "some continue"


def make_inner(kind, history):
    if kind == "list":
        return ListSearch(TRIALS, history)
    candidates = [Candidate(trial.config.config_id, (trial,)) for trial in TRIALS]
    return RungSearch(candidates, {None: [Rung(2, 3)]}, EPOCHS, kind == "eager", history)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["list", "eager", "halving"]),
    budget=st.integers(1, 40),
    reserve=st.integers(0, 10),
    scores=st.lists(st.floats(0, 1), min_size=8, max_size=8, unique=True),
    killed_after=st.integers(0, 12),
)
def test_killed_sweep_continues_as_it_would_have_and_spends_no_more(kind, budget, reserve, scores, killed_after):
    """One slot: everything that was told is in the tables."""
    score = {trial.config.trial_id: scores[k] for k, trial in enumerate(TRIALS)}

    def play(search, events, stop_after=None):
        while stop_after is None or len(events) < stop_after:
            step = search.ask()
            if not isinstance(step, Assignment):
                assert step is DONE
                return
            events.append((step.trial.config.trial_id, step.until_epoch))
            search.tell(end(step, score=score[step.trial.config.trial_id]))

    whole = []
    play(BudgetSearch(make_inner(kind, History()), Account(Budget(epochs=budget)), reserve), whole)
    spent = {}
    for trial_id, until in whole:
        spent[trial_id] = max(until, spent.get(trial_id, 0))
    assert sum(spent.values()) <= max(0, budget - reserve)

    events = []
    play(BudgetSearch(make_inner(kind, History()), Account(Budget(epochs=budget)), reserve), events, killed_after)
    past, taken = {}, {}
    for trial_id, until in events:
        config = CONFIGS[trial_id]
        status = TrialStatus.COMPLETED if until == EPOCHS else TrialStatus.PAUSED
        reached = dict.fromkeys(range(1, until + 1), score[trial_id])
        past[trial_id] = PastTrial(
            *(trial_id, config.config_id, 0, "screen", status, 1, score[trial_id], score[trial_id], status.is_final),
            scores=reached,
        )
        taken[trial_id] = Spent(until, float(until))
    account = Account(Budget(epochs=budget), taken, TRIALS)
    resumed = replace(History(), trials=past)
    play(BudgetSearch(make_inner(kind, resumed), account, reserve), events)
    assert events == whole
