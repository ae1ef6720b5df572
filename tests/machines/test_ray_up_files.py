"""cluster/*.yaml for `ray up`, checked against the models of Ray, EC2 and Compute Engine, offline."""

import copy
import importlib.metadata
import json
import os
import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
FILES = ("gpu.yaml", "gcp.yaml", "onprem.yaml")
VALUES = {
    "PROJECT-YOURS": "my-project",
    "FOLDER-YOURS": "/srv/flexres_tune",
    "HEAD-YOURS": "10.0.0.1",
    "WORKERS-YOURS": "10.0.0.2, 10.0.0.3",
    "USER-YOURS": "me",
    "KEY-YOURS": "~/.ssh/id_ed25519",
}


def read(name, values=VALUES):
    """A cluster file as a mapping, with the user's values filled in as its header says."""
    text = (ROOT / "cluster" / name).read_text()
    for place, value in values.items():
        text = text.replace(place, value)
    return yaml.safe_load(text)


def prepare(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(name):
    prepared = prepare(read(name))
    assert prepared["head_node_type"] in prepared["available_node_types"]


@pytest.mark.parametrize("name", FILES)
def test_misspelt_key_is_refused(name):
    """Ray's schema is closed, so the test above has checked every key."""
    import jsonschema

    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuts"):
        prepare(read(name) | {"idle_timeout_minuts": 5})


def test_file_without_node_resources_is_accepted_too():
    """Ray looks up at AWS what an instance type has if the file does not say it."""
    config = read("gpu.yaml")
    for node_type in config["available_node_types"].values():
        node_type["resources"] = {}
    assert prepare(config)


@pytest.mark.parametrize("name", [*FILES, "slurm.sh", "kuberay.yaml"])
def test_header_says_what_it_starts_costs_and_how(name):
    header = (ROOT / "cluster" / name).read_text().split("\ncluster_name", 1)[0]
    for word in ("Cost:", "Once", "Start", "Watch:", "Fetch:", "Stop:", "Secure by default:"):
        assert word in header, word


@pytest.mark.parametrize("path", sorted((ROOT / "cluster").iterdir()), ids=lambda path: path.name)
def test_no_file_holds_a_credential_or_an_id_of_somebody(path):
    text = path.read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|\b(ami|sg|fs|subnet|vpc|i)-[0-9a-f]{8,}\b", text)


@pytest.mark.parametrize("name", FILES)
def test_every_call_needs_the_token_and_only_ray_listens(name):
    config = read(name)
    if config["provider"]["type"] == "local":
        assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    else:  # the head makes the token, and its autoscaler copies it to the workers
        assert config["cluster_synced_files"] == ["~/.ray/auth_token"]
        assert "~/venv/bin/ray get-auth-token --generate > /dev/null" in config["head_setup_commands"]
    head, worker = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    for command in (head, worker):
        assert "RAY_AUTH_MODE=token" in command
        assert "RAY_memory_monitor_refresh_ms=0" in command
    assert "--include-dashboard=false" in head
    assert "--dashboard-host=127.0.0.1" in head
    installs = " ".join(config.get("setup_commands", [])) + (ROOT / "requirements.txt").read_text()
    assert not re.search(r"ray\[(default|client|all)|grpcio", installs), "Ray would open its client's port, too"


@pytest.mark.parametrize("name", FILES)
def test_mounted_files_exist_and_are_not_the_whole_tree(name):
    for local in read(name)["file_mounts"].values():
        assert local.startswith("~") or (ROOT / local).exists(), local
        assert local not in (".", "./", "~", "~/"), "the whole tree is not sent"


@pytest.mark.parametrize("name", ["gpu.yaml", "gcp.yaml"])
def test_trials_of_the_published_sweeps_fill_a_worker(name):
    """Four trials of {cpu: 4, gpu: 0.25} per GPU, as the header says; the head trains nothing."""
    types = read(name)["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    for key in ("gpu_spot", "gpu_on_demand"):
        assert types[key]["resources"] == {"CPU": 16, "GPU": 1}
        assert types[key]["min_workers"] == 0


@pytest.mark.parametrize("name", ["gpu.yaml", "gcp.yaml"])
def test_spot_is_requested_first_and_on_demand_if_the_cloud_refuses(name):
    """By Ray's own scheduler (autoscaler v2), which decides between the two types."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    types = AutoscalingConfig(prepare(read(name)), skip_content_hash=True).get_node_type_configs()
    trials = [{"CPU": 4, "GPU": 0.25}] * 8

    def choose(availability):
        request = SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=types,
            max_num_nodes=9,
            resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(trial) for trial in trials]),
            cloud_resource_availabilities=availability,
            recoverable_resource_availabilities=availability,
        )
        reply = ResourceDemandScheduler(event_logger=None).schedule(request)
        assert not reply.infeasible_resource_requests
        return {launch.instance_type: launch.count for launch in reply.to_launch if launch.instance_type != "head"}

    assert choose({}) == {"gpu_spot": 2}
    assert choose({"gpu_spot": 0.0}) == {"gpu_on_demand": 2}


def test_constraints_satisfy_requirements_and_are_what_the_files_name():
    pins = dict(
        line.split("==") for line in (ROOT / "cluster/constraints.txt").read_text().splitlines() if "==" in line
    )
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line.split("#")[0].strip())
            if requirement.name in pins:
                assert requirement.specifier.contains(pins[requirement.name]), line
    assert set(pins) == {"ray", "torch", "torchvision"}
    assert f'rayVersion: "{pins["ray"]}"' in (ROOT / "cluster/kuberay.yaml").read_text()


def node_configs(name):
    return {key: value["node_config"] for key, value in read(name)["available_node_types"].items()}


def test_ec2_knows_every_key_and_instance_type():
    """botocore's model of RunInstances is EC2's own: it refuses unknown keys, wrong types and unknown values."""
    pytest.importorskip("botocore", reason="botocore, which .ci/run installs, holds EC2's model")
    import botocore.session
    from botocore.validate import ParamValidator

    model = botocore.session.get_session().get_service_model("ec2")
    shape = model.operation_model("RunInstances").input_shape
    for key, config in node_configs("gpu.yaml").items():
        report = ParamValidator().validate(config | {"MinCount": 1, "MaxCount": 1}, shape)
        assert not report.has_errors(), f"{key}: {report.generate_report()}"
        assert config["InstanceType"] in model.shape_for("InstanceType").enum
        assert config["MetadataOptions"]["HttpTokens"] == "required"
        assert config["MetadataOptions"]["HttpTokens"] in model.shape_for("HttpTokensState").enum
        assert config["ImageId"].startswith("resolve:ssm:/aws/service/deeplearning/ami/"), "looked up, not pasted"
        assert all(
            disk["Ebs"]["VolumeType"] in model.shape_for("VolumeType").enum for disk in config["BlockDeviceMappings"]
        )
    assert (
        node_configs("gpu.yaml")["gpu_spot"]["InstanceMarketOptions"]["MarketType"]
        in model.shape_for("MarketType").enum
    )
    assert ParamValidator().validate({"MinCount": 1, "MaxCount": 1, "InstanceTyp": "x"}, shape).has_errors()


def test_compute_engine_knows_every_key():
    """The discovery document that Google's own client carries contains the schema of an instance."""
    googleapiclient = pytest.importorskip(
        "googleapiclient", reason="google-api-python-client, which .ci/run installs, holds Compute Engine's model"
    )
    document = Path(googleapiclient.__file__).parent / "discovery_cache/documents/compute.v1.json"
    schemas = json.loads(document.read_text())["schemas"]

    def problems(value, schema, where):
        if "$ref" in schema:
            schema = schemas[schema["$ref"]]
        if isinstance(value, dict):
            known = schema.get("properties", {})
            for key, inner in value.items():
                if key not in known:
                    yield f"{where}.{key} is unknown"
                else:
                    yield from problems(inner, known[key], f"{where}.{key}")
        elif isinstance(value, list):
            for inner in value:
                yield from problems(inner, schema["items"], where)
        elif "enum" in schema and value not in schema["enum"]:
            yield f"{where}: {value} is none of {schema['enum']}"

    for key, config in node_configs("gcp.yaml").items():
        assert list(problems(config, {"$ref": "Instance"}, key)) == []
    assert list(problems({"machineTyp": "x"}, {"$ref": "Instance"}, "x")) == ["x.machineTyp is unknown"]


def test_ray_launches_the_nodes_on_an_imitated_ec2(monkeypatch, tmp_path):
    """Ray's own AWS provider against moto: it makes a key and a group, and starts a node of each type as written."""
    moto = pytest.importorskip("moto", reason="moto, which .ci/run installs, plays EC2")
    import boto3

    for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    os.mkdir(tmp_path / ".ssh")
    with moto.mock_aws():
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

        from flexres_tune.submit.accounts import aws
        from flexres_tune.submit.accounts.account import prepare as prepare_account
        from flexres_tune.submit.cluster_file import read_cluster_file

        account = aws.find_account(read_cluster_file(ROOT / "cluster/gpu.yaml"))
        prepare_account(account, print, lambda question: True, pause=lambda seconds: None)
        config = AWSNodeProvider.bootstrap_config(prepare(read("gpu.yaml", {})))
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for key, node_type in config["available_node_types"].items():
            provider.create_node(copy.deepcopy(node_type["node_config"]), {"ray-node-type": key}, 1)
        ec2 = boto3.client("ec2", "us-west-2")
        reservations = ec2.describe_instances()["Reservations"]
        (group,) = ec2.describe_security_groups(GroupNames=["ray-autoscaler-flexres-tune"])["SecurityGroups"]
        roles = {role["RoleName"] for role in boto3.client("iam").list_roles()["Roles"]}
    instances = [instance for reservation in reservations for instance in reservation["Instances"]]
    assert {
        (i["InstanceType"], i.get("InstanceLifecycle"), i["IamInstanceProfile"]["Arn"].rpartition("/")[2])
        for i in instances
    } == {
        ("m7i.xlarge", None, "flexres-tune-head"),
        ("g6.4xlarge", None, "flexres-tune-worker"),
        ("g6.4xlarge", "spot", "flexres-tune-worker"),
    }
    for instance in instances:
        assert [each["GroupId"] for each in instance["SecurityGroups"]] == [group["GroupId"]]
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
    open_to_the_world = [rule for rule in group["IpPermissions"] if rule["IpRanges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in open_to_the_world] == [(22, 22)]
    assert roles == {"flexres-tune-head", "flexres-tune-worker"}, "Ray makes no role with more rights"


def test_installed_ray_is_the_one_the_files_pin():
    """Otherwise these tests check the files against another version than a cluster installs."""
    pinned = re.search(r"ray==(\S+)", (ROOT / "cluster/constraints.txt").read_text())[1]
    installed = importlib.metadata.version("ray")
    if installed != pinned:
        pytest.skip(f"Ray {installed} is installed here, and a cluster installs {pinned}")
    assert installed == pinned
