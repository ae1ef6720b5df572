"""From an empty account of an imitated AWS to fetched tables, with cluster/gpu.yaml as it lies in the repository."""

from pathlib import Path

import pytest
from helpers.factories import make_sweep_yaml
from helpers.imitated_aws import ImitatedAws

from flexres_tune.results import open_results

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
FILE = "cluster/gpu.yaml"
SWEEP = make_sweep_yaml(
    name="cloud", seeds=[0, 1], parameters={"lr": {"values": [0.05]}}, resources_per_trial={"cpu": 4, "gpu": 0.25}
)


@pytest.fixture(scope="module")
def aws(machines):
    with ImitatedAws(machines) as aws:
        yield aws


def on_laptop(machines, command, timeout_s=600):
    return machines.on("cli", f". ~/.bashrc; cd {ROOT} && {command}", timeout_s)


def test_three_commands_lead_from_an_empty_account_to_tables(machines, aws):
    submit = f"python -m flexres_tune.submit {FILE}"
    status, output = on_laptop(machines, "python -m flexres_tune.submit --prepare cluster/gpu.yaml --yes")
    assert status == 0, output
    assert "created: role and instance profile flexres-tune-head" in output
    status, output = on_laptop(machines, "python -m flexres_tune.submit --prepare cluster/gpu.yaml --yes")
    assert (status, "nothing to do" in output) == (0, True), output

    status, output = on_laptop(machines, f"ray up -y {FILE}")
    assert status == 0, output
    (head,) = aws.instances()
    assert (head["type"], head["spot"], head["groups"]) == ("m7i.xlarge", False, ["ray-autoscaler-flexres-tune"])
    assert head["profile"].endswith("instance-profile/flexres-tune-head")
    assert head["image"].startswith("resolve:ssm:/aws/service/deeplearning/")
    assert "s3://flexres-tune-123456789012/results" in output
    assert (machines.lab / "n1/home/results-address").read_text() == "s3://flexres-tune-123456789012/results\n"
    assert "install -y -qq python3-venv tmux" in (machines.lab / "n1/home/apt-get.calls").read_text()

    sweep = machines.lab / "cloud.yaml"
    sweep.write_text(SWEEP)
    status, output = on_laptop(machines, f"{submit} {sweep} --profile none")
    assert status == 0, output
    worker = aws.players["n2"]
    assert (worker["type"], worker["spot"]) == ("g6.4xlarge", True)
    assert worker["profile"].endswith("instance-profile/flexres-tune-worker")
    assert worker["groups"] == head["groups"]

    fetched = machines.lab / "fetched"
    status, output = on_laptop(machines, f"{submit} {sweep} --fetch --into {fetched}")
    assert status == 0, output
    rows = open_results(fetched).trials("cloud").to_pylist()
    assert [row["status"] for row in rows] == ["completed"] * 2
    assert {row["hostname"] for row in rows} == {"n2"}, "the head trains nothing"

    status, output = on_laptop(machines, f"ray down -y {FILE}")
    assert status == 0, output
    assert "the results stay in s3://flexres-tune-123456789012/results" in output
    assert {instance["state"] for instance in aws.instances()} == {"terminated"}
    status, output = on_laptop(machines, "python -m flexres_tune.submit --destroy cluster/gpu.yaml --yes")
    assert status == 0, output
