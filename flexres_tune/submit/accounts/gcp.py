"""Google Cloud: the project's number in the cluster file, two service accounts, and the bucket of the results.

The head's account may start and end machines of the project and hand them the workers' account. Both reach one bucket,
`flexres-tune-PROJECT`. Ray makes an account of its own at each `ray up`, which no machine of this file uses.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flexres_tune.storage import atomic_write_text
from flexres_tune.submit.accounts.account import Account, CloudError, Item
from flexres_tune.submit.cluster_file import ClusterFile

PROJECT_PLACE = "PROJECT-YOURS"  # in cluster/gcp.yaml
HEAD_ACCOUNT, WORKER_ACCOUNT = "flexres-tune-head", "flexres-tune-worker"
SERVICES = ("cloudresourcemanager", "iam", "compute", "storage")  # that Ray and this module call
OBJECT_ROLE = "roles/storage.objectAdmin"
MACHINE_ROLE = "roles/compute.instanceAdmin.v1"
USER_ROLE = "roles/iam.serviceAccountUser"
NOT_ENABLED = ("SERVICE_DISABLED", "accessNotConfigured")  # reasons that newer and older services give
POLICY_VERSION = 3  # with an earlier one, the conditions of other bindings would be lost
ENABLE_PERIOD_S = 2.0  # between two looks whether the services are enabled


def fill_project(path: Path, project: str | None) -> bool:
    """Write the project into a cluster file that has the placeholder; returns whether it had.

    Ray reads the project from the file only. Raises CloudError if the credentials name none.
    """
    text = path.read_text()
    if PROJECT_PLACE not in text:
        return False
    if not project:
        raise CloudError(
            f"{path}: needs the id of a Google Cloud project, but the credentials name none; type "
            "`gcloud config set project ID`, or set GOOGLE_CLOUD_PROJECT"
        )
    atomic_write_text(path, text.replace(PROJECT_PLACE, project))
    return True


def find_credentials() -> tuple[Any, str | None]:
    """(credentials of the user, id of the project that they name). Raises CloudError if there are none."""
    try:
        import google.auth
        import googleapiclient  # noqa: F401
    except ImportError:
        raise CloudError(
            "google-api-python-client must be installed to use Google Cloud, but is not; "
            "pip install google-api-python-client"
        ) from None
    try:
        return google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    except google.auth.exceptions.DefaultCredentialsError:
        raise CloudError(
            "Google Cloud credentials must be set, but are not; type `gcloud auth application-default login`"
        ) from None


def find_account(cluster: ClusterFile, api: Any) -> Account:
    """The project of the cluster file. `api(name, version)` returns a client of one of Google's services."""
    project = cluster.project
    match = re.fullmatch(r"gs://([^/?]+)(/.*)?", cluster.storage)
    if not match:
        raise CloudError(
            f"{cluster.path}: provider.flexres_tune.storage must be gs://BUCKET/FOLDER to be prepared, "
            f"but is {cluster.storage}"
        )
    bucket = match[1]
    members = [f"serviceAccount:{name}@{project}.iam.gserviceaccount.com" for name in (HEAD_ACCOUNT, WORKER_ACCOUNT)]
    return Account(
        name=f"Google Cloud project {project}",
        items=(
            _services_item(api, project),
            _service_account_item(api, project, HEAD_ACCOUNT),
            _service_account_item(api, project, WORKER_ACCOUNT),
            _binding_item(_ProjectPolicy(api, project), MACHINE_ROLE, members[:1]),
            _binding_item(_AccountPolicy(api, project, WORKER_ACCOUNT), USER_ROLE, members[:1]),
            _bucket_item(api, project, bucket, cluster.region),
            _binding_item(_BucketPolicy(api, bucket), OBJECT_ROLE, members),
        ),
        results=cluster.storage,
        how_to_delete=f"gcloud storage rm --recursive gs://{bucket}",
        running_costs=f"the bucket costs about 0.02 USD per GB and month; machines cost what the header of "
        f"{cluster.path} says",
    )


@contextmanager
def explain_errors() -> Iterator[None]:
    """Turn errors of Google's client into a CloudError of one line."""
    from googleapiclient.errors import HttpError

    try:
        yield
    except HttpError as error:
        text = " ".join(str(error.reason or error).split())
        raise CloudError(f"Google Cloud refuses ({error.status_code}): {text}") from error


def _get(request: Any) -> dict[str, Any] | None:
    """The answer to a request; None if there is no such thing, or if its service is not enabled yet."""
    from googleapiclient.errors import HttpError

    with explain_errors():
        try:
            return request.execute()
        except HttpError as error:
            if error.status_code == 404 or any(name in str(error.error_details) for name in NOT_ENABLED):
                return None
            raise


def _call(request: Any) -> dict[str, Any]:
    with explain_errors():
        return request.execute()


