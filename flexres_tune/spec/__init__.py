"""From a sweep file to a list of trials. Imports neither torch nor ray."""

from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.expand import PlannedTrial, count_trials, expand_trials, trial_from_assignment
from flexres_tune.spec.keys.confirm import Budget
from flexres_tune.spec.keys.distribution import Distribution
from flexres_tune.spec.keys.early_terminate import EarlyTerminate
from flexres_tune.spec.keys.metric import Metric
from flexres_tune.spec.keys.resources import Resources
from flexres_tune.spec.load import load_sweep
from flexres_tune.spec.parameters import count_flops, count_parameters, list_layers, parse_architecture
from flexres_tune.spec.presets import PRESETS
from flexres_tune.spec.sweep import SweepSpec
from flexres_tune.spec.trial import TrialConfig

__all__ = [
    "PRESETS",
    "Architecture",
    "Budget",
    "Distribution",
    "EarlyTerminate",
    "Metric",
    "PlannedTrial",
    "Resources",
    "SweepSpec",
    "TrialConfig",
    "count_flops",
    "count_parameters",
    "count_trials",
    "expand_trials",
    "list_layers",
    "load_sweep",
    "parse_architecture",
    "trial_from_assignment",
]
