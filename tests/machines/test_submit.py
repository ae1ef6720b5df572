"""From a laptop to a cluster and back: `submit`, a lid that closes, `--attach`, a lost connection, `--fetch`."""

import re
from pathlib import Path

import pytest
from helpers.factories import make_sweep_yaml

from flexres_tune.results import open_results

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
SWEEP = make_sweep_yaml(
    name="laptop", base={"epochs": 60, "batch_size": 32}, seeds=list(range(12)), parameters={"lr": {"values": [0.05]}}
)


def test_run_outlives_the_laptop_and_is_picked_up_and_fetched(cluster):
    sweep = cluster.lab / "mein Lauf für n1.yaml"
    sweep.write_text(SWEEP)
    command = f"python -m flexres_tune.submit {cluster.lab}/onprem.yaml '{sweep}'"
    submit, pid = f"cd {ROOT} && {command}", cluster.lab / "submit.pid"
    laptop = cluster.start("cli", f"cd {ROOT} && echo $$ >{pid} && exec {command} --profile none")
    shown = []
    for line in laptop.stdout:
        shown.append(line)
        if re.match(r" 1/12 ", line):
            break
    assert " 1/12 " in shown[-1], "".join(shown)
    cluster.on("cli", f"kill -9 $(cat {pid})")  # the lid
    laptop.wait(timeout=60)
    laptop.stdout.close()

    status, output = cluster.on("cli", submit)
    assert status == 2, output
    assert "laptop is already running on this cluster" in output

    again = cluster.start("cli", f"{submit} --attach")
    output = again.stdout.readline()
    assert not (cluster.lab / "n1/home/.flexres_tune/laptop/status").exists(), (
        "the run was to be cut off from its watcher"
    )
    cluster.do("cut", "cli")
    while "the connection to the head was lost" not in output:  # ssh closes a silent connection after 15 s
        line = again.stdout.readline()
        assert line, output
        output += line
    cluster.do("mend", "cli")
    output += again.stdout.read()  # communicate() would lose what stands in its buffer
    assert again.wait(timeout=60) == 0, output
    assert "the connection to the head was lost; trying again" in output
    finished = re.findall(r"^ ?(\d+)/12  completed", output, re.MULTILINE)
    assert finished == [str(n) for n in range(1, 13)], output  # each line once, the first ones too

    fetched = cluster.lab / "meine Tabellen"
    status, output = cluster.on("cli", f"{submit} --fetch --into '{fetched}'")
    assert status == 0, output
    rows = open_results(fetched).trials("laptop").to_pylist()
    assert [row["status"] for row in rows] == ["completed"] * 12
    assert {row["node_ip"] for row in rows} == {cluster.head, *cluster.workers}
    assert (fetched / "laptop/report.html").exists()
    assert not (fetched / "laptop/checkpoints").exists()
    status, output = cluster.on("cli", f"cd {ROOT} && python -m flexres_tune.query leaderboard --results '{fetched}'")
    assert status == 0, output


def test_cluster_that_is_down_is_named(cluster):
    """The last test of this module: the cluster is of no use after it."""
    status, output = cluster.on("cli", f"ray down -y {cluster.lab}/onprem.yaml")
    assert status == 0, output
    sweep = cluster.lab / "x.yaml"
    sweep.write_text(SWEEP)
    status, output = cluster.on(
        "cli", f"cd {ROOT} && python -m flexres_tune.submit {cluster.lab}/onprem.yaml {sweep} --attach"
    )
    assert status == 2, output
    assert "cluster flexres-tune must be up, but is not" in output
    assert "Traceback" not in output
