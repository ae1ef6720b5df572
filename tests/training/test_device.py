from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from flexres_tune.errors import DeviceError
from flexres_tune.training.device import (
    device_name,
    is_device_broken,
    is_out_of_memory,
    limit_memory,
    on_device,
    peak_memory_bytes,
    pick_device,
    reset_peak_memory,
    trial_device,
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


def test_trial_without_a_gpu_runs_on_the_cpu_of_a_machine_that_has_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert trial_device(0) == CPU
    assert trial_device(0.25) == torch.device("cuda")


def test_context_of_a_gpu_makes_it_the_current_one_and_sets_its_kernels(monkeypatch):
    entered = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered.append(device) or nullcontext())
    cudnn, matrices = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matrices.allow_tf32, cudnn.benchmark
    for allow_tf32 in (False, True):
        with on_device(torch.device("cuda", 1), allow_tf32=allow_tf32, choose_kernels=True):
            assert (cudnn.allow_tf32, matrices.allow_tf32, cudnn.benchmark) == (allow_tf32, allow_tf32, True)
    with on_device(torch.device("cuda", 1), allow_tf32=True, choose_kernels=False):
        assert not cudnn.benchmark
    monkeypatch.setattr(cudnn, "deterministic", True)
    with on_device(torch.device("cuda", 1), allow_tf32=True, choose_kernels=True):
        assert cudnn.deterministic and not cudnn.benchmark, "what the caller wants"
    monkeypatch.setattr(cudnn, "deterministic", False)
    assert entered == [torch.device("cuda", 1)] * 4
    assert (cudnn.allow_tf32, matrices.allow_tf32, cudnn.benchmark) == before


def test_trial_takes_no_more_than_its_share_of_a_gpus_memory(monkeypatch):
    limits = []
    properties = SimpleNamespace(total_memory=100 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *args: limits.append(args))
    for device, share in ((torch.device("cuda"), 0.25), (torch.device("cuda", 1), 1.0), (CPU, 0.25)):
        limit_memory(device, share)
    assert limits == [(0.245, 0), (1.0, 1)], "CUDA itself takes half a GiB of the 25"


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


@pytest.mark.parametrize(
    ("text", "is_memory"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors might be", True),  # a context, or a graph
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: device-side assert triggered", False),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_error_of_cuda_is_memory_that_is_used_up_or_a_broken_device(text, is_memory):
    error = torch.AcceleratorError(text, 1) if text.startswith("CUDA error: ") else RuntimeError(text)
    assert is_out_of_memory(error) is is_memory
    assert is_device_broken(error) is not is_memory
    assert not is_device_broken(RuntimeError(text))
