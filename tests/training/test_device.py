import pytest
import torch

from flexres_tune.errors import DeviceError
from flexres_tune.training.device import (
    device_name,
    is_out_of_memory,
    peak_memory_bytes,
    pick_device,
    reset_peak_memory,
)

CPU = torch.device("cpu")


def test_device_is_the_gpu_if_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device() == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == CPU


def test_device_can_be_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cpu") == CPU
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match=r"device cuda:2 is not here: torch .* sees 2 CUDA devices; use --device cpu"):
        pick_device("cuda:2")
    with pytest.raises(DeviceError, match="must be cpu, cuda or cuda:N, but got 'gpu'"):
        pick_device("gpu")


def test_cpu_has_its_makers_name():
    assert device_name(CPU) not in ("", "cpu")


def test_peak_memory_is_bytes_of_this_process_since_the_reset():
    reset_peak_memory(CPU)
    before = peak_memory_bytes(CPU)
    assert 20e6 < before < 100e9
    block = torch.ones(50_000_000)  # 200 MB
    assert peak_memory_bytes(CPU) >= before + 150e6
    del block


def test_failed_allocation_on_a_cpu_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    for text in ("std::bad_alloc", "[Errno 12] Cannot allocate memory", "x.so: Cannot allocate memory"):
        assert is_out_of_memory(OSError(text))
    assert not is_out_of_memory(RuntimeError("shapes do not agree"))
