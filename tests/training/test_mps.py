"""NVIDIA's MPS with a daemon that a shell script stands for: started once per machine, ended if nobody uses it."""

import os
import tempfile

import pytest

from flexres_tune.cluster.probe import stop_mps
from flexres_tune.training.mps import CONTROL, LOGS, PIPES, mps_folder, use_mps

DAEMON = """#!/bin/sh
state=$CUDA_MPS_PIPE_DIRECTORY/running
if [ "$1" = -d ]; then echo "${CUDA_VISIBLE_DEVICES:-all}" >>"$STARTS"; touch "$state"; exit; fi
[ -e "$state" ] || exit 1
read -r command
case $command in
  get_server_list) echo 17 ;;
  "get_client_list 17") cat "$CLIENTS" ;;
  quit) rm "$state" ;;
esac
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder with the daemon's program; `starts` has a line per start, `clients` the processes that it serves."""
    program = tmp_path / "bin" / CONTROL
    program.parent.mkdir()
    program.write_text(DAEMON)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("STARTS", str(tmp_path / "starts"))
    monkeypatch.setenv("CLIENTS", str(tmp_path / "clients"))
    (tmp_path / "clients").touch()
    for name in (PIPES, LOGS):
        monkeypatch.setenv(name, "x")  # so that it is restored
        monkeypatch.delenv(name)
    return tmp_path


def test_first_trial_of_a_machine_starts_the_daemon_for_all_gpus(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert use_mps() is None
    assert os.environ[PIPES] == str(mps_folder()) and os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv(PIPES)  # another process
    assert use_mps() is None
    assert (machine / "starts").read_text() == "all\n"


def test_daemon_of_the_cluster_is_used(machine, monkeypatch):
    monkeypatch.setenv(PIPES, "/theirs")
    assert use_mps() is None
    assert os.environ[PIPES] == "/theirs" and not (machine / "starts").exists()


def test_reason_is_given_if_there_is_no_daemon(machine, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert use_mps() == f"mps needs {CONTROL}, which is part of NVIDIA's driver, but it is not on the PATH"
    assert PIPES not in os.environ


def test_daemon_ends_after_the_sweep_unless_another_one_uses_it(machine):
    assert not stop_mps(mps_folder().name), "none was started"
    use_mps()
    (machine / "clients").write_text("4711\n")
    assert not stop_mps(mps_folder().name)
    (machine / "clients").write_text("")
    assert stop_mps(mps_folder().name) and not mps_folder().exists()
