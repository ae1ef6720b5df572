from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.records import TrialStatus
from flexres_tune.search.base import DONE, History, PastTrial
from flexres_tune.search.confirmation import best_configs, make_confirmation
from flexres_tune.search.methods import make_search
from flexres_tune.spec import SweepSpec, expand_trials

SPEC = SweepSpec.model_validate(
    {
        "name": "test",
        "seeds": [0, 1],
        "base": {"model": "tiny", "dataset": "digits", "epochs": 2},
        "parameters": [{"lr": {"values": [0.01, 0.02, 0.05, 0.1]}}],
        "confirm": {"top": 2, "seeds": [10, 11, 12]},
    }
)


def make_past(trial, score=0.5, status="completed", stage="screen"):
    config = trial.config
    return PastTrial(
        config.trial_id, config.config_id, config.seed, stage, TrialStatus(status), 1, score, score, is_done=True
    )


def history_of(trials, score, status=lambda trial: "completed"):
    return History({t.config.trial_id: make_past(t, score(t), status(t)) for t in trials})


def screen(spec=SPEC):
    return make_search(spec, expand_trials(spec, describe_dataset), History()).work.trials


def drain(search):
    trials = []
    while (step := search.ask()) is not DONE:
        trials.append(step.trial)
    return trials


def test_everything_is_missing_at_first():
    work = make_search(SPEC, expand_trials(SPEC, describe_dataset), History()).work
    assert (work.num_todo, work.num_done, work.num_epochs) == (8, 0, 16)


def test_the_best_configurations_are_confirmed_on_fresh_seeds():
    screened = screen()
    trials = drain(make_confirmation(SPEC, screened, history_of(screened, lambda t: t.config.lr)))
    assert {(t.config.lr, t.config.seed) for t in trials} == {(lr, s) for lr in (0.05, 0.1) for s in (10, 11, 12)}
    assert {t.stage for t in trials} == {"confirm"}
    assert all(t.config.trial_id.endswith(f"-{t.config.seed}") for t in trials)


def test_confirmed_trials_are_not_run_again():
    screened = screen()
    history = history_of(screened, lambda t: t.config.lr)
    confirmed = drain(make_confirmation(SPEC, screened, history))
    rows = dict(history.trials) | {t.config.trial_id: make_past(t, stage="confirm") for t in confirmed[:4]}
    assert make_confirmation(SPEC, screened, History(rows)).work.num_todo == 2


def test_configuration_of_stopped_trials_only_is_not_confirmed():
    screened = screen()
    history = history_of(screened, lambda t: t.config.lr, lambda t: "stopped" if t.config.lr > 0.05 else "completed")
    ids = {t.config.config_id: t.config.lr for t in screened}
    assert [ids[i] for i in best_configs(screened, history)] == [0.05, 0.02, 0.01]


def test_stopped_seed_counts_with_what_it_reached():
    screened = screen()

    def score(t):
        return 0.9 if (t.config.lr, t.config.seed) == (0.1, 0) else 0.2 if t.config.lr == 0.1 else 0.6

    history = history_of(screened, score, lambda t: "stopped" if score(t) == 0.2 else "completed")
    ids = {t.config.config_id: t.config.lr for t in screened}
    assert ids[best_configs(screened, history)[-1]] == 0.1


def test_sweep_without_confirm_has_nothing_to_confirm():
    spec = SPEC.model_copy(update={"confirm": None})
    screened = screen(spec)
    assert make_confirmation(spec, screened, history_of(screened, lambda t: 0.5)).work.num_todo == 0
