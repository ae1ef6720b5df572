"""cluster/kuberay.yaml, checked against Kubernetes' own schemas and the fields of KubeRay's API reference (v1.6)."""

from pathlib import Path

import pytest
import yaml

FILE = Path(__file__).parents[2] / "cluster" / "kuberay.yaml"

# docs.ray.io, "KubeRay CRD API reference": of each type, the fields that this file uses. KubeRay's own schema is in no
# package.
RAY_JOB_FIELDS = {"entrypoint", "submissionMode", "shutdownAfterJobFinishes", "backoffLimit", "rayClusterSpec"}
RAY_CLUSTER_FIELDS = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
HEAD_FIELDS = {"rayStartParams", "template"}
WORKER_FIELDS = HEAD_FIELDS | {"groupName", "replicas", "minReplicas", "maxReplicas"}


@pytest.fixture
def documents():
    text = FILE.read_text().replace("IMAGE-YOURS", "registry.example/flexres_tune").replace("CLASS-YOURS", "nfs")
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.fixture
def cluster(documents):
    return documents["RayJob"]["spec"]["rayClusterSpec"]


def pods(cluster):
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


def test_kubernetes_accepts_the_volume_the_policy_and_the_pods(documents, cluster):
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate, which .ci/run installs, holds Kubernetes' schemas"
    )
    version = kubernetes_validate.latest_version()
    for kind in ("PersistentVolumeClaim", "NetworkPolicy"):
        kubernetes_validate.validate(documents[kind], version, strict=True)
    for template in pods(cluster):
        metadata = {"name": "x", **template["metadata"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        kubernetes_validate.validate(pod, version, strict=True)
        pod["spec"] = {**pod["spec"], "restartPolici": "Never"}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(pod, version, strict=True)


def test_kuberay_knows_every_field(documents, cluster):
    assert set(documents["RayJob"]["spec"]) <= RAY_JOB_FIELDS
    assert set(cluster) <= RAY_CLUSTER_FIELDS
    assert set(cluster["headGroupSpec"]) <= HEAD_FIELDS
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKER_FIELDS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "Kubernetes wants strings"


def test_secure_by_default(documents, cluster):
    assert cluster["authOptions"] == {"mode": "token"}
    labels = documents["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    for template in pods(cluster):
        assert labels.items() <= template["metadata"]["labels"].items(), "the policy covers every pod"
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
    from_operator = documents["NetworkPolicy"]["spec"]["ingress"][1]
    assert [port["port"] for port in from_operator["ports"]] == [8265]


def test_workers_have_the_gpu_and_all_pods_the_results(documents, cluster):
    claim = documents["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    head, worker = (template["spec"] for template in pods(cluster))
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    for spec in (head, worker):
        assert spec["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert head["restartPolicy"] == "Never", "SidecarMode requires it"


def test_worker_begins_only_if_the_doctor_passes_its_gpu(cluster):
    """Kubernetes starts the container of Ray only after the doctor has ended with 0; both have the same GPU."""
    head, worker = (template["spec"] for template in pods(cluster))
    assert "initContainers" not in head
    [doctor] = worker["initContainers"]
    assert doctor["command"] == ["python", "-m", "flexres_tune.doctor", "--here", "--speed"]
    assert doctor["image"] == worker["containers"][0]["image"]
    assert doctor["resources"] == worker["containers"][0]["resources"]


def test_sweep_of_the_entrypoint_exists(documents):
    entrypoint = documents["RayJob"]["spec"]["entrypoint"].split()
    sweep = next(word for word in entrypoint if word.endswith(".yaml"))
    assert (FILE.parents[1] / "sweeps" / Path(sweep).name).is_file()
    assert entrypoint[entrypoint.index("--storage") + 1] == "/results"
