"""The whole step as a graph, on the CPU: `Tape` stands for CUDA's graph, and repeats recorded kernels on their memory."""

import gc
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flexres_tune.optim import OPTIMIZERS, can_capture
from flexres_tune.training import Checkpointer, Execution, fit
from flexres_tune.training.epoch import train_epoch
from flexres_tune.training.graph import NUM_EAGER_STEPS, capturing
from flexres_tune.training.preprocessing import Preprocessing
from flexres_tune.training.state import TrainState
from flexres_tune.training.step import TrainingSteps

CPU = torch.device("cpu")


class Tape(TorchDispatchMode):
    """Records every kernel with its tensors, and replays them without Python: what is no tensor is frozen, as in CUDA.

    A replay writes into the tensors of the recording. The recording itself changes nothing, and the host must not read
    a tensor in it.
    """

    def __init__(self):
        super().__init__()
        self.kernels = []
        self.num_replays = 0
        self._before = {}  # by id: (tensor or generator, its value before the recording)
        self._made = set()

    def eager(self):
        return nullcontext()

    def record(self, function):
        random_state = torch.get_rng_state()
        with capturing(CPU), self:
            function()
        for kept, value in self._before.values():
            kept.copy_(value) if isinstance(kept, torch.Tensor) else kept.set_state(value)
        torch.set_rng_state(random_state)
        return self.replay

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing: the host reads a tensor")
        kwargs = kwargs or {}
        for value in tree_leaves((args, kwargs)):
            if id(value) in self._before or id(value) in self._made:
                continue
            if isinstance(value, torch.Tensor):
                self._before[id(value)] = value.detach(), value.detach().clone()
            elif isinstance(value, torch.Generator):
                self._before[id(value)] = value, value.get_state()
        out = function(*args, **kwargs)
        self._made.update(map(id, tree_leaves(out)))
        self.kernels.append((function, args, kwargs, out))
        return out

    @torch.no_grad()
    def replay(self):
        self.num_replays += 1
        for function, args, kwargs, out in self.kernels:
            given = {id(value) for value in tree_leaves((args, kwargs))}
            for old, new in zip(tree_leaves(out), tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and id(old) not in given and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Broken(Tape):
    def record(self, function):
        with capturing(CPU):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")


def train(config, data, num_epochs, recorder=None):
    """(state, result of each epoch, execution): eager steps, or the recorder's."""
    execution = Execution(CPU, "fp32", graph="none" if recorder is None else "step")
    state = TrainState(config, data.num_classes, data.image_size, execution)
    steps = TrainingSteps(state, data.train, Preprocessing(config, data, execution), execution, recorder)
    results = []
    for _ in range(num_epochs):
        with state.own_randomness():
            results.append(train_epoch(state, steps, len(data.train), execution, lambda: False))
        state.history.append(None)
    return state, results, execution


def check_replays(config, data):
    tape = Tape()
    eager, expected, _ = train(config, data, config.epochs)
    replayed, results, execution = train(config, data, config.epochs, tape)
    assert tape.num_replays == config.epochs * 4 - NUM_EAGER_STEPS, "4 full batches per epoch; the last one is eager"
    assert [result.loss for result in results] == pytest.approx([result.loss for result in expected], rel=1e-3)
    assert [result.accuracy for result in results] == [result.accuracy for result in expected]
    assert len({result.loss for result in results}) == config.epochs, "the replays train"
    for name, value in eager.model.state_dict().items():
        torch.testing.assert_close(replayed.model.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)
    assert torch.equal(eager.generator.get_state(), replayed.generator.get_state())
    assert execution.label == "fp32 channels-last step-graph"


@pytest.mark.parametrize(("optimizer", "lr"), [("nesterov", 0.05), ("adamw", 0.01)])
def test_replayed_steps_give_the_numbers_of_eager_ones(make_config, data, optimizer, lr):
    check_replays(make_config(optimizer=optimizer, lr=lr, epochs=4, weight_decay=1e-3), data)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.05), ("nesterov", 0.05), ("adam", 0.01), ("adamw", 0.01)])
