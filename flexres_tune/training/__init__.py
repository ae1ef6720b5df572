"""One training loop that does not know Ray: fit(config, data, execution) yields EpochMetrics."""

from flexres_tune.training.execution import Execution, choose_execution
from flexres_tune.training.loop import fit

__all__ = ["Execution", "choose_execution", "fit"]
