"""One training loop that does not know Ray: fit(config, data, execution) yields EpochMetrics."""

from flexres_tune.training.autotune.choose import choose_execution
from flexres_tune.training.checkpoint import Checkpointer
from flexres_tune.training.execution import Execution
from flexres_tune.training.loop import Request, final_predictions, fit

__all__ = ["Checkpointer", "Execution", "Request", "choose_execution", "final_predictions", "fit"]
