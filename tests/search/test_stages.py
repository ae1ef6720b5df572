from flexres_tune.search.stages import best_configs, confirm_work, screen_work
from flexres_tune.spec import SweepSpec
from flexres_tune.sweep.history import History

SPEC = SweepSpec.model_validate(
    {
        "name": "test",
        "seeds": [0, 1],
        "base": {"model": "tiny", "dataset": "digits", "epochs": 2},
        "parameters": [{"lr": {"values": [0.01, 0.02, 0.05, 0.1]}}],
        "confirm": {"top": 2, "seeds": [10, 11, 12]},
    }
)


def memory_of(trials, score, status=lambda trial: "completed"):
    rows = {t.config.trial_id: {"status": status(t), "epochs": 2} for t in trials}
    return History(rows=rows, scores={t.config.trial_id: score(t) for t in trials})


def drain(work):
    trials = []
    while (trial := work.source.next()) is not None:
        trials.append(trial)
    return trials


def test_everything_is_missing_at_first():
    work = screen_work(SPEC, History())
    assert (work.num_todo, work.num_done, work.num_epochs) == (8, 0, 16)


def test_the_best_configurations_are_confirmed_on_fresh_seeds():
    screened = screen_work(SPEC, History()).planned()
    work = confirm_work(SPEC, screened, memory_of(screened, lambda t: t.config.lr))
    trials = drain(work)
    assert {(t.config.lr, t.config.seed) for t in trials} == {(lr, s) for lr in (0.05, 0.1) for s in (10, 11, 12)}
    assert {t.stage for t in trials} == {"confirm"}
    assert all(t.config.trial_id.endswith(f"-{t.config.seed}") for t in trials)


def test_confirmed_trials_are_not_run_again():
    screened = screen_work(SPEC, History()).planned()
    memory = memory_of(screened, lambda t: t.config.lr)
    confirmed = drain(confirm_work(SPEC, screened, memory))
    rows = dict(memory.rows) | {t.config.trial_id: {"status": "completed"} for t in confirmed[:4]}
    assert confirm_work(SPEC, screened, History(rows=rows, scores=memory.scores)).num_todo == 2


def test_configuration_of_stopped_trials_only_is_not_confirmed():
    screened = screen_work(SPEC, History()).planned()
    memory = memory_of(screened, lambda t: t.config.lr, lambda t: "stopped" if t.config.lr > 0.05 else "completed")
    ids = {t.config.config_id: t.config.lr for t in screened}
    assert [ids[i] for i in best_configs(screened, memory)] == [0.05, 0.02, 0.01]


def test_stopped_seed_counts_with_what_it_reached():
    screened = screen_work(SPEC, History()).planned()

    def score(t):
        return 0.9 if (t.config.lr, t.config.seed) == (0.1, 0) else 0.2 if t.config.lr == 0.1 else 0.6

    memory = memory_of(screened, score, lambda t: "stopped" if score(t) == 0.2 else "completed")
    ids = {t.config.config_id: t.config.lr for t in screened}
    assert ids[best_configs(screened, memory)[-1]] == 0.1


def test_sweep_without_confirm_has_nothing_to_confirm():
    spec = SPEC.model_copy(update={"confirm": None})
    screened = screen_work(spec, History()).planned()
    assert confirm_work(spec, screened, memory_of(screened, lambda t: 0.5)).num_todo == 0
