"""The options that `train` and others have for every field of a trial."""

import pytest
import typer
from typer.testing import CliRunner

from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.trial import AUGMENTATION_NAMES, OPTIMIZER_NAMES, SCHEDULE_NAMES, TrialConfig
from flexres_tune.trial_options import with_options

app = typer.Typer()


@app.command()
@with_options({"Trial": TrialConfig, "Model": Architecture})
def command(**fields: str | None) -> None:
    """A command that has nothing else."""


@pytest.mark.parametrize("names", [OPTIMIZER_NAMES, SCHEDULE_NAMES, AUGMENTATION_NAMES], ids=lambda names: names[0])
def test_help_lists_every_name_that_an_option_takes(names):
    """`step` too, although the description of --lr-schedule has the word `steps`."""
    output = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output
    assert ", ".join(names) in output
