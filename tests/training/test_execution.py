import pytest
import torch

from flexres_tune.errors import DeviceError
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.execution import has_compiler, has_fast_bf16, list_options

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


def test_fp32_tf32_and_bf16_are_three_precisions_of_a_gpu(bf16):
    bf16(True, tf32=True)
    plain = ["fp32 channels-first", "fp32 channels-last", "tf32 channels-last", "bf16 channels-last"]
    assert labels(CUDA, compile="on", optimizer="adagrad") == plain
    assert labels(CUDA, compile="on", optimizer="adagrad", precision="fp32") == plain[:2]
    assert labels(CUDA, compile="on", precision="tf32")[0] == "tf32 channels-last"
    with pytest.raises(DeviceError, match="precision tf32 needs an NVIDIA GPU .* use precision: fp32, or a node"):
        labels(CPU, precision="tf32")


def test_graphs_are_for_cuda(bf16):
    bf16(True)
    graphs = ["fp32 channels-last graphs", "bf16 channels-last graphs"]
    whole = ["fp32 channels-last step-graph", "bf16 channels-last step-graph"]
    assert labels(CUDA)[-4:] == graphs + whole
    assert labels(CUDA, compile="on")[-2:] == whole and not set(labels(CUDA, compile="on")) & set(graphs)
    assert labels(CUDA, optimizer="adagrad")[-2:] == graphs, "its update needs the learning rate on the host"
    dropout = {"blocks": [1, 1], "channels": [8, 8], "dropout": 0.1}
    assert set(labels(CUDA, model=dropout)) >= set(graphs), "a replay draws new random numbers"


def test_compiling_for_a_gpu_needs_triton_a_c_compiler_and_pythons_header(monkeypatch, tmp_path):
    monkeypatch.setattr("flexres_tune.training.execution.importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr("shutil.which", lambda name: name if name in ("gcc",) else None)
    monkeypatch.delenv("CC", raising=False)
    assert has_compiler(CUDA) and not has_compiler(CPU), "no C++ compiler is needed"
    (tmp_path / "Python.h").unlink()
    assert not has_compiler(CUDA)
    with pytest.raises(DeviceError, match=r"compile: on needs Python's headers, but .*Python.h does not exist"):
        labels(CUDA, compile="on", precision="fp32")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(DeviceError, match="compile: on needs a C compiler, but none of gcc, clang, cc is on the PATH"):
        labels(CUDA, compile="on", precision="fp32")


def test_fast_bf16_on_a_cpu_is_what_its_flags_say(monkeypatch):
    for flags, expected in [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
        assert has_fast_bf16(CPU) is expected
