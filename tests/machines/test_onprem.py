"""From `ray up cluster/onprem.yaml` to `ray down`, over SSH, on three emulated machines."""

import re

import pytest
from helpers.factories import make_sweep_yaml

from flexres_tune.results import open_results

pytestmark = pytest.mark.cluster

SWEEP = make_sweep_yaml(name="spread", seeds=list(range(6)), parameters={"lr": {"values": [0.05, 0.1]}})


def on_head(machines, command):
    """As typed on a laptop: `ray exec`, with the checkout's Python on the head."""
    inside = f"cd {machines.shared} && RAY_AUTH_MODE=token .venv/bin/python -m {command}"
    return machines.on("cli", f"ray exec {machines.lab}/onprem.yaml '{inside}'")


def test_doctor_finds_no_problems(cluster):
    status, output = on_head(cluster, "flexres_tune.doctor --dataset digits --storage results")
    assert status == 0, output
    assert f"3 nodes at {cluster.head}:6379: no problems found" in output
    assert "written, and shared" in output


def test_folder_that_only_the_head_has_is_refused_before_a_trial_starts(cluster):
    (cluster.shared / "spread.yaml").write_text(SWEEP)
    status, output = on_head(cluster, "flexres_tune.run spread.yaml --profile none --storage /root/results")
    assert status != 0
    assert f"all 3 nodes must share it, but 2 do not: {', '.join(cluster.workers)}" in output
    assert "1/12" not in output


def test_sweep_spreads_over_all_nodes_and_its_tables_are_read_on_the_head(cluster):
    (cluster.shared / "spread.yaml").write_text(SWEEP)
    status, output = on_head(cluster, "flexres_tune.run spread.yaml --profile none")
    assert status == 0, output
    rows = open_results(cluster.shared / "results").trials("spread").to_pylist()
    assert [row["status"] for row in rows] == ["completed"] * 12
    assert {row["node_ip"] for row in rows} == {cluster.head, *cluster.workers}
    assert {row["hostname"] for row in rows} == {"n1", "n2", "n3"}
    status, output = on_head(cluster, "flexres_tune.query leaderboard --sweep spread")
    assert status == 0, output
    assert "lr=0.1 is best" in output or "0.1" in output


def test_only_ray_and_ssh_listen(cluster):
    """No dashboard (8265), no Ray client (10001), no agent: the header of cluster/onprem.yaml names the open ports."""
    for name in ("n1", "n2", "n3"):
        _, output = cluster.on(name, "ss -Hltnp")
        listening = [(line.split()[3], re.search(r'"([^"]+)"', line)[1]) for line in output.splitlines()]
        assert {process.split("::")[0] for _, process in listening} <= {"sshd", "gcs_server", "raylet", "ray"}, output
        ports = {address.rpartition(":")[2] for address, _ in listening}
        assert ports.isdisjoint({"8265", "10001"})
        assert ("6379" in ports) == (name == "n1")


def test_wrong_token_is_refused(cluster):
    command = f"cd {cluster.shared} && .venv/bin/python -m flexres_tune.doctor --address {cluster.head}:6379"
    for token in ("RAY_AUTH_MODE=token RAY_AUTH_TOKEN=0123456789abcdef0123456789abcdef", "RAY_AUTH_MODE=disabled"):
        status, output = cluster.on("cli", command.replace(".venv", f"timeout 60 env {token} .venv"))
        assert status == 2, output
        assert "token" in output.lower(), output
        assert "Traceback" not in output


def test_down_leaves_no_process(cluster):
    status, output = cluster.on("cli", f"ray down -y {cluster.lab}/onprem.yaml")
    assert status == 0, output
    for name in ("n1", "n2", "n3"):
        cluster.wait_for(lambda name=name: not cluster.ray_processes(name), what=f"{name} without Ray", timeout_s=240)
