from flexres_tune.spec import PlannedTrial, TrialConfig
from flexres_tune.spec.trial import OPTIMIZER_NAMES
from flexres_tune.sweep.checkpoints import checkpoint_bytes, checkpoint_period_s, describe_disk


def trial(optimizer="sgd", seed=0, **values):
    config = TrialConfig(model="tiny", dataset="digits", optimizer=optimizer, epochs=10, seed=seed, **values)
    return PlannedTrial(config, {}, 24_794)


def test_checkpoint_is_as_big_as_the_real_one(tmp_path):
    import torch

    from flexres_tune.training import choose_execution
    from flexres_tune.training.checkpoint import save_checkpoint
    from flexres_tune.training.state import TrainState

    for optimizer in OPTIMIZER_NAMES:
        planned = trial(optimizer)
        state = TrainState(planned.config, 10, 8, choose_execution(planned.config, torch.device("cpu")))
        state.model(torch.zeros(2, 3, 8, 8)).sum().backward()
        state.optimizer.step()
        num_parameters = sum(parameter.numel() for parameter in state.model.parameters())
        planned = PlannedTrial(planned.config, {}, num_parameters)
        save_checkpoint(tmp_path / "one.pt", state.to_payload())
        real = (tmp_path / "one.pt").stat().st_size
        assert 0.75 * checkpoint_bytes(planned) < real < 1.15 * checkpoint_bytes(planned), optimizer


def test_momentum_of_zero_keeps_nothing():
    assert checkpoint_bytes(trial(momentum=0.0)) < checkpoint_bytes(trial())


def test_line_counts_what_runs_at_once():
    trials = [trial(seed=seed) for seed in range(100)]
    assert describe_disk(trials, 2).startswith("disk: at most ")
    assert "(2 trials at once)" in describe_disk(trials, 2)


def test_nothing_to_run_takes_no_checkpoint():
    assert "0 B of checkpoints and 0 B of tables stay" in describe_disk([], 2)


def test_many_trials_at_once_write_ten_checkpoints_a_second_and_few_one_each_ten_seconds():
    assert [checkpoint_period_s(number) for number in (1, 100, 2560)] == [10, 10, 256]
