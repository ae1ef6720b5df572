"""Results: the tables of all sweeps in a folder, as Arrow tables and as SQL views, also while sweeps run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from flexres_tune.errors import ResultsError, StorageError, describe_os_error
from flexres_tune.names import name_problem
from flexres_tune.results.own_values import with_metrics, with_own_values
from flexres_tune.results.parts import Part, join, last_written, list_parts, read_part
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.results.schema import KEYS
from flexres_tune.storage import AnyPath, is_remote, list_folder, make_path
from flexres_tune.text import did_you_mean

NUM_READERS = 16  # parts fetched at once from object storage, because each is a round trip
EXAMPLE_COMMAND = "python -m flexres_tune.run sweeps/optim.yaml"

log = logging.getLogger(__name__)


def open_results(path: str | AnyPath = "results") -> Results:
    """The results in a folder or at an address such as s3://bucket/results.

    Raises:
        ResultsError: no such folder, or a file in its place; names the command that makes one.
    """
    return Results(make_path(path))


class Results:
    """Tables of all sweeps in a folder.

    Every call lists the folder again, so it sees rows that were written meanwhile. Parts never change, so tables that
    were read are kept until there are other parts. A damaged part is skipped, with one warning that names it.
    """

    def __init__(self, root: AnyPath):
        self.root = root
        self._kept: dict[tuple, tuple[list, pa.Table]] = {}  # by table, sweep and columns: versions of parts, rows
        self._warned: set[AnyPath] = set()
        if not root.exists():
            raise ResultsError(
                f"{root}: no such folder; run `{EXAMPLE_COMMAND}` first, or name the folder with --results"
            )
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
        """[sweep], or all sweeps if it is None.

        Raises:
            ResultsError: no sweep of that name, or none at all.
        """
        if sweep is not None and name_problem(sweep) is None and _is_sweep(SweepPaths(self.root, sweep)):
            return [sweep]  # without a look at the others: a folder may hold thousands
        sweeps = self.sweeps()
        if sweep is None and not sweeps:
            raise ResultsError(
                f"{self.root}: no sweep in this folder; run `{EXAMPLE_COMMAND}` first, or name another --results"
            )
        if sweep is not None:
            meant = did_you_mean(sweep, sweeps)
            raise ResultsError(f"{self.root}: no sweep {sweep[:100]!r}{meant}; sweeps: {', '.join(sweeps) or 'none'}")
        return sweeps

    def trials(self, sweep: str | None = None) -> pa.Table:
        """Rows of `trials`, the last one of each trial and stage, of one sweep or of all."""
        return self.table("trials", sweep)

    def epochs(self, sweep: str | None = None) -> pa.Table:
        """Rows of `epochs`, each epoch of a trial once."""
        return self.table("epochs", sweep)

    def decisions(self, sweep: str | None = None) -> pa.Table:
        """Rows of `decisions`."""
        return self.table("decisions", sweep)

    def predictions(self, sweep: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of `predictions`, one per trial and split, or only some columns of them."""
        return self.table("predictions", sweep, columns)

    def labels(self, sweep: str | None = None) -> pa.Table:
        """Rows of `labels`, one per data set, split and subset."""
        return self.table("labels", sweep)

    def table(self, name: str, sweep: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """One of TABLES, of one sweep or of all; the columns of today's schema first, then others that older parts have.

        `columns`: read only these, which must be the table's; it saves memory, because `predictions` are large. Without it
        `trials` also has a column per own value, such as `model.width`, and `trials` and `epochs` one per further metric.
        """
        sweeps = self.sweeps() if sweep is None else self.choose(sweep)
        table = join(name, [self._load(name, each, columns) for each in sweeps])
        if columns is not None:
            return table.select(columns)
        if name not in ("trials", "epochs"):
            return table
        table = with_metrics(table)
        return with_own_values(table) if name == "trials" else table

    def sql(self, query: str, sweep: str | None = None, time_limit_s: float | None = None) -> pa.Table:
        """Result of a DuckDB query over the views of the tables, of one sweep or of all.

        Raises:
            ResultsError: the query is wrong or asks for more than these views, with DuckDB's message; or it has not
                ended after `time_limit_s` (None: DEFAULT_TIME_LIMIT_S).
        """
        from flexres_tune.results import sql  # DuckDB takes 50 ms, which other calls do not need

        limit_s = sql.DEFAULT_TIME_LIMIT_S if time_limit_s is None else time_limit_s
        return sql.run_sql_on_results(query, lambda name: self.table(name, sweep), limit_s)

    def _load(self, name: str, sweep: str, columns: Sequence[str] | None = None) -> pa.Table:
        folder = SweepPaths(self.root, sweep).table(name)
        for _ in range(100):
            parts, _covered = list_parts(folder)
            versions = [(part.path.name, part.version) for part in parts]
            kept = self._kept.get(key := (name, sweep, columns and tuple(columns)))
            if kept and kept[0] == versions:
                return kept[1]
            try:
                table = self._read(name, sweep, parts, columns)
            except FileNotFoundError:
                continue  # the driver merged parts since the folder was listed; the merged one is there now
            self._kept[key] = (versions, table)
            return table
        raise ResultsError(f"{folder}: its files change faster than they can be read; try again")

    def _read(self, name: str, sweep: str, parts: Sequence[Part], columns: Sequence[str] | None) -> pa.Table:
        tables = []
        if columns is not None:
            columns = list(dict.fromkeys(["sweep", *KEYS[name], *columns]))
        for part, found in _read_all(name, parts, columns):
            if not isinstance(found, ResultsError):
                tables.append(found)
            elif part.path not in self._warned:
                self._warned.add(part.path)
                log.warning("%s", found)
        table = join(name, tables, columns)
        if len(tables) > 1:  # a single part has no repeated keys: it was written through last_written()
            table = last_written(name, table)
        if table["sweep"].unique().to_pylist() in ([sweep], []):
            return table
        index = table.schema.get_field_index("sweep")  # the folder was renamed or copied: its name is the sweep's
        return table.set_column(index, "sweep", pa.repeat(pa.scalar(sweep), table.num_rows))


def _is_sweep(paths: SweepPaths) -> bool:
    return paths.plan.exists() or any(paths.table(name).is_dir() for name in TABLES)


def _read_all(
    name: str, parts: Sequence[Part], columns: Sequence[str] | None
) -> Iterator[tuple[Part, pa.Table | ResultsError]]:
    """Each part with its table, or with the error if it is damaged."""

    def read(part: Part) -> pa.Table | ResultsError:
        try:
            return read_part(part, name, columns)
        except StorageError:
            raise
        except ResultsError as error:
            return error

    if len(parts) > 1 and is_remote(parts[0].path):
        with ThreadPoolExecutor(NUM_READERS) as readers:
            yield from zip(parts, readers.map(read, parts), strict=True)
    else:
        yield from ((part, read(part)) for part in parts)
