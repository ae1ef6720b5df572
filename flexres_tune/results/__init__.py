"""The tables a sweep leaves behind: written on the driver, read from anywhere. Imports neither torch nor ray.

>>> from flexres_tune.results import open_results
>>> open_results("results").sql("SELECT optimizer, max(best_val_accuracy) FROM trials GROUP BY optimizer")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexres_tune.results.reader import Results, open_results

__all__ = ["Results", "open_results"]


def __getattr__(name: str):
    """Imported on first use, so that a command that only needs paths or the lock does not wait for DuckDB."""
    if name in __all__:
        from flexres_tune.results import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
