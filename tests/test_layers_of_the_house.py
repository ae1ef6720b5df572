"""The rules of the house: import direction, no cycles, where ray and torch belong, the size of functions, docstrings."""

import ast
import graphlib
import re
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
    "storage": {"errors", "text"},
    "spec": VOCABULARY - {"storage"},
    "models": VOCABULARY | {"spec"},
    "datasets": VOCABULARY | {"spec"},
    "augment": VOCABULARY | {"spec"},
    "optim": VOCABULARY | {"spec"},
    "training": VOCABULARY | {"spec", "models", "datasets", "augment", "optim"},
    "results": VOCABULARY | {"spec"},
    "display": VOCABULARY | {"spec", "results"},
}
BELOW["uncertainty"] = set()
BELOW["analysis"] = VOCABULARY | {"spec", "results", "display", "uncertainty"}
BELOW["effects"] = BELOW["analysis"] | {"analysis"}
BELOW["predictions"] = BELOW["analysis"] | {"analysis", "datasets"}
BELOW["search"] = VOCABULARY | {"spec", "datasets"}
BELOW["sweep"] = VOCABULARY | {"spec", "results", "datasets", "training", "search"}
BELOW["cluster"] = VOCABULARY | {"spec", "results", "datasets", "training"}
BELOW["raytune"] = BELOW["sweep"] | {"sweep", "cluster"}
BELOW["estimate"] = BELOW["raytune"] | {"display", "raytune"}
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
        *("spec", "results", "datasets", "analysis.leaderboard", "search.methods", "sweep.journal", "sweep.history"),
        *("run.__main__", "run.session", "query.__main__", "train", "submit.__main__", "submit.head", "submit.client"),
    ],
)
def test_module_imports_neither_torch_nor_ray(module):
    code = f"import sys, flexres_tune.{module}; print(sorted({{'torch', 'ray'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_begins_with_a_docstring(path):
    source = path.read_text()
    assert not source.strip() or ast.get_docstring(ast.parse(source)), "the first line says what the file is"


def imported_modules(path, modules, at_module_level):
    """Modules of the package that a file imports, without those under TYPE_CHECKING; optionally not inside functions."""
    found = set()

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and at_module_level:
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names if alias.name in modules)
            elif isinstance(child, ast.ImportFrom) and child.module in modules:
                full = [f"{child.module}.{alias.name}" for alias in child.names]
                found.update(name if name in modules else child.module for name in full)
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def import_cycles(at_module_level):
    """Groups of modules that import each other, as graphlib finds them: one cycle, or none."""
    modules = {
        ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in MODULES
    }
    graph = {name: imported_modules(path, modules, at_module_level) - {name} for name, path in modules.items()}
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
            return
        except graphlib.CycleError as error:
            cycle = error.args[1]
            yield set(cycle)
            for name in cycle:
                graph[name] -= set(cycle)


def test_no_files_import_each_other_when_they_are_loaded():
    assert not list(import_cycles(at_module_level=True))


def test_no_files_import_each_other_inside_functions_either():
    assert not list(import_cycles(at_module_level=False))


MAX_ARGUMENTS, MAX_LINES = 6, 60


def is_typer_command(function):
    """A command's arguments are its options: they are as many as it has, with a line of help each."""
    return any(re.match(r"\w*app\.(command|callback)\(", ast.unparse(each)) for each in function.decorator_list)


def functions_of(path):
    """(room/file.py:name, function) of all functions and methods in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(PACKAGE)}:{node.name}", node


def test_functions_have_at_most_six_arguments_and_sixty_lines():
    long = set()
    for path in MODULES:
        for name, function in functions_of(path):
            every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            num_arguments = sum(each.arg not in ("self", "cls") for each in every)
            num_lines = function.end_lineno - function.lineno + 1
            if (num_arguments > MAX_ARGUMENTS or num_lines > MAX_LINES) and not is_typer_command(function):
                long.add(name)
    assert not long


def test_docstrings_say_what_the_thing_is_first():
    found = {
        name
        for path in MODULES
        for name, function in functions_of(path)
        if (ast.get_docstring(function) or "").startswith(("Args:", "Returns:", "Raises:", "Yields:"))
    }
    assert not found


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name != "storage"], ids=lambda p: p.stem)
def test_only_storage_replaces_files_and_asks_what_kind_of_path_it_has(path):
    calls = [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    kind = re.compile(r"isinstance\(.*\bRemotePath\b|os\.replace\(")
    assert not [call for call in calls if kind.match(call)]
