import torch

from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.execution import has_fast_bf16, list_options

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def labels(device, **fields):
    return [
        option.label for option in list_options(TrialConfig(**{"model": "tiny", "dataset": "digits", **fields}), device)
    ]


def test_options_are_listed_from_the_most_exact(bf16):
    bf16(True)
    assert labels(CPU) == ["fp32 channels-first", "fp32 channels-last", "bf16 channels-last"]
    assert labels(CPU, precision="fp32") == ["fp32 channels-first", "fp32 channels-last"]
    assert labels(CPU, precision="bf16") == ["bf16 channels-last"]
    bf16(False)
    assert labels(CPU) == ["fp32 channels-first", "fp32 channels-last"]


def test_graphs_are_for_cuda_without_dropout_or_compiling(bf16):
    bf16(True)
    graphs = ["fp32 channels-last graphs", "bf16 channels-last graphs"]
    assert labels(CUDA)[-2:] == graphs
    assert not set(labels(CUDA, compile="on")) & set(graphs)
    dropout = {"blocks": [1, 1], "channels": [8, 8], "dropout": 0.1}
    assert not set(labels(CUDA, model=dropout)) & set(graphs)


def test_fast_bf16_on_a_cpu_is_what_its_flags_say(monkeypatch):
    for flags, expected in [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
        assert has_fast_bf16(CPU) is expected
