"""Connections to object storage: (kind, bucket, settings) -> pyarrow file system, and the meaning of its errors.

The timeouts are short: only the driver's rows wait for a server that does not answer, and rows can wait. Region,
endpoint and credentials come from where the AWS and Google tools take them. AWS_ENDPOINT_URL is read here because
S3FileSystem ignores it (https://github.com/apache/arrow/issues/49643).
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from flexres_tune.errors import ResultsError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CONNECT_TIMEOUT_S = 2.0
REQUEST_TIMEOUT_S = 3.0  # without a byte in either direction, not for the whole request; the SDK's default
MAX_ATTEMPTS = 2  # of the SDK; callers that need an answer retry later
GCS_RETRY_S = 3
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # in AWS's order: the more specific one first
# How to reach a server, and nothing secret: trials on other nodes get these in addition to their machine's own.
FORWARDED_VARIABLES = (*ENDPOINT_VARIABLES, "AWS_REGION", "AWS_DEFAULT_REGION", "CLOUD_STORAGE_EMULATOR_ENDPOINT")


def forwarded_environment() -> dict[str, str]:
    """Those of FORWARDED_VARIABLES that are set in this process, without addresses that contain credentials.

    Ray writes them to its logs. `s3_endpoint` refuses such an address, if it is needed.
    """
    found = {name: os.environ.get(name, "") for name in FORWARDED_VARIABLES}
    return {name: value for name, value in found.items() if value and "@" not in value}


@cache  # one per process and server: each has its own connections, which threads share
def open_filesystem(kind: str, bucket: str, query: str) -> FileSystem:
    """The file system. S3's sends no request before it is used, unless the bucket's region must be looked up.

    Raises:
        OSError: the bucket's region cannot be looked up.
    """
    settings = dict(parse_qsl(query))
    return (_connect_s3 if kind == "s3" else _connect_gs)(bucket, settings)


def s3_endpoint(settings: dict[str, str]) -> tuple[str | None, str | None]:
    """(host:port, http or https) of the S3 server, from the address or else the environment; host None means AWS.

    Raises:
        ResultsError: the environment's address contains credentials.
    """
    variable = next(filter(os.environ.get, ENDPOINT_VARIABLES), None)
    given = settings.get("endpoint_override") or (variable and os.environ[variable])
    if not given:
        return None, settings.get("scheme")
    if "@" in given:
        raise ResultsError(
            f"{variable}: must be an address without credentials, such as http://HOST:PORT, but has text before the @; "
            f"{credentials_advice('s3')}"
        )
    scheme, separator, host = given.rpartition("://")
    return host.rstrip("/"), settings.get("scheme") or (scheme if separator else None)


def _connect_s3(bucket: str, settings: dict[str, str]) -> FileSystem:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    host, scheme = s3_endpoint(settings)
    region = settings.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None:
        region = resolve_s3_region(bucket) if host is None else "us-east-1"
    return S3FileSystem(
        anonymous=settings.get("anonymous") == "true",
        region=region,
        scheme=scheme or "https",
        endpoint_override=host,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=MAX_ATTEMPTS),
        background_writes=False,  # an error is raised by the call that caused it
        allow_delayed_open=True,  # a small object is one request, and appears complete or not at all
    )


def _connect_gs(bucket: str, settings: dict[str, str]) -> FileSystem:
    from pyarrow.fs import GcsFileSystem

    return GcsFileSystem(
        anonymous=settings.get("anonymous") == "true",
        scheme=settings.get("scheme"),
        endpoint_override=settings.get("endpoint_override"),
        retry_time_limit=timedelta(seconds=GCS_RETRY_S),
    )


# Parts of pyarrow's error texts, in capitals and with _ for spaces, by their meaning.
_NO_ANSWER = ("NETWORK_CONNECTION", "CURLCODE", "COULDN'T_CONNECT", "TIMEOUT", "UNAVAILABLE")
_NO_BUCKET = ("NO_SUCH_BUCKET", "NOSUCHBUCKET", "BUCKET_DOES_NOT_EXIST")
_REFUSED = (
    *("ACCESS_DENIED", "PERMISSION_DENIED", "FORBIDDEN", "UNAUTHENTICATED", "INVALID_ACCESS_KEY", "SIGNATURE"),
    *("CREDENTIAL", "EXPIRED_TOKEN", "HTTP_STATUS_400"),  # AWS answers an expired token with a bare 400
)
_HOW_TO_NAME_A_SERVER = {
    "s3": "AWS_ENDPOINT_URL, or ?endpoint_override=HOST:PORT",
    "gs": "?endpoint_override=HOST:PORT",
}


def describe_error(error: Exception, kind: str, bucket: str, query: str) -> str:
    """The meaning of pyarrow's error in one line, and what to do about it if there is a usual remedy."""
    text, settings = " ".join(str(error).split()), dict(parse_qsl(query))
    words = text.upper().replace(" ", "_")
    server = s3_endpoint(settings)[0] if kind == "s3" else settings.get("endpoint_override")
    name = server or {"s3": "AWS", "gs": "Google Cloud"}[kind]
    if any(sign in words for sign in _NO_ANSWER):
        return f"{name} does not answer ({_shorten(text)}); start it, or name another: {_HOW_TO_NAME_A_SERVER[kind]}"
    if any(sign in words for sign in _NO_BUCKET):
        return f"there is no bucket {bucket} at {name}; create it, or name another"
    if any(sign in words for sign in _REFUSED):
        return f"{name} refuses ({_shorten(text)}); {credentials_advice(kind)}"
    return f"{name}: {_shorten(text)}"


def credentials_advice(kind: str) -> str:
    """Where credentials come from."""
    if kind == "gs":
        return (
            "credentials come from `gcloud auth application-default login`, GOOGLE_APPLICATION_CREDENTIALS or the "
            "machine's service account"
        )
    return (
        "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials (AWS_PROFILE) or the "
        "machine's role"
    )


def _shorten(text: str) -> str:
    """At most 200 characters, without the key that pyarrow's text begins with: our message names it already."""
    start = text.find("AWS Error ")
    return (text[start:] if start >= 0 else text)[:200]
