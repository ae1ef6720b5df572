"""Which cluster a command joins."""

import socket

import pytest

from flexres_tune.cluster.connection import find_address


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()


@pytest.fixture
def running(tmp_path):
    """A port that answers, written where `ray start` writes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        yield address


def test_nothing_around_means_a_ray_of_our_own():
    assert find_address(None, local=False) is None


def test_running_cluster_of_this_machine_is_joined(running):
    assert find_address(None, local=False) == running


def test_what_is_asked_for_comes_first(running, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert find_address(None, local=False) == "10.0.0.1:6379"
    assert find_address("10.0.0.2:6379", local=False) == "10.0.0.2:6379"


def test_local_stays_out_of_all_of_them(running, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert find_address("10.0.0.2:6379", local=True) is None


def test_file_that_outlived_its_cluster_is_not_believed(tmp_path):
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    assert find_address(None, local=False) is None
