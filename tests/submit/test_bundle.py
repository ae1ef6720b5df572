"""What `submit` sends: the package, the sweeps, and nothing else."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from flexres_tune.errors import FlexResError
from flexres_tune.submit import bundle as bundle_module
from flexres_tune.submit.bundle import list_tree, pack_tree
from flexres_tune.submit.run_folder import RunFolder

ROOT = Path(__file__).parents[2]


def test_every_file_of_the_package_that_git_knows_is_sent():
    """A data file of a new kind must be added to the patterns."""
    command = ["git", "ls-files", "-z", "--cached", "flexres_tune", "sweeps"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no git checkout")
    tracked = {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}
    sent = {path.relative_to(ROOT).as_posix() for path in list_tree(ROOT)}
    assert tracked <= sent


def make_tree(root, *names):
    for name in ("flexres_tune/__init__.py", *names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_nothing_else_is_sent(tmp_path):
    make_tree(
        tmp_path,
        ".git/config",
        "results/optim/plan.json",
        ".venv/lib/flexres_tune/a.py",
        "data/train.parquet",
        "flexres_tune/__pycache__/a.py",
        "flexres_tune/.hidden/a.py",
        "flexres_tune/model.pt",
        "sweeps/deep/er/x.yaml",
        "cluster/constraints.txt",
        "cluster/gpu.yaml",
        "id_ed25519",
    )
    sent = [path.relative_to(tmp_path).as_posix() for path in list_tree(tmp_path)]
    assert sent == ["cluster/constraints.txt", "flexres_tune/__init__.py", "sweeps/deep/er/x.yaml"]


def test_archive_of_this_tree_is_small_and_unpacks_to_the_same_files(tmp_path):
    sweep = tmp_path / "böse Datei.yaml"
    sweep.write_text("name: ü")
    sent = pack_tree(ROOT, sweep, tmp_path / "sent.zip")
    assert sent.num_bytes < 1_000_000
    assert sent.sweep == "submitted/böse Datei.yaml"
    run = RunFolder(tmp_path, "optim")
    run.folder.mkdir(parents=True)
    run.unpack(tmp_path / "sent.zip")
    assert (run.tree / sent.sweep).read_text() == "name: ü"
    assert sum(path.is_file() for path in run.tree.rglob("*")) == sent.num_files


def test_sweep_of_the_tree_keeps_its_path_and_is_sent_by_any_name(tmp_path):
    make_tree(tmp_path, "mine/x.yml")
    sent = pack_tree(tmp_path, tmp_path / "mine/../mine/x.yml", tmp_path / "sent.zip")
    assert sent.sweep == "mine/x.yml"
    assert zipfile.ZipFile(tmp_path / "sent.zip").namelist() == ["flexres_tune/__init__.py", "mine/x.yml"]


def test_large_tree_is_refused_with_its_largest_file(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_module, "MAX_BYTES", 100)
    make_tree(tmp_path, "sweeps/x.yaml")
    (tmp_path / "flexres_tune/dump.csv").write_text("1," * 100)
    with pytest.raises(FlexResError, match=r"at most 100 bytes.*largest is flexres_tune/dump.csv with 200"):
        pack_tree(tmp_path, tmp_path / "sweeps/x.yaml", tmp_path / "sent.zip")


def test_folder_without_the_package_is_refused(tmp_path):
    (tmp_path / "x.yaml").touch()
    with pytest.raises(FlexResError, match="must be the working tree that contains flexres_tune/"):
        pack_tree(tmp_path, tmp_path / "x.yaml", tmp_path / "sent.zip")
