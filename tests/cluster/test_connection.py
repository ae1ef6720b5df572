"""Which cluster a command joins."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading

import pytest

from flexres_tune.cluster.connection import connect, connection_problem, find_address
from flexres_tune.errors import DeviceError


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()


@pytest.fixture
def listen(tmp_path):
    """Start a program on a port that sends `answer` to who connects, and write its address where `ray start` does."""
    with contextlib.ExitStack() as stack:

        def listen(answer):
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = server.accept()
                        connection.recv(100)
                        connection.sendall(answer)
                        connection.close()

            threading.Thread(target=serve, daemon=True).start()
            stack.callback(server.shutdown, socket.SHUT_RDWR)
            address = f"127.0.0.1:{server.getsockname()[1]}"
            (tmp_path / "ray" / "ray_current_cluster").write_text(address)
            return address

        yield listen


@pytest.fixture
def running(listen):
    """The address of a program that answers as a gRPC server does."""
    return listen(b"\0\0\0\4\0\0\0\0\0")


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


def test_file_of_a_cluster_whose_port_another_program_has_now_is_ignored(listen):
    for answer in (b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 400 Bad Request\r\n", b""):
        address = listen(answer)
        assert find_address(None, local=False) is None
        assert connection_problem(address) == "the program that listens there is not Ray"


def test_local_as_an_address_starts_ray_here(running, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert find_address(None, local=False) is None


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"127.0.0.1:99999999", b"no address\n", b"127.0.0.1:x"])
def test_damaged_file_of_a_cluster_starts_ray_here(tmp_path, content):
    (tmp_path / "ray" / "ray_current_cluster").write_bytes(content)
    assert find_address(None, local=False) is None


def test_address_of_ray_client_is_refused_with_what_to_use():
    with pytest.raises(DeviceError, match="ray://h:10001, but: the address must be auto or the HOST:PORT of a head"):
        with connect("ray://h:10001"):
            pass


STARTS_RAY = """
from flexres_tune.cluster.connection import connect, connection_problem
from flexres_tune.errors import DeviceError
try:
    with connect(None):
        import ray
        print("problem of the head:", connection_problem(ray.get_runtime_context().gcs_address))
except DeviceError as error:
    print(error)
"""


def start_ray(**environment):
    """What a process prints that starts Ray."""
    command = [sys.executable, "-c", STARTS_RAY]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    return done.stdout


def test_head_of_a_real_cluster_answers():
    with tempfile.TemporaryDirectory(prefix="fx_", ignore_cleanup_errors=True) as folder:
        assert start_ray(RAY_TMPDIR=folder) == "problem of the head: None\n"


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("HOME", "/dev/null", "/dev/null/.ray: Not a directory; set HOME, which is /dev/null, to"),
        ("RAY_TMPDIR", "/dev/null", "/dev/null/ray: Not a directory; set RAY_TMPDIR, which is /dev/null, to"),
        ("RAY_TMPDIR", "/tmp/" + 120 * "x", "AF_UNIX path length cannot exceed 107 bytes"),
    ],
)
def test_folder_in_which_ray_cannot_write_is_named_in_one_line(tmp_path, variable, value, reason):
    """The command does not start itself again: a new process would find the same folder."""
    output = start_ray(**{"RAY_TMPDIR": str(tmp_path), "RAY_AUTH_MODE": "token", variable: value})
    assert reason in output
    assert len(output.splitlines()) == 1
