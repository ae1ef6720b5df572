"""The server's address, and the time until an absent server is reported."""

import socket
import time

import pytest

from flexres_tune.errors import ResultsError, StorageError
from flexres_tune.storage import make_path
from flexres_tune.storage.filesystem import forwarded_environment, open_filesystem, s3_endpoint


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    open_filesystem.cache_clear()
    yield monkeypatch
    open_filesystem.cache_clear()


@pytest.mark.parametrize(
    ("variables", "settings", "found"),
    [
        ({}, {}, (None, None)),
        ({"AWS_ENDPOINT_URL": "http://localhost:9000/"}, {}, ("localhost:9000", "http")),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "https://b"}, {}, ("b", "https")),
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, {}, ("localhost:9000", None)),
        ({"AWS_ENDPOINT_URL": "http://a"}, {"endpoint_override": "b", "scheme": "http"}, ("b", "http")),
        ({}, {"endpoint_override": "http://b:1"}, ("b:1", "http")),
    ],
)
def test_endpoint_comes_from_the_address_or_the_environment(environment, variables, settings, found):
    for name, value in variables.items():
        environment.setenv(name, value)
    assert s3_endpoint(settings) == found


def test_nothing_secret_is_forwarded(environment):
    environment.setenv("AWS_ENDPOINT_URL", "http://a")
    environment.setenv("AWS_REGION", "eu-west-1")
    environment.setenv("AWS_SESSION_TOKEN", "token")
    assert forwarded_environment() == {"AWS_ENDPOINT_URL": "http://a", "AWS_REGION": "eu-west-1"}


def test_absent_server_is_reported_within_seconds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, so no other process listens on it
        place = make_path(f"s3://bucket/x?endpoint_override=127.0.0.1:{free.getsockname()[1]}&scheme=http")
        began = time.monotonic()
        with pytest.raises(StorageError, match=r"127\.0\.0\.1:\d+ does not answer"):
            place.write_bytes(b"x")
        assert time.monotonic() - began < 6


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_credentials_in_the_endpoint_of_the_environment_are_refused_and_neither_repeated_nor_sent(
    monkeypatch, variable
):
    monkeypatch.setenv(variable, "http://someone:secret@127.0.0.1:9")
    with pytest.raises(ResultsError, match=f"{variable}: must be an address without credentials") as caught:
        s3_endpoint({})
    assert "secret" not in str(caught.value)
    assert variable not in forwarded_environment()
