"""Lost connections are resumed without losing a line, and errors of Ray are quoted."""

import pytest

from flexres_tune.submit.client import MAX_RECONNECTS, RunClient
from flexres_tune.submit.cluster_file import ClusterError, ClusterFile
from flexres_tune.submit.head import LINE_MARK, SKIPPED_MARK
from flexres_tune.submit.ray_exec import HeadNode, quote

CLUSTER = ClusterFile("c.yaml", "c", "aws", "~/my venv/bin/python", "/mnt/results")


class Connections:
    """A head whose connections each have lines, and then an end: an exit status, None if it is lost, or an error."""

    cluster = CLUSTER

    def __init__(self, *ends):
        self._ends = list(ends)
        self.scripts = []

    def run(self, script, on_line):
        self.scripts.append(script)
        lines, end = self._ends.pop(0)
        for line in lines:
            on_line(line if line.startswith((SKIPPED_MARK, LINE_MARK, "!")) else f"{LINE_MARK}{line}{LINE_MARK}")
        if isinstance(end, Exception):
            raise end
        return end


def follow(*ends, last=None):
    shown = []
    client = RunClient(head := Connections(*ends), "optim", shown.append, reconnect_pause_s=0)
    return head, client, shown, lambda: client.attach(last)


def test_lost_connection_is_resumed_after_the_last_line():
    head, _, shown, attach = follow(
        ([f"{SKIPPED_MARK}7", "eight", "nine", f"{LINE_MARK}te", "!Shared connection to 10.0.0.1 closed."], None),
        ([], ClusterError("no way")),
        ([f"{SKIPPED_MARK}9", "ten", "!what the head itself prints"], 0),
        last=2,
    )
    assert attach() == 0
    assert "--last 2" in head.scripts[0]
    assert "--skip 9" in head.scripts[1]
    assert "--skip 9" in head.scripts[2]
    assert [line for line in shown if "lost" not in line] == ["eight", "nine", "ten", "!what the head itself prints"]
    assert sum("the connection to the head was lost; trying again" in line for line in shown) == 2


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", ""])
def test_number_of_skipped_lines_that_is_none_is_a_line_like_others(number):
    _, client, shown, attach = follow(([f"{SKIPPED_MARK}{number}"], 0))
    assert attach() == 0
    assert not client.is_followed and shown == [f"{SKIPPED_MARK}{number}"]


def test_connection_that_stays_lost_ends_with_the_last_reason():
    _, client, _, attach = follow(([f"{SKIPPED_MARK}0", "one"], None), *[([], ClusterError("no way"))] * MAX_RECONNECTS)
    with pytest.raises(ClusterError, match="no way"):
        attach()
    assert client.is_followed


def test_a_new_line_resets_the_count_of_reconnects():
    flaky = [([f"{SKIPPED_MARK}{n}", "line"], None) for n in range(3 * MAX_RECONNECTS)]
    _, client, _, attach = follow(*flaky, ([f"{SKIPPED_MARK}{3 * MAX_RECONNECTS}"], 4))
    assert attach() == 4
    assert client.num_shown == 3 * MAX_RECONNECTS


def test_number_of_lines_that_is_none_is_shown_as_it_is():
    lines = [SKIPPED_MARK + number for number in ("²", "9" * 5_000, "-1", "x", "")]
    _, client, shown, attach = follow((lines, 0))
    assert attach() == 0
    assert shown == lines and not client.is_followed


def test_path_with_spaces_is_one_word_and_the_head_expands_its_home():
    assert quote("~/my venv/bin/python") == "~/'my venv/bin/python'"
    assert quote("/srv/für alle/python") == "'/srv/für alle/python'"
    head, _, _, attach = follow(([], 0))
    attach()
    assert " ~/'my venv/bin/python' -m flexres_tune.submit.head -- follow optim" in head.scripts[0]


@pytest.mark.parametrize(
    "output, message",
    [
        (
            "RuntimeError: Head node of cluster (c) not found!",
            "must be up, but is not; start it with: ray up -y c.yaml",
        ),
        ("ssh: connect to host 10.0.0.1 port 22: No route to host\nError: SSH command failed.", "No route to host"),
        ("me@10.0.0.1: Permission denied (publickey).", "Permission denied"),
        ("", "Ray prints:\n    nothing"),
    ],
)
def test_output_of_ray_is_quoted_in_the_error(tmp_path, output, message):
    ray = tmp_path / "ray"
    ray.write_text(
        f"#!/bin/sh\ncat <<'E'\nFetched IP: 10.0.0.1\n{output}\nE\nexit 1\n" if output else "#!/bin/sh\nexit 1\n"
    )
    ray.chmod(0o755)
    with pytest.raises(ClusterError) as error:
        HeadNode(CLUSTER, str(ray)).run("true", print)
    assert message in str(error.value)
    with pytest.raises(ClusterError) as error:
        HeadNode(CLUSTER, str(ray)).get("~/x", tmp_path / "x")
    assert message in str(error.value)
