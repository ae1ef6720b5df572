"""The settings that `submit` reads in a cluster file, and the errors of files that it cannot use."""

import os
from pathlib import Path

import pytest

from flexres_tune.submit.cluster_file import ClusterError, read_cluster_file

ROOT = Path(__file__).parents[2]
GOOD = "cluster_name: c\nprovider: {type: aws, flexres_tune: {python: ~/venv/bin/python, storage: /mnt/results}}\n"


@pytest.mark.parametrize(
    "name, python, storage",
    [
        ("gpu", "~/venv/bin/python", "s3://flexres-tune-{account}/results"),
        ("gcp", "~/venv/bin/python", "gs://flexres-tune-PROJECT-1/results"),
        ("onprem", "/srv/flexres_tune/.venv/bin/python", "/srv/flexres_tune/results"),
    ],
)
def test_cluster_files_of_this_project_name_python_and_results(tmp_path, name, python, storage):
    text = (ROOT / f"cluster/{name}.yaml").read_text()
    file = tmp_path / "filled.yaml"
    file.write_text(text.replace("FOLDER-YOURS", "/srv/flexres_tune").replace("-YOURS", "-1"))
    cluster = read_cluster_file(file)
    assert (cluster.name, cluster.python, cluster.storage) == ("flexres-tune", python, storage)


def test_aws_file_needs_no_edit_and_names_prices():
    cluster = read_cluster_file(ROOT / "cluster/gpu.yaml")
    assert (cluster.region, cluster.max_workers) == ("us-west-2", 8)
    assert (cluster.head_usd_per_hour, cluster.worker_usd_per_hour) == (0.22, 1.34)


@pytest.mark.parametrize("name", ["gcp", "onprem"])
def test_placeholders_that_are_left_are_named(name):
    with pytest.raises(ClusterError, match=r"every -YOURS must be replaced, but \d+ values have one"):
        read_cluster_file(ROOT / f"cluster/{name}.yaml")


def test_options_take_precedence_over_the_file(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("cluster_name: c\nprovider: {type: local}\n")
    cluster = read_cluster_file(file, python="/py", storage="~/r")
    assert (cluster.python, cluster.storage) == ("/py", "~/r")


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "but: No such file or directory; check the path"),
        ("a: [1", r"c.yaml:\d: must be one YAML document"),
        ("a: 1\n---\nb: 2\n", "must be one YAML document"),
        ("name: optim\n", "must be a file for `ray up`, with cluster_name and provider.type"),
        ("- 1\n", "must be a file for `ray up`"),
        (
            "cluster_name: c\nprovider: {type: aws}\n",
            r"flexres_tune.python: must be set, but is missing; add .* or give --python",
        ),
        (GOOD.replace("storage", "storag"), "no such key: 'storag'; did you mean storage?"),
        (GOOD.replace("/mnt/results", "results"), r"flexres_tune.storage: must be a path that begins with / or ~/"),
        (
            GOOD.replace("/mnt/results", "/r, worker_usd_per_hour: cheap"),
            r"flexres_tune.worker_usd_per_hour: must be a price in USD per hour, such as 1.32, but got 'cheap'",
        ),
        (GOOD.replace("/mnt/results", "/r, head_usd_per_hour: -1"), "must be a price in USD per hour"),
        (GOOD.replace("{python: ~/venv/bin/python, storage: /mnt/results}", "x"), "must be a mapping, but got 'x'"),
    ],
)
def test_problem_of_a_file_is_named(tmp_path, text, message):
    file = tmp_path / "c.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ClusterError, match=message):
        read_cluster_file(file)


def test_kuberay_file_is_not_for_ray_up():
    with pytest.raises(ClusterError, match="must be one YAML document for `ray up`"):
        read_cluster_file(ROOT / "cluster/kuberay.yaml")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))


@pytest.mark.parametrize("text", [BOMB, MERGES, "a: &a [*a]\n", "node: &n {min_workers: 0}\nother: {<<: *n}\n"])
def test_aliases_and_merges_are_read_in_time(tmp_path, text):
    file = tmp_path / "c.yaml"
    file.write_text(text + GOOD)
    assert read_cluster_file(file).storage == "/mnt/results"


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 3000,
        'a: "\\UFFFFFFFF"\n' + GOOD,
        "\xff",
        "? [a]\n: b\n",
        "a: 2026-99-99\n",
        "a: !!binary x\n",
        "",
        "x",
    ],
)
def test_odd_file_is_refused_in_one_line(tmp_path, text):
    file = tmp_path / "c.yaml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ClusterError) as error:
        read_cluster_file(file)
    assert len(str(error.value).splitlines()) == 1


def test_file_that_never_ends_and_pipe_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ClusterError, match="is not a regular file"):
            read_cluster_file(path)
    (tmp_path / "large.yaml").write_text("#" * 60_000)
    with pytest.raises(ClusterError, match="at most 50,000 bytes"):
        read_cluster_file(tmp_path / "large.yaml")
