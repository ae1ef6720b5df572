"""The user's own code in a trial: `my_nets.py:build`, `package.module:name` or the name of an entry point.

A reference is read once, where the sweep file is read, together with the local modules that its file imports. From then
on it is a CodeName: text that carries its source, so that a trial can be sent to any process, keeps the code with which
its sweep started, and has an id that depends on the source. Reading executes nothing; `CodeName.load` does. No torch.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.abc
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType
from typing import Any

from pydantic import BaseModel, ConfigDict

from flexres_tune.errors import FlexResError
from flexres_tune.text import did_you_mean, excerpt

MAX_BYTES = 1_000_000  # of a reference's files, which are sent to every process of its trials
_FILE = re.compile(r"(?P<file>[^:\0]+\.py):(?P<name>[A-Za-z_]\w*)")
_MODULE = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)")
_WORD = re.compile(r"[A-Za-z_][\w-]*")

# field of a trial -> group of entry points from which a package may offer names for it
ENTRY_POINT_GROUPS: Mapping[str, str] = {
    "model": "flexres_tune.models",
    "optimizer": "flexres_tune.optimizers",
    "lr_schedule": "flexres_tune.lr_schedules",
    "augmentation": "flexres_tune.augmentations",
    "dataset": "flexres_tune.datasets",
    "metrics": "flexres_tune.metrics",
}


class CodeError(FlexResError, ValueError):
    """Code that cannot be found or imported, or that does not keep its contract; names file and callable."""


class Source(BaseModel):
    """What a reference stands for: where the callable is, and the text of the files that it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str  # `my_nets.py:build`, its file relative to `folder`, or `package.module:name`
    digest: str  # first twelve hex digits of the SHA-256 of all files
    folder: str = ""  # absolute; on another machine it need not exist
    files: tuple[tuple[str, str], ...] = ()  # (path relative to `folder`, text); () for an installed package


class CodeName(str):
    """A reference as written, which tables and messages show, and the source that it stands for."""

    source: Source

    def __new__(cls, text: str, source: Source) -> CodeName:
        name = super().__new__(cls, text)
        name.source = source
        return name

    def __reduce__(self) -> tuple:
        return CodeName, (str(self), self.source)

    def load(self) -> Callable[..., Any]:
        """The callable; the first call in a process executes its module.

        Raises:
            CodeError: the module raises an error, or has no such callable.
        """
        return _load(self.source, str(self))


def is_reference(value: Any) -> bool:
    """Whether a value has the form of a reference: `file.py:name` or `package.module:name`."""
    return isinstance(value, str) and bool(_FILE.fullmatch(value) or _MODULE.fullmatch(value))


def read_source(reference: str, field: str, folder: Path, allow_any: bool) -> Source | None:
    """The source of a reference, read but not executed; None if the value is no reference.

    Args:
        field: the trial's field that has the value, a key of ENTRY_POINT_GROUPS.
        folder: the folder to which files are relative, that of the sweep file.
        allow_any: whether files outside of `folder` and any installed package may be named too. An entry point may be
            named always, because its package offers it for this purpose.

    Raises:
        CodeError: there is no such file or module, it is not permitted, or it is not Python.
    """
    if match := _FILE.fullmatch(reference):
        return _read_file(reference, match, folder, allow_any)
    if match := _MODULE.fullmatch(reference):
        if not allow_any:
            raise CodeError(
                f"{reference}: code of an installed package needs --allow-code, because a sweep file could call "
                "anything with it; add --allow-code if you trust the sweep file"
            )
        return Source(target=reference, digest=_package_digest(match["module"]))
    if _WORD.fullmatch(reference) and (target := _entry_point(ENTRY_POINT_GROUPS[field], reference)):
        return Source(target=target, digest=_package_digest(target.partition(":")[0]))
    return None


def signature_problem(code: CodeName, *args: Any, **kwargs: Any) -> str | None:
    """Why the callable cannot be called with these arguments; None if it can, or if its signature is not known.

    Raises:
        CodeError: it cannot be loaded.
    """
    called = code.load()
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # a callable written in C
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        shown = [f"{name}=..." for name in kwargs]
        return f"{code} is called with {', '.join(['...'] * len(args) + shown)}, but takes {signature}: {error}"
    return None


def _read_file(reference: str, match: re.Match, folder: Path, allow_outside: bool) -> Source:
    path = (folder / match["file"]).resolve()
    if not path.is_file():
        raise CodeError(f"{reference}: must name a file, but there is no {path}; paths are relative to {folder}")
    if not path.is_relative_to(folder.resolve()) and not allow_outside:
        raise CodeError(
            f"{reference}: must be in the folder of the sweep file, {folder}, or below it, but is {path}; move it there, "
            "or add --allow-code"
        )
    tree = _Tree.around(path)
    files = tree.collect(path)
    if tree.name_of(path).partition(".")[0] in sys.stdlib_module_names:
        raise CodeError(f"{reference}: must not have the name of a module of Python's own; rename the file")
    digest = hashlib.sha256(repr(files).encode()).hexdigest()[:12]
    target = f"{path.relative_to(tree.root).as_posix()}:{match['name']}"
    return Source(target=target, digest=digest, folder=str(tree.root), files=files)


