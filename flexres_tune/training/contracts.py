"""Checks that the user's own code keeps its contract, for `train --check`: one Check per rule, with what was found.

The contracts are the Protocols ModelBuilder, OptimizerBuilder, Schedule, Augmentation, DatasetLoader and ValidationMetric.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from flexres_tune.datasets import own
from flexres_tune.spec.images import ImageOptions
from flexres_tune.spec.own_code.model import OwnModel, measure_model
from flexres_tune.spec.own_code.source import CodeError, CodeName, describe_error
from flexres_tune.spec.trial import OWN_CODE_FIELDS
from flexres_tune.training.memory_format import channels_last_problem

FIELDS = (*OWN_CODE_FIELDS, "metrics")  # what code may be for
NUM_CLASSES, IMAGE_SIZE, BATCH = 10, 32, 4
NUM_STEPS = 100  # of a schedule
_WAITS = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique")  # operators whose result the host reads


@dataclass(frozen=True)
class Check:
    """One rule, and the reason why the code breaks it; None if it does not."""

    rule: str
    problem: str | None = None
    note: str = ""  # what was found in code that keeps the rule


def check_contract(field: str, code: CodeName, values: dict[str, Any]) -> list[Check]:
    """All rules for the code of a field, each checked on the CPU.

    Args:
        field: one of FIELDS; what the code is meant for.
        values: keyword arguments of a model or optimizer.

    Raises:
        CodeError: the code cannot be loaded.
    """
    code.load()
    rules = {
        "model": _model_rules,
        "optimizer": _optimizer_rules,
        "lr_schedule": _schedule_rules,
        "augmentation": _augmentation_rules,
        "dataset": _dataset_rules,
        "metrics": _metric_rules,
    }[field](code, values)
    return [_run(rule, check) for rule, check in rules]


def guess_field(code: CodeName) -> str:
    """What a callable is for, from its type and the names of its arguments.

    Raises:
        CodeError: they do not tell.
    """
    called = code.load()
    if inspect.isclass(called) and issubclass(called, nn.Module):
        return "model"
    if inspect.isclass(called) and issubclass(called, torch.optim.Optimizer):
        return "optimizer"
    names = list(inspect.signature(called).parameters)
    signs = {
        "logits": "metrics",
        "generator": "augmentation",
        "num_steps": "lr_schedule",
        "lr": "optimizer",
        "num_classes": "model",
    }
    for name, field in signs.items():
        if name in names:
            return field
    if not names:
        return "dataset"
    raise CodeError(
        f"{code}: its arguments, {', '.join(names)}, do not tell what it is for; write --check FIELD={code} with FIELD "
        f"{', '.join(FIELDS)}"
    )


_Rules = Iterator[tuple[str, Callable[[], str | None]]]  # a rule and its check, which returns a note or raises


def _run(rule: str, check: Callable[[], str | None]) -> Check:
    try:
        return Check(rule, note=check() or "")
    except Exception as error:
        is_ours = isinstance(error, AssertionError | CodeError)
        return Check(rule, str(error) if is_ours else f"raised {describe_error(error)}")


def _model_rules(code: CodeName, values: dict[str, Any]) -> _Rules:
    model = OwnModel(code=code, values=values)
    images = torch.rand(BATCH, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))

    def build() -> nn.Module:
        torch.manual_seed(0)
        return model.build(NUM_CLASSES, IMAGE_SIZE)

    def logits_of(network: nn.Module, batch: Tensor) -> Tensor:
        torch.manual_seed(1)
        return network(batch)

    def count() -> str:
        size = measure_model(model, NUM_CLASSES, IMAGE_SIZE)
        return f"{size.num_parameters:,} parameters, {size.flops:,} FLOPs per image"

    def gradients() -> None:
        network = build()
        F.cross_entropy(logits_of(network, images), torch.arange(BATCH)).backward()
        missing = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing, f"no gradient reaches {', '.join(missing[:5])}"

    def deterministic() -> None:
        first, second = build(), build()
        assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values())), "other weights"
        assert torch.equal(logits_of(first, images), logits_of(second, images)), "the same weights give other logits"

    def channels_last() -> str | None:
        if problem := channels_last_problem(model, NUM_CLASSES, IMAGE_SIZE):
            return f"it trains channels-first, because channels-last raises: {problem}"
        network = build().eval()
        expected = network(images)
        found = network.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
        assert torch.allclose(found, expected, atol=1e-3, rtol=1e-3), "other logits than in the default format"
        return None

    def bf16() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            assert logits_of(build(), images).isfinite().all(), "logits that are not finite"

    def no_wait() -> None:
        network = build()
        with _RefuseToWait():
            F.cross_entropy(logits_of(network, images), torch.arange(BATCH)).backward()

    yield f"maps (B, 3, {IMAGE_SIZE}, {IMAGE_SIZE}) to (B, {NUM_CLASSES}) and can be counted", count
    yield "gradients reach all parameters", gradients
    yield "is deterministic under a seed", deterministic
    yield "gives the same logits in channels-last, or is an error there", channels_last
    yield "gives finite logits in bf16", bf16
    yield "does not let the host wait for the device", no_wait


def _optimizer_rules(code: CodeName, values: dict[str, Any]) -> _Rules:
    def make(lr: float = 0.01) -> tuple[nn.Parameter, torch.optim.Optimizer]:
        weight = nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
        optimizer = code.load()([weight], lr=lr, weight_decay=0.0, **values)
        assert isinstance(optimizer, torch.optim.Optimizer), f"returned a {type(optimizer).__name__}"
        return weight, optimizer

    def step(weight: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        weight.square().sum().backward()
        optimizer.step()

    def descends() -> None:
        weight, optimizer = make()
        before = weight.square().sum().item()
        for _ in range(5):
            step(weight, optimizer)
        assert weight.square().sum().item() < before, "5 steps on a quadratic do not lower it"

    def reads_rate() -> None:
        weight, optimizer = make()
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        before = weight.detach().clone()
        step(weight, optimizer)
        assert torch.equal(weight, before), "a step at learning rate 0 in param_groups changes the weights"

    def resumes() -> None:
        weight, optimizer = make()
        step(weight, optimizer)
        again, resumed = make()
        again.data.copy_(weight.data)
        resumed.load_state_dict(optimizer.state_dict())
        step(weight, optimizer)
        step(again, resumed)
        assert torch.equal(weight, again), "another step after state_dict() was saved and loaded"

    def no_wait() -> None:
        weight, optimizer = make()
        with _RefuseToWait():
            step(weight, optimizer)

    yield "lowers a quadratic", descends
    yield "reads the learning rate from param_groups", reads_rate
    yield "resumes from its state_dict()", resumes
    yield "does not let the host wait for the device", no_wait


def _schedule_rules(code: CodeName, values: dict[str, Any]) -> _Rules:
    schedule = code.load()

    def factors() -> str:
        found = [float(schedule(step, NUM_STEPS)) for step in range(NUM_STEPS)]
        wrong = next((i for i, factor in enumerate(found) if not (math.isfinite(factor) and factor >= 0)), None)
        assert wrong is None, f"step {wrong} of {NUM_STEPS} has {found[wrong or 0]}"
        assert found == [float(schedule(step, NUM_STEPS)) for step in range(NUM_STEPS)], "a second call gives others"
        return f"from {found[0]:g} by {max(found):g} to {found[-1]:g}"

    yield "gives finite factors of at least 0, the same at every call", factors


def _augmentation_rules(code: CodeName, values: dict[str, Any]) -> _Rules:
    augment = code.load()
    images = torch.rand(16, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))

    def apply(seed: int = 1) -> Tensor:
        return augment(images.clone(), torch.Generator().manual_seed(seed))

    def shape() -> None:
        found = apply()
        expected = (images.shape, images.dtype)
        assert (found.shape, found.dtype) == expected, f"returns {tuple(found.shape)} of {found.dtype}"
        low, high = found.min().item(), found.max().item()
        assert low >= -1e-6 and high <= 1 + 1e-6, f"its values are from {low:g} to {high:g}"

    def input_stays() -> None:
        given = images.clone()
        augment(given, torch.Generator().manual_seed(1))
        assert torch.equal(given, images), "its input was modified; begin with images.clone()"

    def only_generator() -> None:
        before = torch.get_rng_state()
        assert torch.equal(apply(), apply()), "the same generator gives other images"
        assert torch.equal(before, torch.get_rng_state()), "it draws from torch's global generator; pass generator="

    def no_wait() -> None:
        generator = torch.Generator().manual_seed(1)
        with _RefuseToWait():
            augment(images.clone(), generator)

    yield "keeps shape, type and the range [0, 1]", shape
    yield "does not modify its input", input_stays
    yield "takes all random numbers from the generator", only_generator
    yield "does not let the host wait for the device", no_wait


def _dataset_rules(code: CodeName, values: dict[str, Any]) -> _Rules:
    def loads() -> str:
        shape = own.describe(code, ImageOptions())
        return (
            f"{shape.num_train:,} training, {shape.num_val:,} validation, {shape.num_test:,} test images of "
            f"{shape.image_size}x{shape.image_size}, {shape.num_classes} classes"
        )

    yield "returns images and labels", loads


def _metric_rules(code: CodeName, values: dict[str, Any]) -> _Rules:
    metric = code.load()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, NUM_CLASSES, generator=generator)
    labels = torch.randint(0, NUM_CLASSES, (200,), generator=generator)

    def number() -> str:
        value = metric(logits.clone(), labels.clone())
        assert isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1), (
            f"returns a {type(value).__name__}, which is no number"
        )
        assert math.isfinite(float(value)), f"is {float(value)}"
        assert float(value) == float(metric(logits.clone(), labels.clone())), "a second call gives another number"
        return f"{float(value):.4g} of random logits"

    def input_stays() -> None:
        given = logits.clone(), labels.clone()
        metric(*given)
        assert torch.equal(given[0], logits) and torch.equal(given[1], labels), "its input was modified"

    def any_order() -> None:
        order = torch.randperm(len(labels), generator=generator)
        first, second = float(metric(logits, labels)), float(metric(logits[order], labels[order]))
        assert math.isclose(first, second, rel_tol=1e-5, abs_tol=1e-7), f"{first:g}, and {second:g} in another order"

    def one_class() -> None:
        value = float(metric(logits, torch.zeros_like(labels)))
        assert math.isfinite(value), f"is {value} if all images are of one class"

    yield "gives one finite number, the same at every call", number
    yield "does not modify its input", input_stays
    yield "does not depend on the order of images", any_order
    yield "is finite if all images are of one class", one_class


class _RefuseToWait(TorchDispatchMode):
    """Context in which an operator raises if the host would have to wait for its result on a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put_") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if name in _WAITS or by_mask:
            raise RuntimeError(f"{'indexing with a mask' if by_mask else name} makes the host wait; use torch.where")
        return func(*args, **(kwargs or {}))
