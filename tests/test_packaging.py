"""The package as `pip install .` installs it, and the packages that it names."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flexres_tune"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOGGERS = {"wandb", "mlflow", "tensorboardX"}  # run --logger says which of them is missing
INDIRECT = {"pandas", "pydantic_core", "botocore", "google"}  # of ray[tune], pydantic, boto3, google-api-python-client
NOTEBOOKS = {"IPython"}  # imported only inside a notebook, which brings it


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the installed package and its `bin`, without dependencies."""
    folder = tmp_path_factory.mktemp("packaging")
    tree = folder / "tree"  # a copy: setuptools writes build/ and *.egg-info into the tree that it builds
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tree / "flexres_tune", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder / "site", tree], check=True, capture_output=True, timeout=120)
    return folder / "site"


@pytest.mark.parametrize("name", ["query", "budget"])
def test_installed_command_answers_from_an_empty_folder(installed, tmp_path, name):
    script = installed / "bin" / "flexres-tune"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-P", script, name, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"flexres-tune {name}" in done.stdout


def test_every_file_of_the_package_is_installed(installed):
    def files(folder):
        return {p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"}

    assert files(installed / "flexres_tune") == files(PACKAGE)
    assert Path("py.typed") in files(PACKAGE)


def test_imported_packages_are_declared():
    distributions = packages_distributions()
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    imported -= {*sys.stdlib_module_names, "flexres_tune", *LOGGERS, *INDIRECT, *NOTEBOOKS}
    needed = {canonicalize_name(distributions[name][0]) for name in imported}
    declared = {canonicalize_name(Requirement(line).name) for line in _all_requirements()}
    tests_alone = {canonicalize_name(Requirement(line).name) for line in EXTRAS["test"]}
    assert needed <= declared - tests_alone


def test_requirements_file_has_the_dependencies_and_all_extras():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert [line for line in lines if line] == _all_requirements()


def _all_requirements():
    return [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
