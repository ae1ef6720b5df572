import os
import subprocess
import sys

import pytest
import torch
from helpers.factories import make_planned

from flexres_tune.cluster import packing
from flexres_tune.cluster.packing import (
    MAX_OTHERS_SHARE,
    CpuUse,
    NotMeasuredError,
    Packing,
    StepBenchmark,
    StepRate,
    cached_packing,
    others_share,
    pack_cpu,
    pack_gpu,
    resolve_auto_resources,
)
from flexres_tune.cluster.resources import ClusterResources, NodeResources, TrialResources, gpu_kinds, trial_resources
from flexres_tune.spec import Resources, TrialConfig

GIB = 2**30


def machine(num_cpus, num_gpus=0):
    return ClusterResources((NodeResources(num_gpus, num_cpus),), num_alive=1, is_local=True)


def trial(model="tiny", batch_size=64, epochs=1, dataset="digits"):
    config = TrialConfig(model=model, dataset=dataset, batch_size=batch_size, epochs=epochs)
    return make_planned(config, num_parameters=0)


def gpu(rates, memory=1 * GIB, total=100 * GIB):
    """(measure, its calls) of a GPU on which n trials reach rates[n - 1] images per second in all."""
    calls = []

    def measure(cpu, share, number):
        calls.append((cpu, share, number))
        return [StepRate(rates[number - 1] / number, memory, total)] * number

    return measure, calls


def test_trials_are_added_to_a_gpu_while_their_total_rate_grows():
    measure, calls = gpu([100, 180, 240, 243, 400])
    packed = pack_gpu(measure, cpus_per_gpu=12)
    assert (packed.gpu, packed.cpu, packed.images_per_second) == (0.3333, 4, 240)
    assert [number for _, _, number in calls] == [1, 2, 3, 4]
    assert "3 per GPU" in packed.reason


def test_memory_of_the_largest_limits_the_packing():
    measure, calls = gpu([100, 200, 300, 400], memory=40 * GIB, total=100 * GIB)
    assert pack_gpu(measure, 12).gpu == 0.5
    assert len(calls) == 2


def test_trial_that_uses_a_whole_gpu_gets_one():
    measure, _ = gpu([100, 101])
    assert pack_gpu(measure, 8).gpu == 1.0


def test_no_more_trials_are_started_than_have_a_cpu():
    measure, calls = gpu([100, 200, 300])
    assert pack_gpu(measure, cpus_per_gpu=2).gpu == 0.5
    assert [(cpu, number) for cpu, _, number in calls] == [(2, 1), (1, 2)], "a third would wait for ever"
    measure, calls = gpu([100, 200, 300])
    assert pack_gpu(measure, cpus_per_gpu=12, cpu=5.0).cpu == 5.0
    assert [(cpu, number) for cpu, _, number in calls] == [(5, 1), (5, 2)]


def test_failed_measurement_ends_the_search_and_is_not_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))

    def measure(cpu, share, number):
        if number == 2:
            raise NotMeasuredError("2 trials did not train within 600 s")
        return [StepRate(100, GIB, 100 * GIB)]

    config = trial().config
    found = cached_packing(config, {}, lambda: pack_gpu(measure, 8))
    assert (found.gpu, found.is_complete) == (1.0, False)
    assert "2 trials did not train within 600 s" in found.reason
    assert cached_packing(config, {}, lambda: Packing(1.0, 0.5, 10.0, "again")).reason == "again"


def test_request_is_kept_if_nothing_could_be_measured():
    def make_measure(config, kind, mps):
        def measure(cpu, share, number):
            raise NotMeasuredError("CUDA error")

        return measure

    wanted, long = Resources(cpu=2, gpu="auto"), trial("resnet22_2", epochs=99_999, dataset="cifar10")
    assert resolve_auto_resources(wanted, machine(8, 1), [long], {}, make_measure) == (
        wanted,
        "how many trials share a device could not be measured: CUDA error",
    )


