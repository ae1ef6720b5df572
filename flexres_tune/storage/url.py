"""Address: the text that a person gives for results -> a folder or a place on object storage."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl

from flexres_tune.errors import ResultsError
from flexres_tune.storage.object_store import AnyPath, RemotePath

# What may follow the `?`: how to reach the server. No credentials: an address is printed and kept in plan.json.
SETTINGS = {
    "s3": ("endpoint_override", "scheme", "region", "anonymous"),
    "gs": ("endpoint_override", "scheme", "anonymous"),
}
_OTHERS = ("abfs", "abfss", "az", "azure", "gcs", "hdfs", "http", "https", "ftp", "sftp", "file", "s3a", "s3n")
_FORM = "must be a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"


def make_path(text: AnyPath | str) -> AnyPath:
    """The folder or the place that an address names; nothing is opened or asked.

    Raises:
        ResultsError: an address of a kind that is not supported, or one that is not whole.
    """
    if isinstance(text, Path | RemotePath):
        return text
    kind, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+", kind):
        return Path(text)
    if kind not in SETTINGS:
        if kind.lower() in (*_OTHERS, *SETTINGS) or rest.startswith("//"):
            raise ResultsError(f"{text}: {_FORM}, but is an address of kind {kind}:; {_way_out(kind.lower())}")
        return Path(text)
    return _remote(text, kind, rest)


def _remote(text: str, kind: str, rest: str) -> RemotePath:
    place, _, query = rest.partition("?")
    segments = [segment for segment in place.split("/") if segment]
    if not place.startswith("//") or not segments or place.startswith("///"):
        raise ResultsError(f"{text}: {_FORM}, but names no bucket after two slashes; give {kind}://BUCKET/FOLDER")
    if "@" in segments[0]:
        raise ResultsError(
            f"{kind}://...@{segments[0].rpartition('@')[2]}: must hold no credentials, for an address is printed and "
            f"kept in plan.json, but has something before the @; {credentials_advice(kind)}"
        )
    if {".", ".."} & set(segments):
        raise ResultsError(
            f"{text}: must have neither . nor .. in it: object storage has no folder above; leave it out"
        )
    settings = parse_qsl(query, keep_blank_values=True)
    if unknown := [name for name, value in settings if name not in SETTINGS[kind] or not value]:
        raise ResultsError(
            f"{kind}:{place}: after the ? must stand {', '.join(SETTINGS[kind])}, each with =VALUE, but got "
            f"{unknown[0]!r}; {credentials_advice(kind)}"
        )
    return RemotePath(kind, "/".join(segments), query)


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


def _way_out(kind: str) -> str:
    return {
        "s3": "write it in small letters",
        "gs": "write it in small letters",
        "s3a": "write s3://",
        "s3n": "write s3://",
        "gcs": "write gs://",
        "file": "leave file:// out",
    }.get(kind, "use one of those, and copy the results from there later")
