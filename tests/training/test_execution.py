import pytest
import torch

from flexres_tune.errors import DeviceError
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training import execution
from flexres_tune.training.execution import choose_execution, compile_saves_seconds

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def bf16(monkeypatch):
    def set_support(supported: bool) -> None:
        monkeypatch.setattr(execution, "has_fast_bf16", lambda device: supported)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")

    return set_support


def choose(device=CPU, **fields):
    return choose_execution(TrialConfig(**{"model": "tiny", "dataset": "digits", **fields}), device)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_auto_precision_is_bf16_for_large_models_on_devices_that_have_it(bf16, device):
    large = {"blocks": [3, 3], "channels": [64, 128]}
    bf16(True)
    assert choose(device).precision == "fp32"
    assert choose(device, model=large).precision == "bf16"
    bf16(False)
    assert choose(device, model=large).precision == "fp32"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_explicit_precision_is_obeyed(bf16, precision):
    bf16(False)
    assert choose(precision=precision).precision == precision


def test_bf16_is_refused_on_a_gpu_without_it(bf16):
    bf16(False)
    with pytest.raises(DeviceError, match=r"bf16 needs a GPU .* but Tesla T4 has none; use precision: auto or fp32"):
        choose(CUDA, precision="bf16")


def test_fast_bf16_on_a_cpu_is_what_its_flags_say(monkeypatch):
    for flags, expected in [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
        assert execution.has_fast_bf16(CPU) is expected


def test_compile_auto_is_off_on_a_cpu_and_for_short_trials(bf16):
    bf16(True)
    assert not choose(epochs=1000).compile
    assert not choose(CUDA, epochs=20).compile
    assert choose(CUDA, model={"blocks": [6, 6], "channels": [64, 256]}, epochs=10_000).compile


def test_compile_pays_where_images_times_saving_exceed_its_cost():
    assert compile_saves_seconds(flops=10**9, num_images=0) == -execution.COMPILE_SECONDS
    one_epoch = compile_saves_seconds(flops=10**9, num_images=45_000) + execution.COMPILE_SECONDS
    assert one_epoch == pytest.approx(45_000 * 3e9 / 30e12 * 0.2)


def test_compile_on_is_obeyed_or_refused_without_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(DeviceError, match=r"compile: on needs a C\+\+ compiler, but none of no-such-compiler"):
        choose(compile="on")
    assert not choose(compile="off").compile
    monkeypatch.setattr(execution.shutil, "which", lambda name: "/usr/bin/" + name)
    assert choose(compile="on").compile