def test_each_model_of_gpu_is_measured_and_the_one_with_the_fewest_trials_decides(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    rates = {"H200": [100, 200, 300, 400], "L4": [100, 150, 151]}
    cluster = ClusterResources((NodeResources(1, 4),) * 2, 2, is_local=False, gpu_kinds=("H200", "L4"))
    long = trial("resnet22_2", epochs=99_999, dataset="cifar10")
    measured = []

    def make_measure(config, kind, mps):
        measured.append(kind)
        return gpu(rates[kind])[0]

    resources, reason = resolve_auto_resources(Resources(), cluster, [long], {}, make_measure)
    assert (resources.gpu, resources.cpu) == (0.5, 2)
    assert reason.startswith("L4: 2 per GPU")
    one = ClusterResources(cluster.nodes, 2, is_local=False, gpu_kinds=("H200",))
    resolve_auto_resources(Resources(), one, [long], {}, make_measure)
    assert measured == ["H200", "L4"], "the second sweep uses the memo of the same model"
    monkeypatch.setattr(packing, "version", lambda name: "99.0")
    resolve_auto_resources(Resources(), one, [long], {}, make_measure)
    assert measured[2:] == ["H200"], "another version of torch is measured"


def test_trials_are_measured_with_and_without_mps_and_the_faster_way_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    rates = {False: [100, 110, 111], True: [95, 180, 250, 300]}
    long = trial("resnet22_2", epochs=99_999, dataset="cifar10")

    def make_measure(config, kind, mps):
        return gpu(rates[mps])[0]

    def pack(mps):
        return resolve_auto_resources(Resources(mps=mps), machine(4, 1), [long], {}, make_measure)

    resources, reason = pack("auto")
    assert (resources.gpu, resources.mps) == (0.25, "on") and reason.startswith("with MPS 4 per GPU")
    assert trial_resources(resources, machine(4, 1), None).mps
    assert (pack("off")[0].gpu, pack("off")[0].mps) == (0.5, "off")
    rates[True] = [90, 91]
    monkeypatch.setattr(packing, "version", lambda name: "99.0")
    assert pack("auto")[0].mps == "off"


def test_models_of_gpus_are_read_from_rays_resources():
    nodes = [{"CPU": 4.0, "accelerator_type:X": 1.0}, {"CPU": 4.0, "GPU": 1.0, "accelerator_type:H200": 1.0}]
    assert gpu_kinds(nodes) == ("H200",), "a node without a GPU does not count"
    assert gpu_kinds([{"GPU": 1.0}]) == ()


@pytest.mark.parametrize(("rates", "threads"), [({1: 50, 2: 60}, 1), ({1: 50, 2: 120}, 2)])
def test_number_of_threads_is_the_one_with_the_highest_rate_of_the_node(rates, threads):
    def measure(cpu, gpu, number):
        return [StepRate(rates[cpu], 0, 0)] * number

    assert pack_cpu(measure, num_cpus=2).cpu == threads


def beside(others, threads_to_rate):
    """Measure of two cores of which other processes take the share `others`; the trials take the rest."""

    def measure(cpu, share, number):
        use = CpuUse(by_trial=(1 - others) / number, by_all=1.0)
        return [StepRate(threads_to_rate[cpu or 1] / number, GIB, 100 * GIB, use)] * number

    return measure


@pytest.mark.parametrize("pack", [lambda measure: pack_cpu(measure, 2), lambda measure: pack_gpu(measure, 2, cpu=1)])
def test_measurement_beside_other_work_is_used_and_not_remembered(monkeypatch, tmp_path, pack):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    config = trial().config
    found = cached_packing(config, {}, lambda: pack(beside(0.4, {1: 50, 2: 80})))
    assert "other processes took 40 % of the CPUs meanwhile, so this is not remembered" in found.reason
    quiet = cached_packing(config, {}, lambda: pack(beside(0.04, {1: 100, 2: 80})))
    assert quiet.images_per_second > found.images_per_second and "other processes" not in quiet.reason
    assert cached_packing(config, {}, lambda: pack(beside(0.0, {1: 1, 2: 1}))) == quiet


def test_benchmark_of_steps_notices_another_process_that_computes(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # as a worker does, and undone after the test
    benchmark = StepBenchmark(trial().config.to_dict(), torch.get_num_threads(), str(tmp_path), {}, 0.0, False)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())]
    try:
        assert others_share([benchmark.run(1.0)]) > MAX_OTHERS_SHARE
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measures_nothing(config, kind, mps):
    raise AssertionError("must not be measured")


def test_trial_with_the_most_work_per_step_is_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    wide = {"blocks": [1, 1], "channels": [64, 64]}
    trials = [trial(batch_size=64, epochs=9_999), trial(batch_size=512, epochs=9_999), trial(wide, 64, epochs=9_999)]
    measured = []

    def make_measure(config, kind, mps):
        measured.append(config)
        return lambda cpu, gpu, number: [StepRate(100 * cpu, 0, 0)] * number

    resources, reason = resolve_auto_resources(Resources(), machine(2), trials, {}, make_measure)
    assert measured == [trials[2].config]
    assert (resources.cpu, resources.gpu) == (1.0, 0.0)
    assert "images/s of the node" in reason


def test_sweep_without_trials_is_not_measured():
    assert resolve_auto_resources(Resources(), machine(2), [], {}, measures_nothing) == (Resources(), "")


def test_short_sweep_is_not_measured():
    assert resolve_auto_resources(Resources(), machine(2), [trial()], {}, measures_nothing) == (Resources(), "")


def test_explicit_request_is_not_measured():
    explicit, long = Resources(cpu=2, gpu=0), trial(epochs=100_000)
    assert resolve_auto_resources(explicit, machine(2), [long], {}, measures_nothing) == (explicit, "")


def test_result_is_cached_per_machine_and_resources(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    results = iter([Packing(1.0, 0.0, 10.0, "one"), Packing(2.0, 0.0, 20.0, "two")])
    config = trial().config
    assert cached_packing(config, {"cpu": 2}, lambda: next(results)).reason == "one"
    assert cached_packing(config, {"cpu": 2}, lambda: next(results)).reason == "one"
    assert cached_packing(config, {"cpu": 4}, lambda: next(results)).reason == "two"


def test_trial_that_ran_out_of_memory_gets_a_whole_device():
    share = TrialResources(cpu=4, gpu=0.25, num_concurrent=8, reason="")
    alone = share.whole_device(machine(32, 2))
    assert (alone.gpu, alone.num_concurrent, alone.reason) == (1.0, 2, "a GPU each")
    on_cpu = TrialResources(cpu=1, gpu=0, num_concurrent=2, reason="")
    assert on_cpu.whole_device(machine(2)).num_concurrent == 1
