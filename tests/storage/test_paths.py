"""Paths from text: folders, addresses of object storage, and the refusal of everything else."""

import pickle
from pathlib import Path

import pytest

from flexres_tune.errors import ResultsError
from flexres_tune.storage import RemotePath, change_marker, make_path, parse_json


@pytest.mark.parametrize("text", ["results", "/mnt/results", "s3", ".", "a:b", "C:", "tag:2026/x", "ä ö"])
def test_folder_is_a_folder(text):
    assert make_path(text) == Path(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket/results", "s3://bucket/results"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket//a///b/", "s3://bucket/a/b"),
        ("gs://bucket/a?anonymous=true", "gs://bucket/a?anonymous=true"),
        (
            "s3://b/a?endpoint_override=localhost:5000&scheme=http",
            "s3://b/a?endpoint_override=localhost:5000&scheme=http",
        ),
    ],
)
def test_address_is_a_remote_path_and_is_printed_as_it_was_given(text, address):
    assert str(make_path(text)) == address
    assert make_path(make_path(text)) == make_path(address)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3:/bucket/x", r"s3:/bucket/x: must be a folder, s3://BUCKET/FOLDER .* no bucket after two slashes"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("http://host/x", "is an address of kind http:.*copy the results from there later"),
        ("hdfs:/x", "is an address of kind hdfs:"),
        ("abfs://x/y", "is an address of kind abfs:"),
        ("foo://x/y", "is an address of kind foo:"),
        ("S3://bucket/x", "lower case"),
        ("gcs://bucket/x", "write gs://"),
        ("file:///tmp/x", "remove file://"),
        ("s3://b/../x", r"must not contain \. or \.\."),
        ("s3://b/x?endpoint=h", "after the [?] must be among endpoint_override, scheme, region, anonymous.*'endpoint'"),
        ("s3://b/x?region=", "each with =VALUE, but got 'region'"),
        ("gs://b/x?region=eu", "'region'.*GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_other_addresses_are_refused_with_what_to_give(text, message):
    with pytest.raises(ResultsError, match=message):
        make_path(text)


@pytest.mark.parametrize(
    "text",
    ["s3://KEY:hush@bucket/x", "s3://b/x?access_key=KEY&secret_key=hush", "s3://b/x?endpoint_override=KEY:hush@h:9"],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(text):
    with pytest.raises(ResultsError, match=r"AWS_ACCESS_KEY_ID.*~/\.aws/credentials.*role") as caught:
        make_path(text)
    assert "hush" not in str(caught.value)


def test_remote_path_has_the_names_of_pathlib():
    place = make_path("s3://bucket/results?region=eu-west-1")
    file = place / "optim" / "plan.json"
    assert str(file) == "s3://bucket/results/optim/plan.json?region=eu-west-1"
    assert (file.name, file.parent, file.with_name("x")) == ("plan.json", place / "optim", place / "optim" / "x")
    assert place.parent.parent == place.parent == make_path("s3://bucket?region=eu-west-1")
    assert file.resolve() == file and isinstance(file, RemotePath) and file != Path(str(file))
    assert pickle.loads(pickle.dumps(file)) == file and len({file, pickle.loads(pickle.dumps(file))}) == 1


def test_marker_changes_with_a_file_and_with_the_names_in_a_folder(tmp_path, bucket):
    for folder in (tmp_path / "local", make_path("s3://bucket/remote")):
        (folder).mkdir()
        (folder / "a").write_bytes(b"1")
        before = change_marker(folder)
        assert change_marker(folder) == before
        (folder / "b").write_bytes(b"1")
        assert change_marker(folder) != before
        assert isinstance(change_marker(folder / "a"), int)
        with pytest.raises(FileNotFoundError):
            change_marker(folder / "missing")


@pytest.mark.parametrize("text", ["[" * 100_000, b'{"a": ' * 50_000, "", "{", b"\xff\x00", "9" * 5_000])
def test_json_that_cannot_be_read_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)
    assert parse_json(b'{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize("text", ["a" * 5_000, "ü" * 200, "ab/" * 2_000])
def test_name_that_no_folder_can_have_is_refused(text):
    with pytest.raises(ResultsError, match="a path must have at most .*; give a shorter one"):
        make_path(text)
