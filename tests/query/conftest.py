"""Folders of results that are written once and copied for each test, and `ask`, which runs a query in this process."""

import shutil

import pytest
from helpers.command import invoke
from helpers.query_results import write_demo, write_seen

from flexres_tune.query.__main__ import app


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The folders that `root` and `seen` copy."""
    folder = tmp_path_factory.mktemp("written")
    write_demo(folder / "demo")
    write_seen(folder / "seen")
    return folder


@pytest.fixture
def root(written, tmp_path):
    """The results of write_demo()."""
    return shutil.copytree(written / "demo", tmp_path / "Größe x")


@pytest.fixture
def seen(written, root):
    """The sweep of write_seen() beside them."""
    return shutil.copytree(written / "seen" / "seen", root / "seen")


@pytest.fixture
def ask(root):
    def ask(*arguments, columns="200", code=0):
        environment = {"COLUMNS": columns} if columns else {}
        result = invoke(app, *arguments, "--results", root, env=environment)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result.stdout if code == 0 else result.stderr

    return ask
