"""Method tpe with `compare`: every level gets as many draws, and reaches the end."""

import math
from collections import Counter

import pytest
from helpers.factories import make_sweep
from helpers.search_driver import drive

from flexres_tune.records import TrialStatus
from flexres_tune.search.base import History, Outcome, PastTrial
from flexres_tune.search.budget import make_budgeted_searches
from flexres_tune.search.confirmation import make_confirmation
from flexres_tune.search.methods import make_search
from flexres_tune.search.tpe_draws import MIN_OWN_DRAWS
from flexres_tune.spec.levels import level_of

EPOCHS = 9
HALVING = {"type": "halving", "rungs": [{"epochs": 3, "keep": 1}]}
PROMOTION = {"type": "asha", "variant": "promotion", "grace_period": 1}
SGD, ADAM = "optimizer=sgd", "optimizer=adam"
LR = {"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"}
PARTS = [
    {"optimizer": {"value": "sgd"}, "lr": {"min": 0.01, "max": 1.0, "distribution": "log_uniform_values"}},
    {"optimizer": {"value": "adam"}, "lr": {"min": 1e-4, "max": 0.01, "distribution": "log_uniform_values"}},
]


def make_spec(**changes):
    values = {
        "method": "tpe",
        "num_trials": 12,
        "base": {"model": "tiny", "dataset": "digits", "epochs": EPOCHS},
        "parameters": {"optimizer": {"values": ["sgd", "adam"]}, "lr": LR},
        "compare": "optimizer",
    }
    return make_sweep(**values | changes)


def sgd_is_better(config):
    return (0.9 if config.optimizer == "sgd" else 0.5) - 0.1 * config.lr


def drain(search, score=sgd_is_better, slots=2):
    """Run a search to its end: the assignments, in order."""

    def end(done):
        value = score(done.trial.config)
        status = TrialStatus.COMPLETED if done.until_epoch == EPOCHS else TrialStatus.PAUSED
        return Outcome(done, status, value, value, done.until_epoch)

    return drive(search, end, slots)


def draws(given):
    """The configurations in the order in which they began."""
    return list({step.trial.config.config_id: step.trial for step in given}.values())


def past_of(trial, score, status=TrialStatus.COMPLETED):
    config = trial.config
    return PastTrial(
        *(config.trial_id, config.config_id, config.seed, "screen", status, 1, score, score),
        is_done=status.is_final,
        values={key: getattr(config, key) for key in ("optimizer", "lr", "batch_size")},
        scores={EPOCHS: score},
    )


@pytest.mark.parametrize("early", ["none", PROMOTION, HALVING], ids=["whole", "promotion", "halving"])
@pytest.mark.parametrize("num_trials", [12, 13])
def test_levels_draw_in_turn_and_equally_often(early, num_trials):
    spec = make_spec(num_trials=num_trials, early_terminate=early)
    levels = [level_of(spec, trial.varied) for trial in draws(drain(make_search(spec, (), History())))]
    assert levels == ([SGD, ADAM] * 7)[:num_trials]


def test_levels_of_several_parameters_are_their_combinations():
    parameters = {"optimizer": {"values": ["sgd", "adam"]}, "batch_size": {"values": [32, 64, 128]}, "lr": LR}
    spec = make_spec(parameters=parameters, compare=["optimizer", "batch_size"])
    drawn = draws(drain(make_search(spec, (), History())))
    assert set(Counter(level_of(spec, trial.varied) for trial in drawn).values()) == {2}
    assert len({(trial.config.optimizer, trial.config.batch_size) for trial in drawn}) == 6


@pytest.mark.parametrize("early", [HALVING, PROMOTION], ids=["halving", "promotion"])
def test_every_level_reaches_the_end_however_bad_it_is(early):
    spec = make_spec(early_terminate=early)
    given = drain(make_search(spec, (), History()))
    whole = {level_of(spec, step.trial.varied) for step in given if step.until_epoch == EPOCHS}
    assert whole == {SGD, ADAM}


def lrs_of_sgd(score_of_adam, early="none", num_trials=24):
    """The learning rates that level sgd draws, with the best one at 0.03, if level adam scores so."""
    spec = make_spec(num_trials=num_trials, early_terminate=early)

    def score(config):
        return score_of_adam(config) if config.optimizer == "adam" else quality(config)

    given = drain(make_search(spec, (), History()), score, slots=1)
    return [trial.config.lr for trial in draws(given) if trial.config.optimizer == "sgd"]


def quality(config, best_lr=0.03):
    return -abs(math.log10(config.lr / best_lr))


@pytest.mark.parametrize("early", ["none", {"type": "halving", "rungs": [{"epochs": 3, "keep": 2}]}])
def test_draws_do_not_depend_on_how_good_other_levels_are(early):
    assert lrs_of_sgd(quality, early) == lrs_of_sgd(lambda config: quality(config) + 4, early)


def test_level_with_few_draws_learns_from_the_others():
    assert lrs_of_sgd(quality) != lrs_of_sgd(lambda config: quality(config, best_lr=1e-4))


def test_level_with_enough_draws_learns_from_itself():
    spec = make_spec(num_trials=2 * MIN_OWN_DRAWS + 2)
    drawn = draws(drain(make_search(spec, (), History()), quality))

    def next_draw(score_of_adam):
        rows = {}
        for trial in drawn[: 2 * MIN_OWN_DRAWS]:
            score = quality(trial.config) if trial.config.optimizer == "sgd" else score_of_adam(trial.config)
            rows[trial.config.trial_id] = past_of(trial, score)
        return make_search(spec, (), History(rows)).ask().trial

    assert next_draw(quality) == next_draw(lambda config: quality(config, best_lr=1e-4))


