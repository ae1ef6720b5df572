"""AWS: two roles for the machines of a cluster, and the account's bucket.

The head may start and end machines of its own cluster, and hand them the workers' role. Both roles reach one bucket,
`flexres-tune-ACCOUNT`, which the head creates. Its name is predictable, so each statement about it demands that it
belongs to this account: if somebody else has taken the name, the cluster writes nothing there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flexres_tune.submit.accounts.account import Account, CloudError, Item
from flexres_tune.submit.cluster_file import ClusterFile

HEAD_ROLE, WORKER_ROLE = "flexres-tune-head", "flexres-tune-worker"  # the names in cluster/gpu.yaml
POLICY = "flexres-tune"
SETTLE_S = 15.0  # until EC2 knows a new instance profile; Ray waits as long for its own
IMAGE_PARAMETERS = "arn:aws:ssm:*::parameter/aws/service/deeplearning/ami/*"  # ImageId names one of them
ACCOUNT_PLACE = "{account}"  # in the address of the results in a cluster file
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def find_account(cluster: ClusterFile) -> Account:
    """The account of the user's credentials. Raises CloudError if there are none."""
    session = connect(cluster.region)
    number = account_number(session)
    bucket = bucket_name(cluster.storage, number)
    iam = session.client("iam")
    head = _role_item(iam, HEAD_ROLE, head_policy(number, bucket, cluster.name))
    worker = _role_item(iam, WORKER_ROLE, worker_policy(number, bucket))
    return Account(
        name=f"AWS account {number}",
        items=(worker, head),
        results=cluster.storage.replace(ACCOUNT_PLACE, number),
        how_to_delete=f"aws s3 rb --force s3://{bucket}",
        running_costs="the head creates the bucket: about 0.02 USD per GB and month; machines cost what the header of "
        f"{cluster.path} says",
        settle_s=SETTLE_S,
    )


def connect(region: str | None) -> Any:
    """A boto3 session. Raises CloudError if boto3 is not installed."""
    try:
        import boto3
    except ImportError:
        raise CloudError("boto3 must be installed to use AWS, but is not; pip install boto3") from None
    return boto3.Session(region_name=region)


def region_here() -> str | None:
    """The region of the settings, or else of the EC2 machine that this process runs on."""
    session = connect(None)
    from botocore.utils import InstanceMetadataRegionFetcher

    return session.region_name or InstanceMetadataRegionFetcher().retrieve_region()


def account_number(session: Any) -> str:
    """The account of the credentials. Raises CloudError if there are none, or if they are refused."""
    with explain_errors():
        return session.client("sts").get_caller_identity()["Account"]


def bucket_name(storage: str, account: str) -> str:
    """The bucket in the address of the results. Raises CloudError if it is not named after the account."""
    match = re.fullmatch(r"s3://([^/?]*)(/.*)?", storage)
    if not match or ACCOUNT_PLACE not in match[1]:
        raise CloudError(
            f"provider.flexres_tune.storage must be s3://NAME-{ACCOUNT_PLACE}/FOLDER to be prepared, but is {storage}"
        )
    return match[1].replace(ACCOUNT_PLACE, account)


def create_bucket(session: Any, bucket: str) -> bool:
    """Create the account's bucket, encrypted and private, unless it exists; returns whether it did.

    Raises CloudError if another account has a bucket of this name.
    """
    s3, region = session.client("s3"), session.region_name
    if region is None:
        raise CloudError("a region must be set to create a bucket, but none is; set AWS_DEFAULT_REGION")
    owner = account_number(session)
    with explain_errors():
        is_new = bucket not in {found["Name"] for found in s3.list_buckets(Prefix=bucket).get("Buckets", ())}
        if is_new:
            place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            s3.create_bucket(Bucket=bucket, ObjectOwnership="BucketOwnerEnforced", **place)
        s3.put_public_access_block(
            Bucket=bucket,
            ExpectedBucketOwner=owner,
            PublicAccessBlockConfiguration=dict.fromkeys(
                ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
            ),
        )
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        s3.put_bucket_encryption(
            Bucket=bucket, ExpectedBucketOwner=owner, ServerSideEncryptionConfiguration={"Rules": [rule]}
        )
    return is_new


