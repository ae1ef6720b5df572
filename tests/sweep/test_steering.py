"""Steering: requests as files, read by the driver they are for, and answered."""

import json
import os

import pytest

from flexres_tune.results.holder import Holder
from flexres_tune.results.paths import SweepPaths
from flexres_tune.sweep.steering import Act, Answer, Inbox, identity, send_request, wait_for_answer

HOLDER = Holder(host="here", pid=7, started_at="2026-01-01")


@pytest.fixture
def paths(tmp_path):
    return SweepPaths(tmp_path, "test")


def read(paths, holder=HOLDER):
    inbox = Inbox(paths, identity(holder))
    inbox.look()
    return inbox, inbox.take()


def test_request_reaches_the_driver_once_and_its_answer_comes_back(paths):
    sent = send_request(paths, Act.STOP, "a-0", HOLDER)
    inbox, (request,) = read(paths)
    assert request == sent and "@" in request.who
    inbox.look()
    assert inbox.take() == []
    assert wait_for_answer(paths, sent, 0.0) is None
    inbox.answer(request, Answer(True, "it stops"))
    assert wait_for_answer(paths, sent, 1.0) == Answer(True, "it stops")
    assert list((paths.folder / ".steering").iterdir()) == [], "nothing is left behind"


def test_request_for_an_earlier_driver_is_deleted_and_not_done(paths):
    send_request(paths, Act.RELOAD, "", HOLDER)
    _, requests = read(paths, Holder(host="here", pid=8, started_at="2026-01-01"))
    assert requests == []
    assert not list((paths.folder / ".steering").iterdir())


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 100_000,
        "x" * 20_000,
        json.dumps({"id": "0" * 32, "act": "exec", "trial_id": "", "who": "x", "driver": identity(HOLDER)}),
        json.dumps({"id": "0" * 32, "act": "stop", "trial_id": 3, "who": "x", "driver": identity(HOLDER)}),
        json.dumps({"id": "0" * 32, "act": "stop", "trial_id": "y" * 999, "who": "x", "driver": identity(HOLDER)}),
        json.dumps({"id": "1" * 32, "act": "stop", "trial_id": "a-0", "who": "x", "driver": identity(HOLDER)}),
    ],
)
def test_file_that_is_no_request_does_nothing(paths, content):
    folder = paths.folder / ".steering"
    folder.mkdir(parents=True)
    (folder / f"request-{'0' * 32}.json").write_text(content)
    (folder / "request-..json").write_text("{}")
    assert read(paths)[1] == []


def test_named_pipe_in_place_of_a_request_is_not_waited_for(paths):
    folder = paths.folder / ".steering"
    folder.mkdir(parents=True)
    os.mkfifo(folder / f"request-{'0' * 32}.json")
    assert read(paths)[1] == []


def test_requests_travel_through_object_storage_as_well(bucket):
    paths = SweepPaths("s3://bucket/results", "test")
    sent = send_request(paths, Act.STOP, "a-0", HOLDER)
    inbox, (request,) = read(paths)
    assert request == sent
    inbox.answer(request, Answer(False, "it does not run"))
    assert wait_for_answer(paths, sent, 5.0) == Answer(False, "it does not run")
    inbox.look()
    assert inbox.take() == []
