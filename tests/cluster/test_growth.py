"""How many trials a cluster that scales is asked to run at once."""

from pathlib import Path

import yaml

from flexres_tune.cluster.resources import (
    ClusterResources,
    NodeResources,
    max_nodes,
    max_resources,
    read_autoscaler_config,
    trial_resources,
)
from flexres_tune.spec import Resources

GPU_YAML = yaml.safe_load((Path(__file__).parents[2] / "cluster/gpu.yaml").read_text())


def test_cluster_that_is_only_a_head_yet_counts_the_workers_it_may_start():
    """Spot and on-demand are two types of the same 8 workers, not of 16."""
    assert max_resources({"CPU": 0}, GPU_YAML) == {"CPU": 128, "GPU": 8}


def test_trials_of_the_published_sweeps_fill_it():
    resources = max_resources({}, GPU_YAML)
    cluster = ClusterResources(resources["CPU"], resources["GPU"], num_nodes=1, is_local=False)
    assert trial_resources(Resources(cpu=4, gpu=0.25), cluster, None).num_concurrent == 32


def test_larger_workers_come_first_where_not_all_fit():
    types = {
        "head": {"resources": {"CPU": 2}},
        "small": {"resources": {"CPU": 4}, "max_workers": 9},
        "large": {"resources": {"CPU": 8, "GPU": 4}, "max_workers": 2},
    }
    config = {"head_node_type": "head", "max_workers": 3, "available_node_types": types}
    assert max_resources({}, config) == {"CPU": 2 + 2 * 8 + 4, "GPU": 8}


def test_nodes_of_a_cluster_that_scales_are_those_that_may_come():
    nodes = max_nodes([NodeResources(0, 0)], GPU_YAML)
    assert len(nodes) == 9 and set(nodes[1:]) == {NodeResources(num_gpus=1, num_cpus=16)}
    there = [NodeResources(2, 8), NodeResources(1, 8)]
    assert max_nodes(there, None) == tuple(there)


def test_cluster_of_fixed_machines_is_what_it_is():
    now = {"CPU": 6.0, "GPU": 2.0, "memory": 1e9}
    assert max_resources(now, None) == {"CPU": 6, "GPU": 2}
    onprem = {"provider": {"type": "local"}, "max_workers": 2}
    onprem |= {"head_node_type": "n", "available_node_types": {"n": {"resources": {}, "max_workers": 2}}}
    assert max_resources(now, onprem) == {"CPU": 6, "GPU": 2}


def test_machine_that_is_no_head_has_no_such_file(tmp_path):
    assert read_autoscaler_config(tmp_path / "ray_bootstrap_config.yaml") is None
