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
    """An address that answers, in the file that `ray start` writes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        yield address


def test_without_a_cluster_ray_is_started_here():
    assert find_address(None, local=False) is None


def test_cluster_that_runs_on_this_machine_is_joined(running):
    assert find_address(None, local=False) == running


def test_option_wins_over_the_variable_and_both_over_the_running_cluster(running, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert find_address(None, local=False) == "10.0.0.1:6379"
    assert find_address("10.0.0.2:6379", local=False) == "10.0.0.2:6379"


def test_local_ignores_all_of_them(running, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert find_address("10.0.0.2:6379", local=True) is None


def test_file_of_a_cluster_that_has_ended_is_ignored(tmp_path):
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    assert find_address(None, local=False) is None
