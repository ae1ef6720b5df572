"""Imports go downward only, ray and torch stay where they belong, and files stay short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "flexres_tune"
MODULES = sorted(PACKAGE.rglob("*.py"))

# each part may import itself and what stands in its row
VOCABULARY = {"errors", "names", "records", "text", "provenance", "storage", "cli"}
BELOW = {
    "errors": set(),
    "names": set(),
    "text": set(),
    "cli": {"errors", "text"},
    "records": {"errors"},
    "provenance": {"records"},
    "storage": {"errors"},
    "spec": VOCABULARY - {"storage"},
    "models": VOCABULARY | {"spec"},
    "datasets": VOCABULARY | {"spec"},
    "augment": VOCABULARY | {"spec"},
    "optim": VOCABULARY | {"spec"},
    "training": VOCABULARY | {"spec", "models", "datasets", "augment", "optim"},
    "results": VOCABULARY | {"spec"},
    "display": VOCABULARY | {"spec", "results"},
}
BELOW["analysis"] = VOCABULARY | {"spec", "results", "display"}
BELOW["search"] = VOCABULARY | {"spec", "results", "datasets", "training", "sweep"}
BELOW["sweep"] = BELOW["search"] | {"search"}
BELOW["cluster"] = VOCABULARY | {"spec", "results", "datasets", "training"}
BELOW["raytune"] = BELOW["sweep"] | {"sweep", "cluster"}
MAY_IMPORT_RAY = {"cluster", "raytune", "bench"}


def imports_of(path):
    """Full names of the modules that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module):
    return module.split(".")[1] if module.startswith("flexres_tune.") else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward_only(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part not in BELOW:  # __init__ and the commands on top
        return
    imported = {part_of(name) for name in imports_of(path)} - {None, part, "__version__"}
    assert imported <= BELOW[part]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_these_rooms_import_ray(path):
    if path.relative_to(PACKAGE).parts[0] not in MAY_IMPORT_RAY:
        assert not [name for name in imports_of(path) if name.split(".")[0] == "ray"]


@pytest.mark.parametrize(
    "module",
    [
        *("spec", "results", "datasets", "analysis.leaderboard", "search.stages", "sweep.journal", "sweep.history"),
        *("run.__main__", "run.session", "query.__main__", "train", "submit.__main__", "submit.head", "submit.client"),
    ],
)
def test_module_imports_neither_torch_nor_ray(module):
    code = f"import sys, flexres_tune.{module}; print(sorted({{'torch', 'ray'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_has_one_idea_and_says_it_first(path):
    source = path.read_text()
    if source.strip():
        assert ast.get_docstring(ast.parse(source)), "the first line says what the file is"
    assert len(source.splitlines()) <= 300
