"""Connection: (kind, bucket, settings) -> the file system of pyarrow that reaches it, and what its errors mean.

A server that is away is noticed within seconds: what waits for it are the driver's rows, and rows can wait. Region,
endpoint and credentials come from where the AWS and Google tools take them; AWS_ENDPOINT_URL is read here, because
S3FileSystem overlooks it (https://github.com/apache/arrow/issues/49643).
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CONNECT_TIMEOUT_S = 2.0
REQUEST_TIMEOUT_S = 3.0  # without a byte in either direction, not for the whole request; the SDK's own default
MAX_ATTEMPTS = 2  # the SDK's; whoever needs an answer asks again later
GCS_RETRY_S = 3
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # the more special one first, as AWS says
# How to reach a server, but nothing secret: what a cluster's trials are told beside their own machine's settings.
ENVIRONMENT = (*ENDPOINTS, "AWS_REGION", "AWS_DEFAULT_REGION", "CLOUD_STORAGE_EMULATOR_ENDPOINT")


def forwarded_environment() -> dict[str, str]:
    """Those of ENVIRONMENT that are set here."""
    return {name: os.environ[name] for name in ENVIRONMENT if os.environ.get(name)}


@cache  # one a process and server: each has its own connections, and threads share it
def connect(kind: str, bucket: str, query: str) -> FileSystem:
    """The file system; S3's asks nobody until it is used, unless the bucket's region must be found out.

    Raises:
        OSError: the bucket's region cannot be found out.
    """
    settings = dict(parse_qsl(query))
    return (_s3 if kind == "s3" else _gs)(bucket, settings)


def endpoint(settings: dict[str, str]) -> tuple[str | None, str | None]:
    """(host:port of an S3 server, http or https); of the address, else of the environment. None: AWS itself."""
    given = settings.get("endpoint_override") or next(filter(None, map(os.environ.get, ENDPOINTS)), None)
    if not given:
        return None, settings.get("scheme")
    scheme, separator, host = given.rpartition("://")
    return host.rstrip("/"), settings.get("scheme") or (scheme if separator else None)


def _s3(bucket: str, settings: dict[str, str]) -> FileSystem:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    host, scheme = endpoint(settings)
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
        background_writes=False,  # an error is raised where it happens
        allow_delayed_open=True,  # a small object is one request, and appears whole or not at all
    )


def _gs(bucket: str, settings: dict[str, str]) -> FileSystem:
    from pyarrow.fs import GcsFileSystem

    return GcsFileSystem(
        anonymous=settings.get("anonymous") == "true",
        scheme=settings.get("scheme"),
        endpoint_override=settings.get("endpoint_override"),
        retry_time_limit=timedelta(seconds=GCS_RETRY_S),
    )


# What pyarrow says, in capitals and with _ for spaces, by what it means.
_AWAY = ("NETWORK_CONNECTION", "CURLCODE", "COULDN'T_CONNECT", "TIMEOUT", "UNAVAILABLE")
_NO_BUCKET = ("NO_SUCH_BUCKET", "NOSUCHBUCKET", "BUCKET_DOES_NOT_EXIST")
_REFUSED = (
    *("ACCESS_DENIED", "PERMISSION_DENIED", "FORBIDDEN", "UNAUTHENTICATED", "INVALID_ACCESS_KEY", "SIGNATURE"),
    *("CREDENTIAL", "EXPIRED_TOKEN", "HTTP_STATUS_400"),  # 400 without a word: AWS's answer to an expired token
)
_OTHER_SERVER = {"s3": "AWS_ENDPOINT_URL, or ?endpoint_override=HOST:PORT", "gs": "?endpoint_override=HOST:PORT"}


def reason(error: Exception, kind: str, bucket: str, query: str) -> str:
    """What an error of pyarrow means, in a line, and the way out where there is one."""
    from flexres_tune.storage.url import credentials_advice

    text, settings = " ".join(str(error).split()), dict(parse_qsl(query))
    words = text.upper().replace(" ", "_")
    server = endpoint(settings)[0] if kind == "s3" else settings.get("endpoint_override")
    name = server or {"s3": "AWS", "gs": "Google Cloud"}[kind]
    if any(sign in words for sign in _AWAY):
        return f"{name} does not answer ({_short(text)}); start it, or name another: {_OTHER_SERVER[kind]}"
    if any(sign in words for sign in _NO_BUCKET):
        return f"there is no bucket {bucket} at {name}; make it, or name another"
    if any(sign in words for sign in _REFUSED):
        return f"{name} refuses ({_short(text)}); {credentials_advice(kind)}"
    return f"{name}: {_short(text)}"


def _short(text: str) -> str:
    """pyarrow's own sentence begins with the key, which has been named."""
    start = text.find("AWS Error ")
    return (text[start:] if start >= 0 else text)[:200]
