"""How many trials a cluster runs at once: counted per node, and with the nodes that it may still start."""

import ctypes
from pathlib import Path

import pytest
import yaml

from flexres_tune.cluster import resources
from flexres_tune.cluster.resources import (
    ClusterResources,
    NodeResources,
    TrialResources,
    max_nodes,
    num_visible_gpus,
    read_autoscaler_config,
    trial_resources,
)
from flexres_tune.errors import DeviceError
from flexres_tune.spec import Resources

GPU_YAML = yaml.safe_load((Path(__file__).parents[2] / "cluster/gpu.yaml").read_text())


def cluster(*nodes):
    """Nodes of (CPUs, GPUs) each."""
    sizes = tuple(NodeResources(num_gpus, num_cpus) for num_cpus, num_gpus in nodes)
    return ClusterResources(sizes, len(nodes), is_local=False)


def grown(config, now=()):
    """CPUs and GPUs of the nodes (CPUs, GPUs) `now`, with those that the cluster file allows."""
    nodes = max_nodes([NodeResources(num_gpus, num_cpus) for num_cpus, num_gpus in now], config)
    total = ClusterResources(nodes, num_alive=1, is_local=False)
    return {"CPU": total.num_cpus, "GPU": total.num_gpus}


@pytest.mark.parametrize(
    ("nodes", "cpu", "gpu", "num_concurrent"),
    [
        ([(8, 1), (8, 2)], 1, 0.25, 12),
        ([(8, 1), (8, 2)], 1, 0.4, 6),  # two per GPU; remainders of three GPUs make no seventh
        ([(8, 1), (8, 2)], 4, 0.25, 4),  # CPUs are the limit
        ([(3, 0), (3, 0)], 2, 0, 2),  # not 3: a trial takes no CPU of two nodes
        ([(64, 0), (4, 1)], 4, 1, 1),
        ([(1, 0)], 0.1, 0, 10),
    ],
)
def test_slots_are_counted_node_by_node(nodes, cpu, gpu, num_concurrent):
    share = trial_resources(Resources(cpu=cpu, gpu=gpu), cluster(*nodes), None)
    assert (share.cpu, share.gpu, share.num_concurrent) == (cpu, gpu, num_concurrent)
    assert trial_resources(Resources(cpu=cpu, gpu=gpu), cluster(*nodes), 1).num_concurrent == 1


def test_trial_cannot_use_cpus_of_another_node():
    with pytest.raises(DeviceError, match=r"got 16 CPUs and 1 GPU, .* use --set resources_per_trial.cpu=4$"):
        trial_resources(Resources(cpu=16, gpu=1), cluster((64, 0), (4, 1)), None)


def test_auto_divides_the_cpus_of_nodes_with_gpus_and_ignores_the_head():
    share = trial_resources(Resources(), cluster((64, 0), (16, 4), (8, 2)), None)
    assert (share.cpu, share.gpu, share.num_concurrent) == (4, 1, 6)
    assert trial_resources(Resources(gpu=0.5), cluster((16, 4)), None).cpu == 2
    assert trial_resources(Resources(), cluster((3, 0), (2, 0)), None).num_concurrent == 5


def test_trials_that_ran_out_of_memory_get_a_gpu_each_on_nodes_with_enough_cpus():
    share = TrialResources(cpu=4, gpu=0.25, num_concurrent=8, reason="")
    assert share.whole_device(cluster((16, 2), (4, 2))).num_concurrent == 3


def test_cluster_with_only_a_head_counts_the_workers_that_it_may_start():
    """Spot and on-demand are two types of the same 8 workers, not of 16."""
    assert grown(GPU_YAML, [(0, 0)]) == {"CPU": 128, "GPU": 8}


def test_trials_of_the_published_sweeps_fill_it():
    cluster = ClusterResources(max_nodes([], GPU_YAML), num_alive=1, is_local=False)
    assert trial_resources(Resources(cpu=4, gpu=0.25), cluster, None).num_concurrent == 32


def test_larger_workers_come_first_if_not_all_fit():
    types = {
        "head": {"resources": {"CPU": 2}},
        "small": {"resources": {"CPU": 4}, "max_workers": 9},
        "large": {"resources": {"CPU": 8, "GPU": 4}, "max_workers": 2},
    }
    config = {"head_node_type": "head", "max_workers": 3, "available_node_types": types}
    assert grown(config) == {"CPU": 2 + 2 * 8 + 4, "GPU": 8}


def test_nodes_of_a_cluster_that_scales_include_future_workers():
    nodes = max_nodes([NodeResources(0, 0)], GPU_YAML)
    assert len(nodes) == 9 and set(nodes[1:]) == {NodeResources(num_gpus=1, num_cpus=16)}
    there = [NodeResources(2, 8), NodeResources(1, 8)]
    assert max_nodes(there, None) == tuple(there)


def test_cluster_of_fixed_machines_does_not_grow():
    now = [(4, 1), (2, 1)]
    assert grown(None, now) == {"CPU": 6, "GPU": 2}
    onprem = {"provider": {"type": "local"}, "max_workers": 2}
    onprem |= {"head_node_type": "n", "available_node_types": {"n": {"resources": {}, "max_workers": 2}}}
    assert grown(onprem, now) == {"CPU": 6, "GPU": 2}


def test_machine_that_is_not_a_head_has_no_cluster_file(tmp_path):
    assert read_autoscaler_config(tmp_path / "ray_bootstrap_config.yaml") is None


@pytest.mark.parametrize("text", ["a: " + "[" * 3000, 'a: "\\UFFFFFFFF"', "a: &a [*a]", "- 1", "a: [1"])
def test_damaged_cluster_file_of_a_head_counts_as_none(tmp_path, text):
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(text)
    assert read_autoscaler_config(file) is None


def test_cluster_file_of_a_head_is_read_as_ray_writes_it(tmp_path):
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text('{"cluster_name": "c", "max_workers": 2, "provider": {"type": "aws"}, "date": "2026-99-99"}')
    assert read_autoscaler_config(file)["max_workers"] == 2


def test_gpus_are_counted_from_device_files_if_the_driver_lists_none(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(resources, "ROOT", tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", missing_library)
    assert num_visible_gpus() is None
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert num_visible_gpus() == 2
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)
    assert num_visible_gpus() == 1


def missing_library(name):
    raise OSError(f"{name}: cannot open shared object file")


def test_gpus_are_counted_by_the_management_library_if_there_are_no_device_files(tmp_path, monkeypatch):
    class Library:
        def nvmlInit_v2(self):
            return 0

        def nvmlDeviceGetCount_v2(self, count):
            count._obj.value = 3
            return 0

        nvmlShutdown = nvmlInit_v2

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(resources, "ROOT", tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    assert num_visible_gpus() == 3
