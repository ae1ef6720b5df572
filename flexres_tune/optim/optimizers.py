"""Optimizers by name: torch's own, each in its fastest form.

`fused` updates all of a network's parameters in one kernel, on CUDA and on CPU. On a CPU a step took 2.0 ms instead of
4.7 with torch's default for sgd on resnet22_2, and 3.2 ms instead of 12.1 for adamw (AMD EPYC, 2 cores, torch 2.15.0,
best of 10 steps). adadelta has no fused kernel, and adagrad none on CUDA in older versions of torch; torch then groups
tensors itself on CUDA and loops over them on a CPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from flexres_tune.spec.own_code.source import CodeError, CodeName, describe_error, signature_problem
from flexres_tune.spec.trial import TrialConfig

OF_THE_DEVICE = {"fused", "foreach", "capturable", "differentiable", "lr"}  # lr is set before each step
# name: (class, fixed arguments). To add one: its row here, and its row in spec/trial.py's OPTIMIZER_TRAITS.
OPTIMIZERS: Mapping[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"fused": True}),
    "nesterov": (torch.optim.SGD, {"fused": True, "nesterov": True}),
    "adam": (torch.optim.Adam, {"fused": True}),
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "adadelta": (torch.optim.Adadelta, {}),
    "adagrad": (torch.optim.Adagrad, {"fused": True}),
}


def build_optimizer(parameters: Iterable[nn.Parameter], config: TrialConfig) -> torch.optim.Optimizer:
    """The trial's optimizer over float32 parameters on one device, at its peak learning rate.

    Set each step's rate with `set_learning_rate`. Weight decay applies to all parameters, batch norm's included, as is
    usual on CIFAR-10 (He et al. 2016).
    """
    if isinstance(config.optimizer, CodeName):
        return _build_own(config.optimizer, parameters, config)
    cls, kwargs = OPTIMIZERS[config.optimizer]
    parameters = list(parameters)
    if kwargs.get("fused") and not has_fused_kernel(cls, parameters[0].device):
        kwargs = {key: value for key, value in kwargs.items() if key != "fused"}
    momentum = {} if config.momentum is None else {"momentum": config.momentum}
    return cls(parameters, lr=config.lr, weight_decay=config.weight_decay, **momentum, **kwargs)


def has_fused_kernel(cls: type[torch.optim.Optimizer], device: torch.device) -> bool:
    """Whether `fused=True` of a class that knows it may be used on this kind of device."""
    return not (cls is torch.optim.Adagrad and device.type == "cuda")  # torch 2.11 raises an error at the first step


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its state_dict, with the learning rate as a number."""
    state = optimizer.state_dict()
    return {**state, "param_groups": [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]}


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Continue from a state_dict that may have been saved on another kind of device.

    How an optimizer runs (fused, on tensors, in a graph) is a matter of the device, so this one's own way is kept.

    Raises:
        ValueError, KeyError: the state does not fit the parameters.
    """
    own = [{key: group[key] for key in group.keys() & OF_THE_DEVICE} for group in optimizer.param_groups]
    groups = [{**group, **mine} for group, mine in zip(saved["param_groups"], own, strict=True)]
    optimizer.load_state_dict({**saved, "param_groups": groups})


class OptimizerBuilder(Protocol):
    """What `optimizer: my_optim.py:Lion` must name: a function, or the class of an optimizer.

    Its optimizer must read `lr` from its param_groups at every step, because the schedule writes it there. step() must
    not wait for the device. Its state must be tensors and numbers in `state`, as checkpoints save state_dict().
    """

    def __call__(
        self, parameters: list[nn.Parameter], *, lr: float, weight_decay: float, **values: Any
    ) -> torch.optim.Optimizer:
        """The optimizer of float32 parameters on one device; `values` are the sweep's `optimizer.` values."""


def _build_own(code: CodeName, parameters: Iterable[nn.Parameter], config: TrialConfig) -> torch.optim.Optimizer:
    arguments = {"lr": config.lr, "weight_decay": config.weight_decay} | config.optimizer_values
    parameters = list(parameters)
    if problem := signature_problem(code, parameters, **arguments):
        raise CodeError(problem)
    try:
        optimizer = code.load()(parameters, **arguments)
    except Exception as error:
        raise CodeError(f"{code} must build an optimizer, but raised {describe_error(error)}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise CodeError(f"{code} must return a torch.optim.Optimizer, but returned a {type(optimizer).__name__}")
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use this learning rate from the next step on."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):  # of `learning_rate_on_device`
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def can_capture(name: str) -> bool:
    """Whether the device computes the whole step of this optimizer, the use of its learning rate included.

    Then a CUDA graph can hold it. adagrad's update needs the learning rate on the host.
    """
    cls, kwargs = OPTIMIZERS[name]
    return (cls is torch.optim.SGD and bool(kwargs.get("fused"))) or "capturable" in inspect.signature(cls).parameters


def learning_rate_on_device(optimizer: torch.optim.Optimizer) -> Tensor:
    """Let an optimizer that `can_capture` read its learning rate from a tensor on its device: shape (), float32.

    Its counters of steps move to the device, too.
    """
    parameter = optimizer.param_groups[0]["params"][0]
    lr = torch.zeros((), dtype=torch.float32, device=parameter.device)
    for group in optimizer.param_groups:
        group["lr"] = lr
        if "capturable" in group and lr.device.type == "cuda":
            group["capturable"] = True
    for values in optimizer.state.values():
        if isinstance(values.get("step"), Tensor):
            values["step"] = values["step"].to(lr.device)
    return lr
