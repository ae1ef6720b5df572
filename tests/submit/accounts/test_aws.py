"""`submit --prepare cluster/gpu.yaml` on an account that moto imitates: what it creates, repairs and removes."""

import io
import json
from pathlib import Path

import pytest

moto = pytest.importorskip("moto", reason="moto, which .ci/run installs, plays AWS")
import boto3  # noqa: E402

from flexres_tune.submit.accounts import aws  # noqa: E402
from flexres_tune.submit.accounts.account import CloudError, destroy, prepare  # noqa: E402
from flexres_tune.submit.accounts.bucket import main as bucket_main  # noqa: E402
from flexres_tune.submit.accounts.bucket import resolve_storage  # noqa: E402
from flexres_tune.submit.accounts.command import prepare_account  # noqa: E402
from flexres_tune.submit.cluster_file import read_cluster_file  # noqa: E402

FILE = Path(__file__).parents[3] / "cluster/gpu.yaml"
BUCKET = "flexres-tune-123456789012"  # of moto's account


@pytest.fixture
def session(monkeypatch, tmp_path):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "only-for-the-tests",
        "AWS_DEFAULT_REGION": "us-west-2",
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    with moto.mock_aws():
        yield boto3.Session()


def names(session):
    iam = session.client("iam")
    roles = {role["RoleName"] for role in iam.list_roles()["Roles"]}
    profiles = {profile["InstanceProfileName"] for profile in iam.list_instance_profiles()["InstanceProfiles"]}
    return roles, profiles


def run(action, answer=True):
    lines = []
    account = aws.find_account(read_cluster_file(FILE))
    options = {"pause": lambda seconds: None} if action is prepare else {}
    return action(account, lines.append, lambda question: answer, **options), "\n".join(lines)


def test_both_roles_are_created_once_and_removed(session):
    done, text = run(prepare)
    assert done
    assert f"results will be in s3://{BUCKET}/results" in text
    assert "role and instance profile flexres-tune-worker (free)" in text
    assert names(session) == ({"flexres-tune-head", "flexres-tune-worker"},) * 2
    done, text = run(prepare)
    assert (done, text) == (True, "AWS account 123456789012: everything is there already; nothing to do")
    done, text = run(destroy)
    assert done
    assert f"the results stay in s3://{BUCKET}/results; to delete them, too: aws s3 rb --force s3://{BUCKET}" in text
    assert names(session) == (set(), set())
    assert run(destroy)[0], "removing what is not there is no error"


def test_nothing_changes_without_consent(session):
    done, text = run(prepare, answer=False)
    assert not done
    assert text.endswith("nothing was created")
    assert names(session) == (set(), set())
    run(prepare)
    assert not run(destroy, answer=False)[0]
    assert names(session)[0] == {"flexres-tune-head", "flexres-tune-worker"}


def test_changed_policy_and_missing_profile_are_repaired(session):
    run(prepare)
    iam = session.client("iam")
    wider = json.dumps(aws.worker_policy("123456789012", "*"))
    iam.put_role_policy(RoleName="flexres-tune-worker", PolicyName="flexres-tune", PolicyDocument=wider)
    iam.remove_role_from_instance_profile(InstanceProfileName="flexres-tune-head", RoleName="flexres-tune-head")
    done, text = run(prepare)
    assert done
    assert text.count("created: ") == 2
    assert "nothing to do" in run(prepare)[1]


def test_workers_reach_one_bucket_and_nothing_else():
    for statement in aws.worker_policy("1", "b")["Statement"]:
        assert statement["Resource"] in ("arn:aws:s3:::b", "arn:aws:s3:::b/*")
        assert statement["Condition"] == {"StringEquals": {"s3:ResourceAccount": "1"}}
        assert all(action.startswith("s3:") and "*" not in action for action in statement["Action"])


def test_head_ends_only_machines_of_its_cluster_and_hands_out_only_the_workers_role():
    for statement in aws.head_policy("1", "b", "c")["Statement"]:
        if "ec2:TerminateInstances" in statement["Action"]:
            assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": "c"}}
        if "iam:PassRole" in statement["Action"]:
            assert statement["Resource"].endswith("role/flexres-tune-worker")
        assert not any(action in ("*", "iam:*", "s3:*", "ec2:*") for action in statement["Action"])


def test_bucket_is_created_once_encrypted_and_private(session, capsys):
    assert bucket_main(["s3://flexres-tune-{account}/results"]) == 0
    assert bucket_main(["s3://flexres-tune-{account}/results"]) == 0
    assert capsys.readouterr().out == f"s3://{BUCKET}/results\n" * 2
    s3 = session.client("s3")
    assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] == "us-west-2"
    (rule,) = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())


def test_bucket_name_that_another_account_has_taken_is_an_error(session):
    role = {"RoleArn": "arn:aws:iam::210987654321:role/x", "RoleSessionName": "other"}
    found = session.client("sts").assume_role(**role)["Credentials"]
    keys = {"aws_access_key_id": found["AccessKeyId"], "aws_secret_access_key": found["SecretAccessKey"]}
    other = boto3.Session(**keys, aws_session_token=found["SessionToken"])
    place = {"CreateBucketConfiguration": {"LocationConstraint": "us-west-2"}}
    other.client("s3").create_bucket(Bucket=BUCKET, **place)
    with pytest.raises(CloudError, match="AWS refuses: .*BucketAlready"):
        aws.create_bucket(session, BUCKET)


def test_account_is_filled_in_on_the_head_and_other_addresses_are_left(session):
    assert resolve_storage("s3://flexres-tune-{account}/results") == f"s3://{BUCKET}/results"
    assert resolve_storage("/mnt/results") == "/mnt/results"


def test_missing_credentials_say_what_to_type(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(CloudError, match="AWS credentials must be set, but are not; type `aws configure`"):
        prepare_account(FILE, print, yes=True)


def test_without_a_terminal_the_answer_must_be_given(session, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(CloudError, match="there is no terminal to ask on; answer with --yes"):
        prepare_account(FILE, lambda line: None, yes=False)


def test_own_storage_cannot_be_prepared(session, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(FILE.read_text().replace("s3://flexres-tune-{account}/results", "s3://mine/results"))
    with pytest.raises(CloudError, match=r"must be s3://NAME-\{account\}/FOLDER to be prepared"):
        prepare_account(file, print, yes=True)


def test_cluster_of_own_machines_needs_no_account(tmp_path):
    with pytest.raises(CloudError, match="need provider.type aws or gcp, but it is local"):
        prepare_account(FILE.with_name("onprem.yaml"), print, yes=True)


def test_policies_are_json_of_the_size_that_iam_allows():
    """10,240 characters for all inline policies of a role, without white space."""
    policy = aws.head_policy("123456789012", BUCKET, "flexres-tune")
    assert len(json.dumps(policy, separators=(",", ":"))) < 10_240
