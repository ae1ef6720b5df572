import pytest

from flexres_tune.cluster import packing
from flexres_tune.cluster.packing import (
    Packing,
    Probe,
    cached_packing,
    largest_trial,
    pack_cpu,
    pack_gpu,
    resolve_auto_resources,
)
from flexres_tune.cluster.resources import ClusterResources, TrialResources
from flexres_tune.spec import PlannedTrial, Resources, TrialConfig

GIB = 2**30


def trial(model="tiny", batch_size=64, epochs=1, dataset="digits"):
    config = TrialConfig(model=model, dataset=dataset, batch_size=batch_size, epochs=epochs)
    return PlannedTrial(config=config, varied={}, num_parameters=0)


def gpu(rates, memory=1 * GIB, total=100 * GIB):
    """A GPU on which n trials together reach rates[n - 1]; what was asked of it."""
    asked = []

    def measure(cpu, share, number):
        asked.append((cpu, share, number))
        return [Probe(rates[number - 1] / number, memory, total)] * number

    return measure, asked


def test_trials_share_a_gpu_while_together_they_grow_faster():
    measure, asked = gpu([100, 180, 240, 243, 400])
    packed = pack_gpu(measure, cpus_per_gpu=12)
    assert (packed.gpu, packed.cpu, packed.images_per_second) == (0.3333, 4, 240)
    assert [number for _, _, number in asked] == [1, 2, 3, 4]
    assert "3 to a GPU" in packed.reason


def test_memory_of_the_largest_limits_the_packing():
    measure, asked = gpu([100, 200, 300, 400], memory=40 * GIB, total=100 * GIB)
    assert pack_gpu(measure, 12).gpu == 0.5
    assert len(asked) == 2


def test_one_trial_that_fills_a_gpu_has_it_alone():
    measure, _ = gpu([100, 101])
    assert pack_gpu(measure, 8).gpu == 1.0


@pytest.mark.parametrize(("rates", "threads"), [({1: 50, 2: 60}, 1), ({1: 50, 2: 120}, 2)])
def test_threads_a_trial_are_those_that_train_most_on_the_node(rates, threads):
    def measure(cpu, gpu, number):
        return [Probe(rates[cpu], 0, 0)] * number

    assert pack_cpu(measure, num_cpus=2).cpu == threads


def test_largest_trial_is_the_one_with_the_most_work_a_step():
    trials = [trial(batch_size=64), trial(batch_size=512), trial({"blocks": [1, 1], "channels": [64, 64]}, 64)]
    assert largest_trial(trials) is trials[2]
    assert largest_trial([]) is None


def test_short_sweep_is_not_measured(monkeypatch):
    monkeypatch.setattr(packing, "measure_with_ray", None)
    auto = Resources()
    assert resolve_auto_resources(auto, ClusterResources(2, 0, 1, True), [trial()]) == (auto, "")


def test_explicit_request_is_obeyed(monkeypatch):
    monkeypatch.setattr(packing, "measure_with_ray", None)
    explicit = Resources(cpu=2, gpu=0)
    assert resolve_auto_resources(explicit, ClusterResources(2, 0, 1, True), [trial(epochs=100_000)]) == (explicit, "")


def test_answer_is_remembered_for_the_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    answers = iter([Packing(1.0, 0.0, 10.0, "one"), Packing(2.0, 0.0, 20.0, "two")])
    config = trial().config
    assert cached_packing(config, {"cpu": 2}, lambda: next(answers)).reason == "one"
    assert cached_packing(config, {"cpu": 2}, lambda: next(answers)).reason == "one"
    assert cached_packing(config, {"cpu": 4}, lambda: next(answers)).reason == "two"


def test_trial_that_ran_out_of_memory_gets_a_device_of_its_own():
    share = TrialResources(cpu=4, gpu=0.25, num_concurrent=8, reason="")
    alone = share.whole_device(ClusterResources(num_cpus=32, num_gpus=2, num_nodes=1, is_local=True))
    assert (alone.gpu, alone.num_concurrent, alone.reason) == (1.0, 2, "a GPU each")
    on_cpu = TrialResources(cpu=1, gpu=0, num_concurrent=2, reason="")
    assert on_cpu.whole_device(ClusterResources(2, 0, 1, True)).num_concurrent == 1