def test_every_mapping_of_parameters_draws_from_its_own_ranges():
    spec = make_spec(parameters=PARTS)
    drawn = draws(drain(make_search(spec, (), History())))
    assert Counter(trial.config.optimizer for trial in drawn) == {"sgd": 6, "adam": 6}
    assert all((trial.config.lr >= 0.01) == (trial.config.optimizer == "sgd") for trial in drawn)


def test_mappings_of_one_level_draw_in_turn():
    small = {"min": 0.01, "max": 0.02}
    parts = [
        {"optimizer": {"value": "sgd"}, "lr": small},
        {"optimizer": {"value": "sgd"}, "lr": {"min": 0.5, "max": 0.9}, "label_smoothing": {"values": [0.1, 0.2]}},
        {"optimizer": {"value": "adam"}, "lr": small},
    ]
    drawn = draws(drain(make_search(make_spec(parameters=parts), (), History())))
    assert Counter((t.config.optimizer, t.config.lr > 0.1) for t in drawn) == {
        ("sgd", False): 3,
        ("sgd", True): 3,
        ("adam", False): 6,
    }


def test_list_of_mappings_needs_no_compare():
    drawn = draws(drain(make_search(make_spec(parameters=PARTS, compare=[]), (), History())))
    assert Counter(trial.config.optimizer for trial in drawn) == {"sgd": 6, "adam": 6}


@pytest.mark.parametrize("early", ["none", HALVING], ids=["whole", "halving"])
def test_level_with_few_listed_values_leaves_its_draws_to_the_others(early):
    parts = [{"optimizer": {"value": "sgd"}, "lr": {"values": [0.1, 0.2, 0.3]}}, PARTS[1]]
    spec = make_spec(parameters=parts, early_terminate=early)
    given = drain(make_search(spec, (), History()))
    assert Counter(trial.config.optimizer for trial in draws(given)) == {"sgd": 3, "adam": 9}
    whole = {step.trial.config.optimizer for step in given if step.until_epoch == EPOCHS}
    assert whole == {"sgd", "adam"}


def test_level_that_is_excluded_has_no_share_of_the_draws():
    parameters = {"optimizer": {"values": ["sgd", "adam", "adagrad"]}, "lr": LR}
    drawn = draws(drain(make_search(make_spec(parameters=parameters, exclude=[{"optimizer": "adam"}]), (), History())))
    assert Counter(trial.config.optimizer for trial in drawn) == {"sgd": 6, "adagrad": 6}


def test_work_counts_the_draws_of_all_levels():
    assert make_search(make_spec(seeds=[0, 1]), (), History()).work.num_todo == 24
    search = make_search(make_spec(early_terminate=HALVING), (), History())
    assert (search.work.num_todo, search.work.num_epochs) == (12, 2 * (6 * 3 + 6))


def test_lengths_of_compared_epochs_count_by_level():
    spec = make_spec(parameters={"epochs": {"values": [3, EPOCHS]}, "lr": LR}, compare="epochs")
    assert make_search(spec, (), History()).work.num_epochs == 6 * 3 + 6 * EPOCHS


def test_confirmation_has_the_best_of_each_level():
    spec = make_spec(confirm={"top": 1, "seeds": [10]})
    drawn = draws(drain(make_search(spec, (), History())))
    history = History({trial.config.trial_id: past_of(trial, sgd_is_better(trial.config)) for trial in drawn})
    confirmed = [step.trial for step in drain(make_confirmation(spec, drawn, history))]
    assert sorted(trial.config.optimizer for trial in confirmed) == ["adam", "sgd"]
    for trial in confirmed:
        assert trial.config.lr == min(t.config.lr for t in drawn if t.config.optimizer == trial.config.optimizer)


def test_budget_draws_as_many_of_each_level_and_at_least_one():
    spec = make_spec(num_trials=40, early_terminate=HALVING, budget={"epochs": 60})
    searches = make_budgeted_searches(spec, (), History(), {})
    assert searches.num_reduced == 40 - 16, "of each level 8 x 3 epochs to the rung and 6 from there"
    drawn = draws(drain(searches.screen))
    assert Counter(trial.config.optimizer for trial in drawn) == {"sgd": 8, "adam": 8}
    least = make_budgeted_searches(make_spec(early_terminate=HALVING, budget={"epochs": 1}), (), History(), {})
    assert least.num_reduced == 12 - 2


def test_rows_of_values_in_another_form_than_written_are_recalled():
    models = [{"blocks": [1, 1], "channels": [4, 4]}, {"blocks": [1, 1], "channels": [8, 8]}]
    spec = make_spec(
        base={"dataset": "digits", "epochs": EPOCHS},
        parameters={"model": {"values": models}, "lr": LR},
        compare="model",
    )
    drawn = draws(drain(make_search(spec, (), History())))[:4]
    rows = {
        trial.config.trial_id: PastTrial(
            *(trial.config.trial_id, trial.config.config_id, 0, "screen", TrialStatus.COMPLETED, 1, 0.5, 0.5),
            is_done=True,
            values={"model": trial.config.model.name, "lr": trial.config.lr},
        )
        for trial in drawn
    }
    again = make_search(spec, (), History(rows))
    assert (again.work.num_done, again.work.num_todo) == (4, 8)


def test_configuration_of_two_mappings_counts_for_the_first():
    both = {"label_smoothing": {"values": [0.0, 0.1, 0.2]}, "lr": {"values": [0.1, 0.2]}}
    spec = make_spec(parameters=[{"lr": {"values": [0.1, 0.2]}}, both], compare=[], num_trials=8)
    drawn = draws(drain(make_search(spec, (), History())))
    assert Counter("label_smoothing" in trial.varied for trial in drawn) == {False: 2, True: 4}
