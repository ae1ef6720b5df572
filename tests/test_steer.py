"""The command steer: what it says before it asks a driver. The driver's side is in tests/raytune/test_steering.py."""

import pytest
from helpers.factories import make_config, make_planned, make_sweep, make_trial
from typer.testing import CliRunner

from flexres_tune import cli
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter
from flexres_tune.steer import app

CONFIG = make_config()


@pytest.fixture
def say(tmp_path, monkeypatch, capsys):
    """Run the command: what it says on stderr."""
    paths = SweepPaths(tmp_path, "optim")
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(CONFIG), CONFIG)
    waiting = make_planned(make_config(seed=9))
    write_plan(paths, make_plan(make_sweep(name="optim"), [waiting], "python -m flexres_tune.run optim.yaml", {}))

    def invoke(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(app, [*arguments, "--results", str(tmp_path)])
        assert end.value.code == cli.EXIT_USAGE
        return capsys.readouterr().err

    return invoke


def test_names_that_are_not_there_get_the_closest_one(say):
    assert "no sweep 'optin'; did you mean optim?" in say("optin", "reload")
    wrong = CONFIG.trial_id[:-3] + "x-0"
    assert f"no trial '{wrong}'; did you mean {CONFIG.trial_id}?" in say("optim", "stop", wrong)
    assert CliRunner().invoke(app, ["optim", "stpo", "x"]).exit_code == cli.EXIT_USAGE


def test_beginning_of_an_id_is_enough_unless_it_fits_several(say):
    assert "no driver runs sweep optim" in say("optim", "stop", f"{CONFIG.config_id}-9")
    assert f"could be {CONFIG.trial_id}, {CONFIG.config_id}-9; write more of it" in say(
        "optim", "stop", CONFIG.config_id
    )


def test_without_a_driver_the_command_that_runs_the_sweep_is_named(say):
    text = say("optim", "reload")
    assert text.startswith("no driver runs sweep optim now, so nothing can be steered")
    assert text.rstrip().endswith("to run it: python -m flexres_tune.run optim.yaml")


def test_trial_belongs_to_stop_and_prioritise_only(say):
    assert "reload takes no trial" in say("optim", "reload", CONFIG.trial_id)
    assert "stop needs a trial: steer optim stop TRIAL_ID" in say("optim", "stop")
