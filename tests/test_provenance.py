"""The commit that reaches the tables."""

import subprocess

import pytest

from flexres_tune.provenance import SENT_COMMIT, git_commit

REMOTE = "https://user:CANARY@example.org/repository.git"


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.delenv(SENT_COMMIT, raising=False)
    git(tmp_path, "init", "-q")
    git(tmp_path, "remote", "add", "origin", REMOTE)
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    git(tmp_path, "tag", "v1-CANARY")
    return tmp_path


def test_commit_of_a_repository_with_a_password_in_its_remote_is_its_hash_alone(repository):
    commit = git_commit(repository)
    assert len(commit) == 40 and set(commit) <= set("0123456789abcdef")
    (repository / "file").write_text("two")
    assert git_commit(repository) == f"{commit}-dirty"


def test_folder_outside_a_working_tree_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.delenv(SENT_COMMIT, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None


def test_sent_commit_replaces_the_working_tree(repository, monkeypatch):
    monkeypatch.setenv(SENT_COMMIT, "0123abc-dirty")
    assert git_commit(repository) == "0123abc-dirty"


@pytest.mark.parametrize("sent", [REMOTE, f"0123abc {REMOTE}", "CANARY", "0123abc\nCANARY"])
def test_text_in_the_environment_that_is_no_commit_reaches_no_table(repository, monkeypatch, sent):
    monkeypatch.setenv(SENT_COMMIT, sent)
    assert git_commit(repository) is None
