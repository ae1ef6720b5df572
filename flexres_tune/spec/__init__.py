"""From a sweep file to a list of trials. Pure Python: imports neither torch nor ray."""

from flexres_tune.spec.architecture import Architecture, parse_architecture
from flexres_tune.spec.layers import count_flops, count_parameters, list_layers
from flexres_tune.spec.presets import PRESETS
from flexres_tune.spec.trial import TrialConfig

__all__ = [
    "PRESETS",
    "Architecture",
    "TrialConfig",
    "count_flops",
    "count_parameters",
    "list_layers",
    "parse_architecture",
]
