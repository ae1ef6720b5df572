"""What a trial takes is held against each node, not against the sum of all."""

import pytest

from flexres_tune.cluster.resources import ClusterResources, NodeResources, TrialResources, trial_resources
from flexres_tune.errors import DeviceError
from flexres_tune.spec import Resources


def cluster(*nodes):
    """Nodes of (CPUs, GPUs) each."""
    sizes = tuple(NodeResources(num_gpus, num_cpus) for num_cpus, num_gpus in nodes)
    return ClusterResources(sum(n[0] for n in nodes), sum(n[1] for n in nodes), len(nodes), is_local=False, nodes=sizes)


@pytest.mark.parametrize(
    ("nodes", "cpu", "gpu", "num_concurrent"),
    [
        ([(8, 1), (8, 2)], 1, 0.25, 12),
        ([(8, 1), (8, 2)], 1, 0.4, 6),  # two to a GPU; what is left of three GPUs makes no seventh
        ([(8, 1), (8, 2)], 1, 2, 1),  # only the second node holds one
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


def test_gpus_of_two_nodes_hold_no_trial_of_two():
    with pytest.raises(DeviceError) as refused:
        trial_resources(Resources(cpu=1, gpu=2), cluster((8, 1), (4, 1)), None)
    assert str(refused.value) == (
        "resources_per_trial must fit on one node, but got 1 CPU and 2 GPUs, and a node has 8 CPUs and 1 GPU or "
        "4 CPUs and 1 GPU; use --set resources_per_trial.gpu=1"
    )


def test_cpus_of_another_node_are_of_no_use_to_a_gpu():
    with pytest.raises(DeviceError, match=r"got 16 CPUs and 1 GPU, .* use --set resources_per_trial.cpu=4$"):
        trial_resources(Resources(cpu=16, gpu=1), cluster((64, 0), (4, 1)), None)


def test_auto_gives_a_trial_the_cpus_beside_its_gpu_and_none_of_the_head():
    share = trial_resources(Resources(), cluster((64, 0), (16, 4), (8, 2)), None)
    assert (share.cpu, share.gpu, share.num_concurrent) == (4, 1, 6)
    assert trial_resources(Resources(gpu=0.5), cluster((16, 4)), None).cpu == 2
    assert trial_resources(Resources(), cluster((3, 0), (2, 0)), None).num_concurrent == 5


def test_trials_that_ran_out_of_memory_get_a_gpu_each_where_one_is_with_their_cpus():
    share = TrialResources(cpu=4, gpu=0.25, num_concurrent=8, reason="")
    assert share.whole_device(cluster((16, 2), (4, 2))).num_concurrent == 3
