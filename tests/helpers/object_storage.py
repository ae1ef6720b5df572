"""Object storage for tests: a bucket in this process that can fail, and a real S3 server that can be killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pyarrow.fs as fs

AWAY = "When doing it in bucket 'b': AWS Error NETWORK_CONNECTION during PutObject: curlCode: 7, Couldn't connect"


class Bucket:
    """The methods of pyarrow's S3FileSystem that RemotePath calls, on a local folder."""

    def __init__(self, folder: Path):
        self._files = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
        self._folder = folder
        self.error: Exception | None = None  # raised by every method
        self.num_requests = 0

    def go_away(self):
        self.error = OSError(AWAY)

    def come_back(self):
        self.error = None

    def _asked(self):
        self.num_requests += 1
        if self.error is not None:
            raise self.error

    def get_file_info(self, what):
        self._asked()
        return self._files.get_file_info(what)

    def open_input_file(self, key):
        self._asked()
        return self._files.open_input_file(key)

    def open_output_stream(self, key, metadata=None):
        self._asked()
        (self._folder / key).parent.mkdir(parents=True, exist_ok=True)
        return self._files.open_output_stream(key)

    def delete_file(self, key):
        self._asked()
        self._files.delete_file(key)

    def move(self, source, target):
        self._asked()
        self._files.move(source, target)


class S3Server:
    """moto's S3 server on loopback as a process, with durable buckets (tests/helpers/moto_server.py)."""

    def __init__(self, folder: Path):
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a command reaches it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "only-for-the-tests",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("moto_server.py")), str(self.port)]
        with open(self._folder / "server.log", "ab") as log:
            self.process = subprocess.Popen([*command, str(self._folder / "state")], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._listens():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}", method="PUT")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()

    def log(self) -> str:
        return (self._folder / "server.log").read_text()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """Like a machine that loses power."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Accept connections without answering."""
        self.process.send_signal(signal.SIGSTOP)
