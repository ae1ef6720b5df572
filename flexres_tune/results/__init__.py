"""The tables of a sweep: written by the driver, read from anywhere. Imports neither torch nor ray.

>>> from flexres_tune.results import open_results
>>> open_results("results").sql("SELECT optimizer, max(best_val_accuracy) FROM trials GROUP BY optimizer")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexres_tune.results.reader import Results, open_results

__all__ = ["Results", "open_results"]


def __getattr__(name: str):
    """Import the reader on first use: commands that only need paths or the lock do not wait for pyarrow.parquet."""
    if name in __all__:
        from flexres_tune.results import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
