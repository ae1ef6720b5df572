"""RemotePath behaves as pathlib.Path, and explains a server's errors."""

import pytest

from flexres_tune.errors import ResultsError, StorageError
from flexres_tune.storage import list_folder, make_path


@pytest.fixture
def place(bucket):
    return make_path("s3://bucket/results")


def test_what_is_written_is_read(place):
    file = place / "a" / "b.json"
    assert not file.exists() and not (place / "a").is_dir()
    file.write_bytes(b"{}")
    assert file.exists() and not file.is_dir() and (place / "a").is_dir() and place.exists()
    assert file.read_bytes() == b"{}" and file.read_text() == "{}"
    assert file.stat().st_size == 2 and file.stat().st_mtime_ns > 0
    file.write_text("ä")
    assert file.read_text() == "ä"


def test_folder_is_listed_as_a_local_one(place, tmp_path):
    (place / "b").write_bytes(b"12")
    (place / "a" / "deep" / "er").touch()
    assert sorted(list_folder(place)) == sorted(list_folder(tmp_path / "bucket/results")) == ["a", "b"]
    for folder in (place, tmp_path / "bucket/results"):
        listed = list_folder(folder)
        assert listed["a"] is None and listed["b"].st_size == 2 and listed["b"].st_mtime_ns > 0


def test_missing_object_is_a_missing_file(place):
    with pytest.raises(FileNotFoundError, match="s3://bucket/results/x"):
        (place / "x").read_bytes()
    with pytest.raises(FileNotFoundError):
        (place / "x").stat()
    with pytest.raises(FileNotFoundError):
        (place / "x").list_folder()
    with pytest.raises(FileNotFoundError):
        (place / "x").unlink()
    (place / "x").unlink(missing_ok=True)


def test_object_is_renamed_and_deleted(place):
    (place / "x").write_bytes(b"1")
    (place / "x").rename(place / "y")
    assert not (place / "x").exists() and (place / "y").read_bytes() == b"1"
    (place / "y").unlink()
    assert not (place / "y").exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "When testing for key 'k' in bucket 'b': AWS Error NETWORK_CONNECTION during HeadObject operation: "
            "curlCode: 7, Couldn't connect to server",
            r"AWS does not answer \(AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7.*AWS_ENDP",
        ),
        ("AWS Error NO_SUCH_BUCKET during PutObject", "there is no bucket bucket at AWS; create it"),
        ("AWS Error ACCESS_DENIED during PutObject", r"AWS refuses \(AWS Error ACCESS_DENIED.*AWS_ACCESS_KEY_ID"),
        ("AWS Error SIGNATURE_DOES_NOT_MATCH during x", "AWS refuses.*AWS_SECRET_ACCESS_KEY"),
        ("AWS Error UNKNOWN (HTTP status 507) during PutObject", r"AWS: AWS Error UNKNOWN \(HTTP status 507\)"),
    ],
)
def test_errors_name_the_path_the_reason_and_the_remedy(place, bucket, error, message):
    bucket.error = OSError(error)
    for ask in (place.exists, place.list_folder, (place / "x").read_bytes, (place / "x").touch, (place / "x").unlink):
        with pytest.raises(StorageError, match=rf"s3://bucket/results.*: cannot be \w.*: {message}"):
            ask()


def test_error_is_an_os_error_and_is_shown_to_the_user(place, bucket):
    bucket.go_away()
    for kind in (OSError, ResultsError):
        with pytest.raises(kind):
            place.exists()


def test_folder_on_google_exists_because_of_the_objects_below_it(bucket):
    place = make_path("gs://bucket/results")
    (place / "demo" / "trials" / "part").touch()
    (place / "index.html").touch()
    assert sorted(list_folder(place)) == ["demo", "index.html"] and list_folder(place)["demo"] is None
    assert place.list_folder()["index.html"].st_mtime_ns > 0


def test_missing_folder_on_google_is_a_missing_folder(bucket):
    bucket.error = OSError("No such file or directory 'bucket/results'")
    with pytest.raises(FileNotFoundError, match="gs://bucket/results"):
        make_path("gs://bucket/results").list_folder()
