"""A connection that is lost, and what Ray says where there is none."""

import pytest

from flexres_tune.submit import client as following
from flexres_tune.submit.client import Follower
from flexres_tune.submit.cluster_file import ClusterError, ClusterFile
from flexres_tune.submit.head import EDGE, POSITION
from flexres_tune.submit.ray_exec import Head, quote

CLUSTER = ClusterFile("c.yaml", "c", "aws", "~/my venv/bin/python", "/mnt/results")


class Connections:
    """A head whose connections say so much each, and then end so: a status, None for lost, or an error."""

    cluster = CLUSTER

    def __init__(self, *ends):
        self._ends = list(ends)
        self.scripts = []

    def run(self, script, show):
        self.scripts.append(script)
        lines, end = self._ends.pop(0)
        for line in lines:
            show(line if line.startswith((POSITION, EDGE, "!")) else f"{EDGE}{line}{EDGE}")
        if isinstance(end, Exception):
            raise end
        return end


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(following, "PAUSE_S", 0)


def follow(*ends, last=None):
    shown = []
    follower = Follower(head := Connections(*ends), "optim", shown.append)
    return head, follower, shown, lambda: follower.attach(last)


def test_lost_connection_is_taken_up_where_it_ended():
    head, _, shown, attach = follow(
        ([f"{POSITION}7", "eight", "nine", f"{EDGE}te", "!Shared connection to 10.0.0.1 closed."], None),
        ([], ClusterError("no way")),
        ([f"{POSITION}9", "ten", "!what the head itself says"], 0),
        last=2,
    )
    assert attach() == 0
    assert "--last 2" in head.scripts[0]
    assert "--skip 9" in head.scripts[1]
    assert "--skip 9" in head.scripts[2]
    assert [line for line in shown if "lost" not in line] == ["eight", "nine", "ten", "!what the head itself says"]
    assert sum("the connection to the head was lost; trying again" in line for line in shown) == 2


def test_connection_that_stays_lost_is_given_up_and_the_last_reason_said():
    _, follower, _, attach = follow(([f"{POSITION}0", "one"], None), *[([], ClusterError("no way"))] * following.TRIES)
    with pytest.raises(ClusterError, match="no way"):
        attach()
    assert follower.is_followed


def test_connection_that_works_again_gets_all_its_tries_back():
    flaky = [([f"{POSITION}{n}", "line"], None) for n in range(3 * following.TRIES)]
    _, follower, _, attach = follow(*flaky, ([f"{POSITION}{3 * following.TRIES}"], 4))
    assert attach() == 4
    assert follower.num_seen == 3 * following.TRIES


def test_paths_with_spaces_are_one_word_and_the_home_is_the_heads():
    assert quote("~/my venv/bin/python") == "~/'my venv/bin/python'"
    assert quote("/srv/für alle/python") == "'/srv/für alle/python'"
    head, _, _, attach = follow(([], 0))
    attach()
    assert " ~/'my venv/bin/python' -m flexres_tune.submit.head -- follow optim" in head.scripts[0]


@pytest.mark.parametrize(
    "said, message",
    [
        (
            "RuntimeError: Head node of cluster (c) not found!",
            "must be up, but is not; start it with: ray up -y c.yaml",
        ),
        ("ssh: connect to host 10.0.0.1 port 22: No route to host\nError: SSH command failed.", "No route to host"),
        ("me@10.0.0.1: Permission denied (publickey).", "Permission denied"),
        ("", "Ray says:\n    nothing"),
    ],
)
def test_what_ray_says_stands_in_the_message(tmp_path, said, message):
    ray = tmp_path / "ray"
    ray.write_text(
        f"#!/bin/sh\ncat <<'E'\nFetched IP: 10.0.0.1\n{said}\nE\nexit 1\n" if said else "#!/bin/sh\nexit 1\n"
    )
    ray.chmod(0o755)
    with pytest.raises(ClusterError) as error:
        Head(CLUSTER, str(ray)).run("true", print)
    assert message in str(error.value)
    with pytest.raises(ClusterError) as error:
        Head(CLUSTER, str(ray)).get("~/x", tmp_path / "x")
    assert message in str(error.value)
