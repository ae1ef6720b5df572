"""The network in its fastest form: compiling does not stop after some architectures."""

import functools

import pytest
import torch

from flexres_tune.models import build_model
from flexres_tune.training import Execution
from flexres_tune.training.network import prepare_network

CPU = torch.device("cpu")


@pytest.mark.slow
def test_each_architecture_is_compiled_and_none_twice_in_a_row(monkeypatch):
    """torch counts per function, which all models share, and compiles no more after its limit, 8 by default."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 2)

    def run(width):
        model = build_model({"blocks": [1], "channels": [width], "pool_size": 1}, 3, 8)
        images = torch.rand(2, 3, 8, 8)
        prepare_network(model, Execution(CPU, "fp32", compile=True), lambda: images)(images)

    for width in (4, 5, 6, 7):
        run(width)
    assert len(compiled) == 4
    run(7)
    assert len(compiled) == 4, "the next trial of the same shape compiles nothing"
