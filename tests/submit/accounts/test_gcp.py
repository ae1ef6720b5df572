"""`submit --prepare cluster/gcp.yaml`: Google's own client against an imitation of the services that it calls."""

import json
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("googleapiclient", reason="google-api-python-client holds the model of Google's services")
from googleapiclient import discovery
from httplib2 import Response

from flexres_tune.submit.accounts import gcp
from flexres_tune.submit.accounts.account import CloudError, destroy, prepare
from flexres_tune.submit.cluster_file import read_cluster_file

FILE = Path(__file__).parents[3] / "cluster/gcp.yaml"
HEAD, WORKER = (f"serviceAccount:flexres-tune-{name}@my-project.iam.gserviceaccount.com" for name in ("head", "worker"))


class Google:
    """Answers the requests of Google's client from dictionaries."""

    def __init__(self):
        self.services, self.accounts, self.buckets = set(), set(), {}
        self._requested, self.num_looks = (), 0  # services, and looks at the operation that enables them
        self.policies = {"project": {"bindings": [{"role": "roles/owner", "members": ["user:me"]}]}}

    def request(self, uri, method="GET", body=None, headers=None, **options):
        path = re.sub(r"^https://[^/]+/|\?.*", "", uri)
        status, answer = self._answer(path, uri, method, json.loads(body) if body else {})
        return Response({"status": str(status), "content-type": "application/json"}), json.dumps(answer).encode()

    def _answer(self, path, uri, method, body):
        if "serviceusage" in uri:
            return 200, self._enable(path, body)
        if len(self.services) < len(gcp.SERVICES):
            return 403, {"error": {"message": "API is disabled", "details": [{"reason": "SERVICE_DISABLED"}]}}
        if path.endswith(("IamPolicy", "/iam")):
            return self._policy(path, method, body)
        if "/b" in path:
            return self._bucket(path, method, body)
        name = path.rpartition("/")[2].partition("@")[0]
        if method == "POST":
            self.accounts.add(body["accountId"])
            return 200, {}
        if name not in self.accounts:
            return 404, {"error": {"message": "not found"}}
        if method == "DELETE":
            self.accounts.remove(name)
        return 200, {}

    def _enable(self, path, body):
        """Enabling takes until the second look at the operation."""
        if path.endswith("batchGet"):
            return {"services": [{"state": "ENABLED"}] * len(self.services)}
        self.num_looks += "operations" in path
        self._requested = body.get("serviceIds") or self._requested
        if self.num_looks < 2:
            return {"name": "operations/1"}
        self.services = set(self._requested)
        return {"name": "operations/1", "done": True}

    def _policy(self, path, method, body):
        key = next(name for name in ("serviceAccounts", "/b/", "project") if name in path)
        if path.endswith("getIamPolicy") or method == "GET":
            return 200, self.policies.get(key, {})
        self.policies[key] = body.get("policy", body)
        return 200, self.policies[key]

    def _bucket(self, path, method, body):
        if method == "POST":
            self.buckets[body["name"]] = body
        name = body.get("name", path.rpartition("/")[2])
        if name not in self.buckets:
            return 404, {"error": {"message": "not found"}}
        self.buckets[name] |= body
        return 200, self.buckets[name]


@pytest.fixture(autouse=True)
def services_are_enabled_soon(monkeypatch):
    monkeypatch.setattr(gcp, "ENABLE_PERIOD_S", 0.0)


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "gcp.yaml"
    shutil.copy(FILE, file)
    gcp.fill_project(file, "my-project")
    return file


def find(google, file):
    def api(name, version):
        return discovery.build(name, version, http=google, cache_discovery=False)

    return gcp.find_account(read_cluster_file(file), api)


def run(action, google, file, answer=True):
    lines = []
    return action(find(google, file), lines.append, lambda question: answer), "\n".join(lines)


def members(google, key, role):
    return {m for b in google.policies[key]["bindings"] if b["role"] == role for m in b["members"]}


def test_project_is_written_once_in_each_place(file):
    text = file.read_text()
    assert "PROJECT-YOURS" not in text.partition("cluster_name")[2]
    assert text.count("my-project") >= 4
    assert not gcp.fill_project(file, "other")


def test_credentials_without_a_project_say_what_to_type(tmp_path):
    file = tmp_path / "gcp.yaml"
    shutil.copy(FILE, file)
    with pytest.raises(CloudError, match="gcloud config set project"):
        gcp.fill_project(file, None)


def test_accounts_and_bucket_are_created_once_and_removed(file):
    google = Google()
    done, text = run(prepare, google, file)
    assert done
    assert "results will be in gs://flexres-tune-my-project/results" in text
    assert google.accounts == {"flexres-tune-head", "flexres-tune-worker"}
    assert google.buckets["flexres-tune-my-project"]["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert google.buckets["flexres-tune-my-project"]["location"] == "us-west1"
    assert members(google, "project", gcp.MACHINE_ROLE) == {HEAD}
    assert members(google, "project", "roles/owner") == {"user:me"}, "other bindings are kept"
    assert members(google, "/b/", gcp.OBJECT_ROLE) == {HEAD, WORKER}
    assert "nothing to do" in run(prepare, google, file)[1]
    done, text = run(destroy, google, file)
    assert done
    assert "gcloud storage rm --recursive gs://flexres-tune-my-project" in text
    assert google.accounts == set()
    assert list(google.buckets) == ["flexres-tune-my-project"], "the results stay"
    assert members(google, "project", gcp.MACHINE_ROLE) == set()
    assert members(google, "project", "roles/owner") == {"user:me"}


def test_members_whose_role_has_a_condition_do_not_get_it_without(file):
    google = Google()
    of_others = {"role": gcp.MACHINE_ROLE, "members": ["user:guest"], "condition": {"expression": "until tomorrow"}}
    google.policies["project"]["bindings"].append(of_others)
    for action in (prepare, destroy):
        run(action, google, file)
        found = [each for each in google.policies["project"]["bindings"] if each["role"] == gcp.MACHINE_ROLE]
        ours = [{"role": gcp.MACHINE_ROLE, "members": [HEAD]}]
        assert found == [of_others] + (ours if action is prepare else [])


def test_services_that_cannot_be_enabled_are_an_error(file):
    class Refusing(Google):
        def _enable(self, path, body):
            if path.endswith("batchGet"):
                return {}
            return {"name": "operations/1", "done": True, "error": {"message": "billing is not set up"}}

    with pytest.raises(CloudError, match="billing is not set up"):
        run(prepare, Refusing(), file)


def test_nothing_changes_without_consent(file):
    google = Google()
    assert not run(prepare, google, file, answer=False)[0]
    assert (google.accounts, google.buckets) == (set(), {})


def test_bucket_that_was_made_public_is_repaired(file):
    google = Google()
    run(prepare, google, file)
    google.buckets["flexres-tune-my-project"]["iamConfiguration"]["publicAccessPrevention"] = "inherited"
    done, text = run(prepare, google, file)
    assert done
    assert text.count("created: ") == 1


def test_refusal_is_one_line(file):
    class Refusing(Google):
        def _answer(self, path, uri, method, body):
            return 403, {"error": {"message": "Permission denied"}}

    with pytest.raises(CloudError, match=r"Google Cloud refuses \(403\): Permission denied"):
        run(prepare, Refusing(), file)
