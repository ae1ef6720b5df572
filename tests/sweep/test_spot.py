"""The notice before a spot machine is taken away, from imitated metadata servers of both clouds."""

import threading
import time

import pytest
from helpers.factories import make_config
from helpers.metadata_server import make_server

from flexres_tune.records import TrialStatus
from flexres_tune.sweep.spot import CLOUDS, SERVER_VARIABLE, NodeLeavingError, SpotNotice, find_cloud
from flexres_tune.sweep.worker import TrialJob, run_job


@pytest.fixture
def notice(tmp_path):
    return tmp_path / "notice"


@pytest.fixture
def server(notice):
    server = make_server(0, notice)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(server):
    return f"http://127.0.0.1:{server.server_port}"


def wait_until(condition, timeout_s=20):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("name", CLOUDS)
def test_notice_is_seen_when_it_is_given_and_not_before(name, server, notice):
    with SpotNotice((CLOUDS[name], address(server)), period_s=0.02) as is_leaving:
        wait_until(lambda: server.requests.count(CLOUDS[name].notice) > 2)
        assert not is_leaving()
        notice.touch()
        wait_until(is_leaving)


def test_expired_token_is_renewed(server, notice):
    with SpotNotice((CLOUDS["aws"], address(server)), period_s=0.02) as is_leaving:
        wait_until(lambda: server.requests.count(CLOUDS["aws"].notice) > 1)
        server.token = "another"
        notice.touch()
        wait_until(is_leaving)


def test_server_that_is_down_is_no_notice_and_its_return_is_seen(notice):
    server = make_server(0, notice)
    server.server_close()
    with SpotNotice((CLOUDS["gcp"], address(server)), period_s=0.02) as is_leaving:
        time.sleep(0.2)
        assert not is_leaving()


@pytest.mark.parametrize(
    ("maker", "name"), [("Amazon EC2\n", "AWS"), ("Google\n", "Google Cloud"), ("QEMU\n", None), (None, None)]
)
def test_cloud_is_recognized_by_the_maker_of_the_machine(tmp_path, monkeypatch, maker, name):
    monkeypatch.delenv(SERVER_VARIABLE, raising=False)
    file = tmp_path / "sys_vendor"
    if maker is not None:
        file.write_text(maker)
    found = find_cloud(file)
    assert (found and found[0].name) == name


def make_job(tmp_path, can_move):
    config = make_config(epochs=10_000)
    return TrialJob(
        trial_id=config.trial_id,
        config=config.to_dict(),
        checkpoint=str(tmp_path / "x.pt"),
        checkpoint_period_s=3600,
        num_threads=1,
        can_move=can_move,
    )


def test_trial_saves_and_asks_to_move(tmp_path, server, notice, monkeypatch):
    monkeypatch.setenv(SERVER_VARIABLE, f"aws {address(server)}")
    reports = run_job(make_job(tmp_path, can_move=True))
    first = next(reports)
    notice.touch()
    rest = []
    with pytest.raises(NodeLeavingError):
        rest.extend(report for report in reports if rest.append(report) is None)
    assert "AWS takes this machine away; its trials have saved and move" in rest[-1].facts.notice
    assert all(report.status is None for report in [first, *rest])
    assert (tmp_path / "x.pt").exists()
    again = run_job(make_job(tmp_path, can_move=True))
    done = max(report.metrics.epoch for report in [first, *rest] if report.metrics)
    assert [next(again).metrics.epoch for _ in range(done)] == list(range(1, done + 1))
    again.close()


def test_trial_that_cannot_move_asks_nobody(tmp_path, server, notice, monkeypatch):
    monkeypatch.setenv(SERVER_VARIABLE, f"aws {address(server)}")
    notice.touch()
    reports = run_job(make_job(tmp_path, can_move=False))
    assert next(reports).metrics.epoch == 1
    assert next(reports).status is not TrialStatus.INTERRUPTED
    reports.close()
    assert server.requests == []
