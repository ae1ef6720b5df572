"""Results: the tables of all sweeps under a folder, as Arrow tables and as SQL views, also while sweeps run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from flexres_tune.errors import ResultsError, StorageError, describe_os_error
from flexres_tune.names import name_problem
from flexres_tune.results.parts import Part, join, last_written, list_parts, read_part
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.storage import AnyPath, is_remote, list_folder, make_path
from flexres_tune.text import did_you_mean

NUM_READERS = 16  # parts fetched at once from object storage, where each is a round trip
START = "python -m flexres_tune.run sweeps/optim.yaml"

log = logging.getLogger(__name__)


def open_results(path: str | AnyPath = "results") -> Results:
    """The results under a folder or an address such as s3://bucket/results.

    Raises:
        ResultsError: no such folder, or no folder; says how to make one.
    """
    return Results(make_path(path))


class Results:
    """Tables of all sweeps under a folder.

    Every call looks at the folder anew, so that rows written meanwhile are there; parts never change, so what was
    read is kept. A damaged part is skipped, with one warning that names it.
    """

    def __init__(self, root: AnyPath):
        self.root = root
        self._kept: dict[tuple[str, str], tuple[list, pa.Table]] = {}
        self._warned: set[AnyPath] = set()
        if not root.exists():
            raise ResultsError(f"{root}: no such folder; run `{START}` first, or name the folder with --results")
        if not root.is_dir():
            raise ResultsError(f"{root}: must be a folder, but is a file; name the results folder with --results")

    def sweeps(self) -> list[str]:
        """Names of the sweeps in the folder, sorted."""
        try:
            names = sorted(name for name, stat in list_folder(self.root).items() if stat is None)
        except StorageError:
            raise
        except OSError as error:
            raise ResultsError(f"{self.root}: cannot be read: {describe_os_error(error)}") from error
        return [name for name in names if name_problem(name) is None and _is_sweep(SweepPaths(self.root, name))]

    def choose(self, sweep: str | None = None) -> list[str]:
        """The one sweep asked for, or all.

        Raises:
            ResultsError: no sweep of that name, or none at all.
        """
        sweeps = self.sweeps()
        if sweep is None and not sweeps:
            raise ResultsError(f"{self.root}: no sweep in this folder; run `{START}` first, or name another --results")
        if sweep is not None and sweep not in sweeps:
            meant = did_you_mean(sweep, sweeps)
            raise ResultsError(f"{self.root}: no sweep {sweep[:100]!r}{meant}; sweeps: {', '.join(sweeps) or 'none'}")
        return sweeps if sweep is None else [sweep]

    def trials(self, sweep: str | None = None) -> pa.Table:
        """Rows of `trials`, each trial's last in each stage, of one sweep or of all."""
        return self.table("trials", sweep)

    def epochs(self, sweep: str | None = None) -> pa.Table:
        """Rows of `epochs`, each epoch of a trial once."""
        return self.table("epochs", sweep)

    def decisions(self, sweep: str | None = None) -> pa.Table:
        """Rows of `decisions`."""
        return self.table("decisions", sweep)

    def table(self, name: str, sweep: str | None = None) -> pa.Table:
        """One of TABLES, of one sweep or of all; columns of today's schema first, older parts' others after."""
        sweeps = self.sweeps() if sweep is None else self.choose(sweep)
        return join(name, [self._load(name, each) for each in sweeps])

    def sql(self, query: str, sweep: str | None = None) -> pa.Table:
        """Answer of a DuckDB query over the views trials, epochs and decisions, of one sweep or of all.

        Raises:
            ResultsError: the query is wrong or asks for more than these views; with DuckDB's message.
        """
        from flexres_tune.results.sql import run_sql

        words = query.lower()
        dynamic = "query" in words  # query_table('tri' || 'als'): the text does not tell which table it reads
        tables = {
            name: self.table(name, sweep) if dynamic or name in words else join(name, []) for name in TABLES
        }  # a query that never says `epochs` does not wait for them
        return run_sql(query, tables)

    def _load(self, name: str, sweep: str) -> pa.Table:
        folder = SweepPaths(self.root, sweep).table(name)
        for _ in range(100):
            parts, _covered = list_parts(folder)
            try:
                print_of_parts = [_fingerprint(part) for part in parts]
                kept = self._kept.get((name, sweep))
                if kept and kept[0] == print_of_parts:
                    return kept[1]
                table = self._read(name, sweep, parts)
            except FileNotFoundError:
                continue  # the driver merged parts since the folder was listed; the merged one is there now
            self._kept[name, sweep] = (print_of_parts, table)
            return table
        raise ResultsError(f"{folder}: its files change faster than they can be read; try again")

    def _read(self, name: str, sweep: str, parts: Sequence[Part]) -> pa.Table:
        tables = []
        for part, found in _read_all(name, parts):
            if not isinstance(found, ResultsError):
                tables.append(found)
            elif part.path not in self._warned:
                self._warned.add(part.path)
                log.warning("%s", found)
        table = join(name, tables)
        if len(tables) > 1:  # a part alone repeats nothing: it has been through last_written
            table = last_written(name, table)
        if table["sweep"].unique().to_pylist() in ([sweep], []):
            return table
        index = table.schema.get_field_index("sweep")  # a folder that was renamed or copied goes by its new name
        return table.set_column(index, table.schema.field(index), pa.repeat(pa.scalar(sweep), table.num_rows))


def _is_sweep(paths: SweepPaths) -> bool:
    return paths.plan.exists() or any(paths.table(name).is_dir() for name in TABLES)


def _read_all(name: str, parts: Sequence[Part]) -> Iterator[tuple[Part, pa.Table | ResultsError]]:
    """Each part with its table, or with what is wrong with it."""

    def read(part: Part) -> pa.Table | ResultsError:
        try:
            return read_part(part, name)
        except StorageError:
            raise
        except ResultsError as error:
            return error

    if len(parts) > 1 and is_remote(parts[0].path):
        with ThreadPoolExecutor(NUM_READERS) as readers:
            yield from zip(parts, readers.map(read, parts), strict=True)
    else:
        yield from ((part, read(part)) for part in parts)


def _fingerprint(part: Part) -> tuple:
    if part.stamp is not None or not isinstance(part.path, Path):
        return part.path.name, part.stamp
    status = part.path.stat()
    return part.path.name, status.st_size, status.st_mtime_ns
