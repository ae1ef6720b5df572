import pytest
import torch
from torch import nn

from flexres_tune.optim import (
    OPTIMIZERS,
    build_optimizer,
    learning_rate_on_device,
    load_optimizer_state,
    optimizer_state,
    set_learning_rate,
)
from flexres_tune.optim.optimizers import has_fused_kernel
from flexres_tune.spec.trial import OPTIMIZER_NAMES, TrialConfig

LEARNING_RATES = {"sgd": 0.05, "nesterov": 0.05, "adam": 0.05, "adamw": 0.05, "adadelta": 1.0, "adagrad": 0.1}


def config(**fields) -> TrialConfig:
    return TrialConfig(model="tiny", **fields)


def test_every_name_of_the_spec_has_its_row():
    assert tuple(OPTIMIZERS) == OPTIMIZER_NAMES


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_loss(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))
    x = torch.randn(64, 5)
    y = x.sum(1, keepdim=True)
    optimizer = build_optimizer(model.parameters(), config(optimizer=name, lr=LEARNING_RATES[name]))
    losses = []
    for _ in range(40):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_the_trials_values(name):
    with_momentum = {"momentum": 0.7} if name in ("sgd", "nesterov") else {}
    trial = config(optimizer=name, lr=0.03, weight_decay=0.02, **with_momentum)
    (group,) = build_optimizer([nn.Parameter(torch.ones(3))], trial).param_groups
    assert group["lr"] == 0.03
    assert group["weight_decay"] == 0.02
    assert group.get("momentum") == with_momentum.get("momentum")
    assert bool(group.get("nesterov")) == (name == "nesterov")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_set_later_is_the_one_used(name):
    parameter = nn.Parameter(torch.ones(3))
    optimizer = build_optimizer([parameter], config(optimizer=name, lr=0.5))
    set_learning_rate(optimizer, 0.0)
    parameter.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(parameter.detach(), torch.ones(3))


def test_weight_decay_is_decoupled_in_adamw_only():
    def after_one_step(name):
        parameter = nn.Parameter(torch.full((2,), 10.0))
        optimizer = build_optimizer([parameter], config(optimizer=name, lr=0.1, weight_decay=0.5))
        parameter.grad = torch.full((2,), 1e-3)
        optimizer.step()
        return parameter[0].item()

    assert after_one_step("adam") == pytest.approx(10 - 0.1, abs=1e-3)  # the penalty is normalised away
    assert after_one_step("adamw") == pytest.approx(10 * (1 - 0.1 * 0.5) - 0.1, abs=1e-3)


def test_nesterov_without_momentum_is_refused_before_torch_sees_it():
    with pytest.raises(
        ValueError, match="momentum must be above 0 with optimizer nesterov, but got 0; use optimizer: sgd"
    ):
        config(optimizer="nesterov", momentum=0)


def test_adagrad_has_no_fused_kernel_on_cuda_in_every_version_of_torch():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert not has_fused_kernel(torch.optim.Adagrad, cuda)
    assert has_fused_kernel(torch.optim.Adagrad, cpu) and has_fused_kernel(torch.optim.SGD, cuda)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_another_device_keeps_this_ones_way_of_running(name):
    def make():
        return build_optimizer([nn.Parameter(torch.ones(3))], config(optimizer=name, lr=0.5))

    saved = optimizer_state(make())
    for group in saved["param_groups"]:
        group |= {key: True for key in ("fused", "capturable") if key in group}
    optimizer = make()
    before = {**optimizer.param_groups[0]}
    before["fused"] = optimizer.param_groups[0]["fused"] = None
    load_optimizer_state(optimizer, saved)
    after = optimizer.param_groups[0]
    assert {key: after[key] for key in after if key != "params"} == {k: v for k, v in before.items() if k != "params"}


def test_learning_rate_on_the_device_is_a_number_in_a_checkpoint():
    optimizer = build_optimizer([nn.Parameter(torch.ones(3))], config(optimizer="sgd", lr=0.5))
    lr = learning_rate_on_device(optimizer)
    set_learning_rate(optimizer, 0.25)
    assert lr.item() == 0.25 and optimizer.param_groups[0]["lr"] is lr
    assert optimizer_state(optimizer)["param_groups"][0]["lr"] == 0.25