def worker_policy(account: str, bucket: str) -> dict[str, Any]:
    """May read and write the bucket, and nothing else."""
    return {"Version": "2012-10-17", "Statement": _bucket_statements(account, bucket)}


def head_policy(account: str, bucket: str, cluster: str) -> dict[str, Any]:
    """May also create the bucket, and start and end machines of this cluster with the workers' role."""
    of_cluster = {"StringEquals": {"aws:ResourceTag/ray-cluster-name": cluster}}
    statements = [
        *_bucket_statements(account, bucket),
        _allow(
            ["s3:CreateBucket", "s3:PutBucketPublicAccessBlock", "s3:PutEncryptionConfiguration"],
            f"arn:aws:s3:::{bucket}",
        ),
        _allow(["s3:PutBucketOwnershipControls"], f"arn:aws:s3:::{bucket}"),
        _allow(["s3:ListAllMyBuckets"], "*"),
        _allow(["ec2:Describe*", "ec2:RunInstances"], "*"),
        _allow(
            ["ec2:CreateTags"],
            f"arn:aws:ec2:*:{account}:*/*",
            {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        ),
        _allow(["ec2:CreateTags", "ec2:TerminateInstances"], f"arn:aws:ec2:*:{account}:instance/*", of_cluster),
        _allow(["ssm:GetParameters"], IMAGE_PARAMETERS),
        _allow(
            ["iam:PassRole"],
            f"arn:aws:iam::{account}:role/{WORKER_ROLE}",
            {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
        ),
        _allow(  # the first spot machine of an account needs it
            ["iam:CreateServiceLinkedRole"],
            f"arn:aws:iam::{account}:role/aws-service-role/spot.amazonaws.com/*",
            {"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}},
        ),
    ]
    return {"Version": "2012-10-17", "Statement": statements}


@contextmanager
def explain_errors() -> Iterator[None]:
    """Turn botocore's errors into a CloudError of one line."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except NoCredentialsError:
        raise CloudError(
            "AWS credentials must be set, but are not; type `aws configure`, or set AWS_PROFILE, or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    except (BotoCoreError, ClientError) as error:
        text = " ".join(str(error).split())
        raise CloudError(f"AWS refuses: {text}; the account needs this permission, or the name is taken") from error


def _bucket_statements(account: str, bucket: str) -> list[dict[str, Any]]:
    own = {"StringEquals": {"s3:ResourceAccount": account}}
    return [
        _allow(
            ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            f"arn:aws:s3:::{bucket}/*",
            own,
        ),
        _allow(
            ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"], f"arn:aws:s3:::{bucket}", own
        ),
    ]


def _allow(actions: list[str], resource: str, condition: dict[str, Any] | None = None) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": actions, "Resource": resource}
    return statement if condition is None else statement | {"Condition": condition}


def _role_item(iam: Any, name: str, policy: dict[str, Any]) -> Item:
    """A role with one inline policy, in an instance profile of the same name."""
    from botocore.exceptions import ClientError

    def found(call: Any, **arguments: Any) -> dict[str, Any] | None:
        with explain_errors():
            try:
                return call(**arguments)
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchEntity":
                    return None
                raise

    def has_profile() -> bool:
        answer = found(iam.get_instance_profile, InstanceProfileName=name)
        return answer is not None and [role["RoleName"] for role in answer["InstanceProfile"]["Roles"]] == [name]

    def is_ready() -> bool:
        answer = found(iam.get_role_policy, RoleName=name, PolicyName=POLICY)
        return answer is not None and answer["PolicyDocument"] == policy and has_profile()

    def create() -> None:
        with explain_errors():
            if found(iam.get_role, RoleName=name) is None:
                iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
            iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=json.dumps(policy))
            if found(iam.get_instance_profile, InstanceProfileName=name) is None:
                iam.create_instance_profile(InstanceProfileName=name)
            if not has_profile():
                iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)

    def remove() -> None:
        found(iam.remove_role_from_instance_profile, InstanceProfileName=name, RoleName=name)
        found(iam.delete_instance_profile, InstanceProfileName=name)
        found(iam.delete_role_policy, RoleName=name, PolicyName=POLICY)
        found(iam.delete_role, RoleName=name)

    return Item(f"role and instance profile {name}", "free", is_ready, create, remove)