def test_57_replayed_steps_give_the_numbers_of_eager_ones(make_config, data, optimizer, lr):
    check_replays(make_config(optimizer=optimizer, lr=lr, epochs=15, weight_decay=1e-3), data)


def test_tape_would_notice_a_step_that_depends_on_the_host(make_config, data, monkeypatch):
    config = make_config(epochs=3)
    expected = [result.loss for result in train(config, data, 3)[1]]
    monkeypatch.setattr("flexres_tune.training.graph.GraphedSteps._step", lambda self: self._train_on(self._order[:8]))
    assert [result.loss for result in train(config, data, 3, Tape())[1]] != pytest.approx(expected, rel=1e-3)


def test_optimizers_that_need_the_host_in_a_step_are_not_captured():
    assert [name for name in OPTIMIZERS if not can_capture(name)] == ["adagrad"]


def test_failed_capture_is_said_once_and_the_trial_runs_eagerly_with_the_same_numbers(make_config, data, caplog):
    expected = train(make_config(), data, 3)[1]
    _, results, execution = train(make_config(), data, 3, Broken())
    assert [result.loss for result in results] == pytest.approx([result.loss for result in expected], rel=1e-5)
    assert execution.failures == [
        "the step cannot be captured as a CUDA graph: operation not permitted when stream is capturing"
    ]
    assert execution.label == "fp32 channels-last"
    assert caplog.text.count("the trial runs eagerly") == 1


@pytest.mark.parametrize("replayed_first", [True, False])
def test_trial_continues_from_a_checkpoint_of_the_other_kind(make_config, data, tmp_path, replayed_first):
    """A graph has its learning rate in a tensor, which a checkpoint holds as a number."""
    config = make_config(optimizer="adamw", lr=0.01)
    recorders = [Tape(), None] if replayed_first else [None, Tape()]
    execution = Execution(CPU, "fp32")
    expected = [metrics.train_loss for metrics in fit(config, data, execution)]
    state, results, _ = train(config, data, 2, recorders[0])
    state.history.clear()
    payload = state.to_payload()
    assert isinstance(payload["optimizer"]["param_groups"][0]["lr"], float)
    torch.save(payload, tmp_path / "state.pt")

    other = TrainState(config, data.num_classes, data.image_size, execution)
    other.load_payload(torch.load(tmp_path / "state.pt"))
    other.history.extend([None, None])
    execution = Execution(CPU, "fp32", graph="none" if recorders[1] is None else "step")
    steps = TrainingSteps(other, data.train, Preprocessing(config, data, execution), execution, recorders[1])
    for _ in range(2):
        with other.own_randomness():
            results.append(train_epoch(other, steps, len(data.train), execution, lambda: False))
        other.history.append(None)
    assert [result.loss for result in results] == pytest.approx(expected, rel=1e-3)


def test_fit_runs_eagerly_if_the_device_has_no_graphs(make_config, data, monkeypatch):
    monkeypatch.setattr("flexres_tune.training.step.CudaRecorder", lambda device, generators: Broken())
    expected = [metrics.train_loss for metrics in fit(make_config(), data, Execution(CPU, "fp32"))]
    execution = Execution(CPU, "fp32", graph="step")
    trained = [metrics.train_loss for metrics in fit(make_config(), data, execution, Checkpointer(None))]
    assert trained == pytest.approx(expected, rel=1e-5)
    assert execution.failures and execution.label == "fp32 channels-last"


def test_no_garbage_is_collected_while_a_graph_is_captured_and_memory_is_released_before(monkeypatch):
    released = []
    monkeypatch.setattr("flexres_tune.training.graph.release_memory", released.append)
    with capturing(CPU):
        assert released == [CPU] and not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(torch.OutOfMemoryError), capturing(CPU):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert gc.isenabled()
