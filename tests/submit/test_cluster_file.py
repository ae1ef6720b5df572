"""What `submit` reads of a cluster file, and what it says of one that it cannot use."""

from pathlib import Path

import pytest

from flexres_tune.submit.cluster_file import ClusterError, read_cluster_file

ROOT = Path(__file__).parents[2]
GOOD = "cluster_name: c\nprovider: {type: aws, flexres_tune: {python: ~/venv/bin/python, storage: /mnt/results}}\n"


@pytest.mark.parametrize(
    "name, python, storage",
    [
        ("gpu", "~/venv/bin/python", "/mnt/results"),
        ("gcp", "~/venv/bin/python", "/mnt/results"),
        ("onprem", "/srv/flexres_tune/.venv/bin/python", "/srv/flexres_tune/results"),
    ],
)
def test_files_of_the_house_say_where_python_and_results_are(tmp_path, name, python, storage):
    text = (ROOT / f"cluster/{name}.yaml").read_text()
    file = tmp_path / "filled.yaml"
    file.write_text(text.replace("FOLDER-YOURS", "/srv/flexres_tune").replace("-YOURS", "-1"))
    cluster = read_cluster_file(file)
    assert (cluster.name, cluster.python, cluster.storage) == ("flexres-tune", python, storage)


@pytest.mark.parametrize("name", ["gpu", "gcp", "onprem"])
def test_file_that_is_not_filled_in_is_named(name):
    with pytest.raises(ClusterError, match=r"what is yours must be filled in, but \d+ values hold -YOURS"):
        read_cluster_file(ROOT / f"cluster/{name}.yaml")


def test_options_go_before_the_file(tmp_path):
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
            r"flexres_tune.python: must be there, but is not; add .* or give --python",
        ),
        (GOOD.replace("storage", "storag"), "no such key: 'storag'; did you mean storage?"),
        (GOOD.replace("/mnt/results", "results"), r"flexres_tune.storage: must be a path that begins with / or ~/"),
        (GOOD.replace("{python: ~/venv/bin/python, storage: /mnt/results}", "x"), "must be a mapping, but got 'x'"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, text, message):
    file = tmp_path / "c.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ClusterError, match=message):
        read_cluster_file(file)


def test_kuberay_is_no_file_for_ray_up():
    with pytest.raises(ClusterError, match="must be one YAML document for `ray up`"):
        read_cluster_file(ROOT / "cluster/kuberay.yaml")
