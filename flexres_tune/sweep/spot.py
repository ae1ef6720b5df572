"""The notice that a cloud gives before it takes a spot machine away: two minutes on AWS, 30 s on Google Cloud.

Each trial's process reads it from the metadata server of its machine, so that the trial saves a checkpoint and continues
on another machine. On a machine of another kind no request is sent: firmware names the maker. A test can name a server
of its own in the environment variable FLEXRES_TUNE_METADATA, such as `aws http://127.0.0.1:8000`.
"""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SERVER_VARIABLE = "FLEXRES_TUNE_METADATA"
MAKER_FILE = Path("/sys/class/dmi/id/sys_vendor")
PERIOD_S = 2.0
TIMEOUT_S = 2.0
TOKEN_S = 21_600  # for which AWS's token is valid


@dataclass(frozen=True)
class Cloud:
    """How a cloud's metadata server is asked whether the machine will be taken away."""

    name: str
    maker: str  # in MAKER_FILE
    server: str
    notice: str  # path
    headers: Mapping[str, str]
    token: str | None = None  # path; None: no token is needed
    answers: tuple[str, ...] = ()  # texts that are a notice; empty: every answer is one, and 404 is none


CLOUDS = {
    "aws": Cloud(
        name="AWS",
        maker="Amazon EC2",
        server="http://169.254.169.254",
        notice="/latest/meta-data/spot/instance-action",
        headers={},
        token="/latest/api/token",
    ),
    "gcp": Cloud(
        name="Google Cloud",
        maker="Google",
        server="http://169.254.169.254",  # metadata.google.internal, without a name server
        notice="/computeMetadata/v1/instance/preempted",
        headers={"Metadata-Flavor": "Google"},
        answers=("TRUE",),
    ),
}


class NodeLeavingError(Exception):
    """The cloud takes this machine away; the trial has saved its checkpoint and must continue on another machine."""


def find_cloud(maker_file: Path = MAKER_FILE) -> tuple[Cloud, str] | None:
    """(the cloud whose machine this is, address of its metadata server); None on any other machine."""
    if named := os.environ.get(SERVER_VARIABLE):
        name, _, server = named.partition(" ")
        return CLOUDS[name], server
    try:
        maker = maker_file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return next(((cloud, cloud.server) for cloud in CLOUDS.values() if cloud.maker == maker), None)


class SpotNotice:
    """Whether this machine will be taken away; asked in a thread while the context is open.

    `found` is what find_cloud() returned; with None, nothing is asked and the answer stays False.
    """

    def __init__(self, found: tuple[Cloud, str] | None, period_s: float = PERIOD_S):
        self._found, self._period_s = found, period_s
        self._is_given, self._has_ended = threading.Event(), threading.Event()
        self._token: str | None = None

    def __enter__(self) -> SpotNotice:
        if self._found is not None:
            threading.Thread(target=self._watch, name="spot notice", daemon=True).start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._has_ended.set()

    def __call__(self) -> bool:
        return self._is_given.is_set()

    @property
    def cloud(self) -> str:
        """Its name for people."""
        return self._found[0].name if self._found else ""

    def _watch(self) -> None:
        while not self._has_ended.is_set():
            if self._ask():
                return self._is_given.set()
            self._has_ended.wait(self._period_s)

    def _ask(self) -> bool:
        cloud, server = self._found
        headers = dict(cloud.headers)
        try:
            if cloud.token and self._token is None:
                ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}
                self._token = _request("PUT", server + cloud.token, ttl)
            if self._token is not None:
                headers["X-aws-ec2-metadata-token"] = self._token
            answer = _request("GET", server + cloud.notice, headers)
        except urllib.error.HTTPError as error:
            if error.code == 401:  # the token is no longer valid
                self._token = None
            return False
        except (OSError, ValueError):  # the next request may be answered
            return False
        return not cloud.answers or answer.strip() in cloud.answers


def _request(method: str, url: str, headers: Mapping[str, str]) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a metadata server is behind no proxy
    with opener.open(urllib.request.Request(url, headers=dict(headers), method=method), timeout=TIMEOUT_S) as answer:
        return answer.read(1000).decode(errors="replace")