def _services_item(api: Any, project: str) -> Item:
    usage = api("serviceusage", "v1")
    services, operations = usage.services(), usage.operations()
    names = [f"{name}.googleapis.com" for name in SERVICES]

    def is_ready() -> bool:
        found = _call(
            services.batchGet(
                parent=f"projects/{project}", names=[f"projects/{project}/services/{name}" for name in names]
            )
        )
        return sum(service.get("state") == "ENABLED" for service in found.get("services", ())) == len(names)

    def create() -> None:
        """The items that follow are refused until all services are enabled, which takes a while."""
        operation = _call(services.batchEnable(parent=f"projects/{project}", body={"serviceIds": names}))
        while not operation.get("done"):
            time.sleep(ENABLE_PERIOD_S)
            operation = _call(operations.get(name=operation["name"]))
        if "error" in operation:
            raise CloudError(
                f"Google Cloud refuses to enable {', '.join(SERVICES)}: {operation['error'].get('message')}"
            )

    # other programs of the project may use the services, so they are not switched off
    return Item(f"services {', '.join(SERVICES)}", "free", is_ready, create, lambda: None)


def _service_account_item(api: Any, project: str, name: str) -> Item:
    accounts = api("iam", "v1").projects().serviceAccounts()
    address = f"projects/{project}/serviceAccounts/{name}@{project}.iam.gserviceaccount.com"
    body = {"accountId": name, "serviceAccount": {"displayName": name}}
    return Item(
        f"service account {name}",
        "free",
        is_ready=lambda: _get(accounts.get(name=address)) is not None,
        create=lambda: _call(accounts.create(name=f"projects/{project}", body=body)),
        remove=lambda: _get(accounts.delete(name=address)),
    )


def _bucket_item(api: Any, project: str, bucket: str, region: str | None) -> Item:
    buckets = api("storage", "v1").buckets()
    private = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"}

    def is_ready() -> bool:
        found = _get(buckets.get(bucket=bucket))
        access = (found or {}).get("iamConfiguration", {})
        is_uniform = access.get("uniformBucketLevelAccess", {}).get("enabled")
        return bool(is_uniform) and access.get("publicAccessPrevention") == "enforced"

    def create() -> None:
        if _get(buckets.get(bucket=bucket)) is None:
            body = {"name": bucket, "location": region, "iamConfiguration": private}
            _call(buckets.insert(project=project, body=body))
        else:
            _call(buckets.patch(bucket=bucket, body={"iamConfiguration": private}))

    return Item(f"bucket {bucket}, encrypted and private", "0.02 USD per GB and month", is_ready, create, lambda: None)


def _binding_item(policy: Any, role: str, members: list[str]) -> Item:
    """Members that have a role in a policy, which other members keep. Bindings with a condition stay as they are."""

    def is_ours(binding: dict[str, Any]) -> bool:
        return binding["role"] == role and "condition" not in binding

    def is_ready() -> bool:
        found = policy.read() or {}
        return any(is_ours(each) and set(members) <= set(each["members"]) for each in found.get("bindings", ()))

    def change(wanted: bool) -> None:
        found = policy.read()
        if found is None:
            return
        bindings = [each for each in found.get("bindings", ()) if not is_ours(each)]
        before = {member for each in found.get("bindings", ()) if is_ours(each) for member in each["members"]}
        after = before | set(members) if wanted else before - set(members)
        if after:
            bindings.append({"role": role, "members": sorted(after)})
        policy.write(found | {"bindings": bindings})

    return Item(f"{role} on {policy.name}", "free", is_ready, lambda: change(True), lambda: change(False))


class _ProjectPolicy:
    def __init__(self, api: Any, project: str):
        self.name, self._project = f"project {project}", project
        self._projects = api("cloudresourcemanager", "v1").projects()

    def read(self) -> dict[str, Any] | None:
        options = {"options": {"requestedPolicyVersion": POLICY_VERSION}}
        return _get(self._projects.getIamPolicy(resource=self._project, body=options))

    def write(self, policy: dict[str, Any]) -> None:
        _call(self._projects.setIamPolicy(resource=self._project, body={"policy": policy}))


class _AccountPolicy:
    def __init__(self, api: Any, project: str, account: str):
        self.name = f"service account {account}"
        self._resource = f"projects/{project}/serviceAccounts/{account}@{project}.iam.gserviceaccount.com"
        self._accounts = api("iam", "v1").projects().serviceAccounts()

    def read(self) -> dict[str, Any] | None:
        request = self._accounts.getIamPolicy(resource=self._resource, options_requestedPolicyVersion=POLICY_VERSION)
        return _get(request)

    def write(self, policy: dict[str, Any]) -> None:
        _call(self._accounts.setIamPolicy(resource=self._resource, body={"policy": policy}))


class _BucketPolicy:
    def __init__(self, api: Any, bucket: str):
        self.name, self._bucket = f"bucket {bucket}", bucket
        self._buckets = api("storage", "v1").buckets()

    def read(self) -> dict[str, Any] | None:
        return _get(self._buckets.getIamPolicy(bucket=self._bucket, optionsRequestedPolicyVersion=POLICY_VERSION))

    def write(self, policy: dict[str, Any]) -> None:
        _call(self._buckets.setIamPolicy(bucket=self._bucket, body=policy))
