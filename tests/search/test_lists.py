from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.records import TrialStatus
from flexres_tune.search.base import DONE, History, PastTrial
from flexres_tune.search.lists import ListSearch
from flexres_tune.search.methods import METHODS, make_search
from flexres_tune.search.tpe import TpeSearch
from flexres_tune.spec import SweepSpec, expand_trials

SPEC = SweepSpec.model_validate(
    {
        "name": "test",
        "base": {"model": "tiny", "dataset": "digits", "epochs": 2},
        "parameters": [{"lr": {"values": [0.1, 0.2, 0.3]}}],
    }
)


def drain(search):
    trials = []
    while (step := search.ask()) is not DONE:
        trials.append(step.trial)
    return trials


def test_order_is_kept_and_every_trial_is_trained_to_its_last_epoch():
    trials = expand_trials(SPEC, describe_dataset)
    search = ListSearch(trials)
    assert search.ask().until_epoch == 2
    assert drain(search) == list(trials[1:])


def test_trials_that_are_done_are_skipped():
    trials = expand_trials(SPEC, describe_dataset)
    config = trials[1].config
    past = PastTrial(config.trial_id, config.config_id, 0, "screen", TrialStatus.COMPLETED, 1, 0.5, 0.5, is_done=True)
    search = ListSearch(trials, History({past.trial_id: past}))
    assert (search.work.num_todo, search.work.num_done, search.work.num_epochs) == (2, 1, 4)
    assert search.work.trials == trials
    assert drain(search) == list(search.work.missing) == [trials[0], trials[2]]


def test_every_method_of_the_sweep_file_has_a_search():
    from typing import get_args

    from flexres_tune.spec.sweep import Method

    assert set(METHODS) == set(get_args(Method))
    assert isinstance(make_search(SPEC, expand_trials(SPEC, describe_dataset), History()), ListSearch)
    tpe = SPEC.model_copy(update={"method": "tpe", "num_trials": 2})
    assert isinstance(make_search(tpe, (), History()), TpeSearch)
