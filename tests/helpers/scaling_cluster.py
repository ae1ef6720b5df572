"""A cluster of fake machines with one GPU each, which Ray's autoscaler starts and ends: on this machine, as processes.

`python scaling_cluster.py up FOLDER NUM_WORKERS IDLE_MINUTES EPOCH_S`, then `watch FOLDER`, which writes the number of GPUs
per half second until it is killed. Only for an emulated machine: the processes are not told from those of another Ray.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # of Ray's provider for fake machines
# As `external`: for the type fake_multinode, Ray's autoscaler reads defaults from a file that its packages lack, and ends.
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
LISTS = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter"),
)


def make_config(num_workers, idle_minutes):
    """What `ray up` would write for such a cluster."""
    types = {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": num_workers},
    }
    return {key: [] for key in LISTS} | {
        "cluster_name": "fake",
        "max_workers": num_workers,
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": idle_minutes,
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,  # there is nothing to install
            "disable_launch_config_check": True,
        },
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "available_node_types": types,
        "head_node_type": "ray.head.default",
    }


def up(folder, num_workers, idle_minutes, epoch_s):
    """Start the head and its autoscaler. The driver reads the same file in its home."""
    text = json.dumps(make_config(num_workers, idle_minutes))
    for file in (folder / "cluster.json", Path.home() / "ray_bootstrap_config.yaml"):
        file.write_text(text)
    settings = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_memory_monitor_refresh_ms": "0",
        "FLEXRES_TUNE_TRIAL_HOOK": "helpers.slow_motion:apply",
        "SLOW_MOTION": str(folder / "trials.txt"),
        "SLOW_MOTION_EPOCH_S": str(epoch_s),
        "PYTHONPATH": f"{Path(__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}",
    }
    command = ["ray", "start", "--head", "--num-cpus=0", "--include-dashboard=false", "--disable-usage-stats"]
    command += [f"--autoscaling-config={folder / 'cluster.json'}", f"--object-store-memory={100 * 2**20}"]
    subprocess.run(command, env=os.environ | settings, check=True)


def watch(folder):
    """One line per half second: the time, and the GPUs of the machines that are there.

    It is no driver: while another driver is connected, a sweep ends no machine.
    """
    from ray._private.services import canonicalize_bootstrap_address_or_die
    from ray._raylet import GcsClient
    from ray.autoscaler.v2.sdk import get_cluster_resource_state
    from ray.core.generated.autoscaler_pb2 import DEAD

    client = GcsClient(address=canonicalize_bootstrap_address_or_die("auto"))
    with open(folder / "gpus.txt", "w", buffering=1) as file:
        while True:
            nodes = get_cluster_resource_state(client).node_states
            gpus = sum(dict(node.total_resources).get("GPU", 0) for node in nodes if node.status != DEAD)
            file.write(f"{time.time()} {gpus:g}\n")
            time.sleep(0.5)


def num_gpus(folder):
    """GPUs of the machines that were there at the last look."""
    return float((folder / "gpus.txt").read_text().splitlines()[-1].split()[1])


def read_tail(folder, num_workers):
    """GPU-seconds (idle, in all) from the moment when trials run on all GPUs for the last time."""
    events = sorted(
        (float(at), 1 if sign == "+" else -1)
        for at, sign, _ in (line.split() for line in (folder / "trials.txt").read_text().splitlines())
    )
    running, begin = 0, events[0][0]
    for at, change in events:
        if running >= num_workers:
            begin = at
        running += change
    samples = [tuple(map(float, line.split())) for line in (folder / "gpus.txt").read_text().splitlines()]
    total = idle = 0.0
    for (at, gpus), (following, _) in itertools.pairwise(samples):
        if at >= begin:
            running = sum(change for when, change in events if when <= at)
            total += gpus * (following - at)
            idle += max(0.0, gpus - running) * (following - at)
    return idle, total


if __name__ == "__main__":
    action, where, *numbers = sys.argv[1:]
    if action == "up":
        up(Path(where), int(numbers[0]), *map(float, numbers[1:]))
    else:
        watch(Path(where))