@dataclass(frozen=True)
class _Tree:
    """The folder from which a file's local modules are imported."""

    root: Path

    @classmethod
    def around(cls, path: Path) -> _Tree:
        """The file's folder; if it has relative imports, the folder that holds its package."""
        root = path.parent
        if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(_parse(path))):
            while (root / "__init__.py").is_file() and root != root.parent:
                root = root.parent
        return cls(root)

    def name_of(self, path: Path) -> str:
        """Name of a module by its file: `models.vgg` for models/vgg.py."""
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def collect(self, start: Path) -> tuple[tuple[str, str], ...]:
        """(path, text) of a file and of all files below the root that it imports, in the order of their paths."""
        found: dict[str, str] = {}
        waiting = [start, *self._packages_of(start)]
        while waiting:
            path = waiting.pop()
            name = path.relative_to(self.root).as_posix()
            if name in found:
                continue
            found[name] = _read_text(path)
            if sum(map(len, found.values())) > MAX_BYTES:
                raise CodeError(
                    f"{start}: with the local modules that it imports it must have at most {MAX_BYTES:,} bytes, but has "
                    "more; install it as a package, and write package.module:name"
                )
            for module in _imported_modules(_parse(path), self.name_of(path), path.name == "__init__.py"):
                if (file := self._find(module)) is not None:
                    waiting += [file, *self._packages_of(file)]
        return tuple(sorted(found.items()))

    def _packages_of(self, path: Path) -> Iterator[Path]:
        for parent in path.parents:
            if not parent.is_relative_to(self.root) or parent == self.root:
                return
            if (file := parent / "__init__.py").is_file():
                yield file

    def _find(self, module: str) -> Path | None:
        base = self.root.joinpath(*module.split("."))
        return next((file for file in (base / "__init__.py", base.with_suffix(".py")) if file.is_file()), None)


def _imported_modules(tree: ast.Module, name: str, is_package: bool) -> Iterator[str]:
    """Names of all modules that a module may import, its `from a import b` read as a and as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")
            level = node.level - is_package if node.level else len(parts)
            base = [*parts[: len(parts) - level], *(node.module.split(".") if node.module else [])]
            if base:
                yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in node.names if alias.name != "*")


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(_read_text(path))
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise CodeError(f"{path}{line}: must be Python, but is not: {excerpt(error, 200)}; correct it") from None


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CodeError(f"{path}: must have at most {MAX_BYTES:,} bytes, but has {path.stat().st_size:,}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise CodeError(f"{path}: must be a text file in UTF-8, but cannot be read: {excerpt(error, 200)}") from None


@functools.cache  # a package has hundreds of files, and several references may name it
def _package_digest(module: str) -> str:
    """Digest of all Python files of the package that a module belongs to, or of the module alone; imports nothing."""
    top = module.partition(".")[0]
    spec = PathFinder.find_spec(top)
    if spec is None:
        hint = "; of a file, write its name: my_nets.py:build" if Path(f"{top}.py").is_file() else ""
        raise CodeError(f"{module}: must be installed, but Python finds no module {top}; install it{hint}")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    if not folders and spec.origin:
        files = [Path(spec.origin)]
    total = hashlib.sha256()
    for file in files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:12]


def _entry_point(group: str, name: str) -> str | None:
    from importlib.metadata import entry_points  # reads the metadata of all installed packages

    return next((point.value for point in entry_points(group=group, name=name)), None)


class _TextImporter(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports the modules of one Source from their text."""

    def __init__(self, source: Source):
        self.digest = source.digest
        self._folder = Path(source.folder)
        self._texts = dict(source.files)

    def names(self) -> list[str]:
        """Names of all its modules."""
        return [_Tree(Path()).name_of(Path(file)) for file in self._texts]

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if (file := self._file_of(fullname)) is None:
            return None
        spec = importlib.util.spec_from_loader(fullname, self, is_package=file.endswith("__init__.py"))
        if spec is not None:
            spec.origin, spec.has_location = str(self._folder / file), True  # the module's __file__
        return spec

    def get_source(self, fullname: str) -> str:
        return self._texts[self._file_of(fullname) or ""]

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.get_source(fullname), self._folder / (self._file_of(fullname) or ""), "exec")

    def is_package(self, fullname: str) -> bool:
        return (self._file_of(fullname) or "").endswith("__init__.py")

    def _file_of(self, module: str) -> str | None:
        base = module.replace(".", "/")
        return next((file for file in (f"{base}/__init__.py", f"{base}.py") if file in self._texts), None)


@functools.lru_cache(maxsize=256)
def _load(source: Source, shown: str) -> Callable[..., Any]:
    place, _, name = source.target.rpartition(":")
    module_name = place
    if _FILE.fullmatch(source.target):
        if not source.files:
            raise CodeError(f"{shown}: its source must be read before it can run; a row of a table has only its digest")
        module_name = _Tree(Path()).name_of(Path(place))
        _install(_TextImporter(source), shown)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise CodeError(f"{shown}: its module must be importable, but raised {describe_error(error)}") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise CodeError(f"{shown}: must name a callable, but {place} has no {part}{did_you_mean(part, dir(found))}")
        found = getattr(found, part)
    if not callable(found):
        raise CodeError(f"{shown}: must name a callable, but is a {type(found).__name__}")
    return found


def _install(importer: _TextImporter, shown: str) -> None:
    """Put the importer first; modules of an older version of the same files are forgotten."""
    for name in importer.names():
        module = sys.modules.get(name)
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if module is not None and not isinstance(loader, _TextImporter):
            raise CodeError(f"{shown}: {name} must not be the name of a module that is already loaded; rename the file")
        if module is not None and loader.digest != importer.digest:
            del sys.modules[name]
    sys.meta_path.insert(0, importer)


def describe_error(error: BaseException) -> str:
    """`TypeError: no width (my_nets.py, line 3)`: an exception of the user's code, and the last line of it that ran."""
    return f"{type(error).__name__}: {excerpt(' '.join(str(error).split()), 300)}{_place(error)}"


def _place(error: BaseException) -> str:
    place, trace = "", error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if isinstance(frame.f_globals.get("__loader__"), _TextImporter):
            place = f" ({Path(frame.f_code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place
