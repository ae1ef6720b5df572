"""Sweeps over budgeted ResNets: which configuration is best, and how sure are we?

>>> import flexres_tune
>>> sweep = flexres_tune.run_sweep("sweeps/optim.yaml", storage="results")
>>> sweep.leaderboard().to_pandas()

Names are imported on first use: `import flexres_tune` itself takes milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flexres_tune.api.running import run_sweep
    from flexres_tune.api.sweep import Sweep, Sweeps, open_results
    from flexres_tune.errors import FlexResError
    from flexres_tune.spec import SweepSpec, load_sweep

__version__ = "0.1.0"

_HOMES = {  # name -> the module that it is imported from
    "FlexResError": "flexres_tune.errors",
    "Sweep": "flexres_tune.api.sweep",
    "SweepSpec": "flexres_tune.spec",
    "Sweeps": "flexres_tune.api.sweep",
    "load_sweep": "flexres_tune.spec",
    "open_results": "flexres_tune.api.sweep",
    "run_sweep": "flexres_tune.api.running",
}

__all__ = ["FlexResError", "Sweep", "SweepSpec", "Sweeps", "load_sweep", "open_results", "run_sweep"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
