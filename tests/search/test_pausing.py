"""The rungs that a sweep file asks for, and the searches that `make_search` builds from it."""

from helpers.factories import make_sweep

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.records import TrialStatus
from flexres_tune.search.base import DONE, WAIT, Assignment, History, Outcome, PastTrial
from flexres_tune.search.confirmation import FIRST_FRESH_SEED, make_confirmation
from flexres_tune.search.ladders import Rung
from flexres_tune.search.methods import make_search
from flexres_tune.search.pausing import Group, plan_rungs
from flexres_tune.spec import expand_trials

TWO_OPTIMIZERS = [
    {"optimizer": {"value": name}, "lr": {"values": [0.01, 0.02, 0.03, 0.04, 0.05]}} for name in ("sgd", "adam")
]


def make_spec(**changes):
    base = {"model": "tiny", "dataset": "digits", "epochs": 20} | changes.pop("base", {})
    return make_sweep(**({"base": base, "parameters": TWO_OPTIMIZERS, "early_terminate": "halving"} | changes))


def plan(spec):
    return plan_rungs(spec, expand_trials(spec, describe_dataset))


def test_every_level_has_its_own_rungs_down_to_what_is_confirmed():
    found = plan(make_spec(compare="optimizer", confirm={"top": 2, "num_runs": 8}))
    assert found.rungs == {Group(f"optimizer={name}", 20): (Rung(4, 4), Rung(8, 2)) for name in ("sgd", "adam")}
    assert not found.eager


def test_without_confirm_the_survivors_run_to_the_end():
    found = plan(make_spec(early_terminate={"type": "asha", "variant": "promotion", "grace_period": 2}))
    assert found.rungs == {Group("", 20): (Rung(2, 3), Rung(6, 1), Rung(18, 1))}
    assert found.eager


def test_configurations_of_several_lengths_never_meet_at_a_rung():
    spec = make_spec(parameters={"epochs": {"values": [10, 20]}, "lr": {"values": [0.1, 0.2, 0.3]}})
    assert plan(spec).rungs == {Group("", 10): (Rung(3, 2), Rung(4, 1)), Group("", 20): (Rung(4, 2), Rung(8, 1))}


def test_hyperband_with_promotion_draws_a_bracket_for_each_configuration():
    found = plan(make_spec(early_terminate={"type": "hyperband", "variant": "promotion", "grace_period": 2}))
    assert {group.bracket for group in found.rungs} <= {0, 1, 2} and len(found.rungs) > 1
    assert sum(found.sizes.values()) == 10


def finish(search, score, until_done=True):
    """Run a search to its end, one trial at a time; rows of the tables by trial_id."""
    rows = {}
    while isinstance(step := search.ask(), Assignment):
        config, value = step.trial.config, score(step.trial.config)
        status = TrialStatus.COMPLETED if step.until_epoch == config.epochs else TrialStatus.PAUSED
        rows[config.trial_id] = PastTrial(
            *(config.trial_id, config.config_id, config.seed, step.trial.stage, status, 1, value, value),
            is_done=status.is_final,
            scores={**(rows[config.trial_id].scores if config.trial_id in rows else {}), step.until_epoch: value},
        )
        search.tell(Outcome(step, status, value, value))
    assert step is DONE
    return History(rows)


def test_the_best_of_each_level_are_confirmed_on_the_same_fresh_seeds():
    spec = make_spec(compare="optimizer", confirm={"top": 1, "num_runs": 6}, seeds=[0, FIRST_FRESH_SEED])
    trials = expand_trials(spec, describe_dataset)
    screen = make_search(spec, trials, History())
    history = finish(screen, lambda config: config.lr)
    assert sum(trial.status == TrialStatus.COMPLETED for trial in history.trials.values()) == 4, "2 levels x 2 seeds"
    confirmed = finish(make_confirmation(spec, screen.work.trials, history), lambda config: config.lr)
    by_seed = {}
    for trial in confirmed.trials.values():
        by_seed.setdefault(trial.seed, set()).add(trial.config_id)
    assert sorted(by_seed) == [FIRST_FRESH_SEED + k for k in (1, 2, 3)]
    assert all(len(configs) == 2 for configs in by_seed.values()), "both levels on each fresh seed"


def test_decisions_give_the_numbers_for_every_promotion_and_pause():
    spec = make_spec(
        parameters={"lr": {"values": [0.1, 0.2, 0.3, 0.4]}},
        early_terminate={"type": "halving", "rungs": [{"epochs": 5, "keep": 2}]},
    )
    search = make_search(spec, expand_trials(spec, describe_dataset), History())
    finish(search, lambda config: config.lr)
    rows = {(row.action, row.value): row for row in search.take_decisions()}
    assert set(rows) == {("pause", 0.1), ("pause", 0.2), ("promote", 0.3), ("promote", 0.4)}
    row = rows["promote", 0.3]
    assert (row.rank, row.num_compared, row.cutoff, row.epoch, row.until_epoch) == (2, 4, 0.3, 5, 20)
    assert rows["pause", 0.2].rank == 3 and row.ladder == "halving, 20 epochs"


def test_other_seeds_run_only_if_the_first_one_was_not_stopped():
    spec = make_spec(
        parameters={"lr": {"values": [0.1, 0.2]}},
        seeds=[3, 0, 1],
        early_terminate={"type": "asha", "variant": "stopping", "grace_period": 2},
    )
    search = make_search(spec, expand_trials(spec, describe_dataset), History())
    assert (search.work.num_todo, len(search.work.missing)) == (6, 2)
    first, second = search.ask(), search.ask()
    assert {first.trial.config.seed, second.trial.config.seed} == {3} and search.ask() is WAIT
    search.tell(Outcome(first, TrialStatus.STOPPED, 0.1))
    search.tell(Outcome(second, TrialStatus.COMPLETED, 0.9))
    others = [search.ask() for _ in range(2)]
    assert {(each.trial.config.config_id, each.trial.config.seed) for each in others} == {
        (second.trial.config.config_id, seed) for seed in (0, 1)
    }
    assert search.ask() is WAIT


def test_a_larger_keep_continues_paused_trials_and_runs_nothing_again():
    def search(keep, history=None):
        early = {"type": "halving", "rungs": [{"epochs": 5, "keep": keep}]}
        spec = make_spec(parameters={"lr": {"values": [0.1, 0.2, 0.3]}}, early_terminate=early)
        return make_search(spec, expand_trials(spec, describe_dataset), history or History())

    history = finish(search(1), lambda config: config.lr)
    assert search(1, history).work.num_todo == 0 and search(1, history).ask() is DONE
    grown = search(2, history)
    assert grown.work.num_todo
    step = grown.ask()
    assert (step.trial.config.lr, step.until_epoch) == (0.2, 20) and grown.ask() is WAIT
