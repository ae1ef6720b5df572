"""Ray Tune's own output: off."""

from unittest.mock import Mock

import pytest

from flexres_tune.raytune.tuner import Silence


@pytest.mark.parametrize(("ours", "is_silent"), [([Silence()], True), ([], False)])
def test_ray_prints_nothing_of_a_trial_that_ends_before_its_first_epoch(ours, is_silent, monkeypatch, capsys):
    from ray.tune.utils.callback import _create_default_callbacks

    from flexres_tune.cluster.connection import ENVIRONMENT

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    trial = Mock(last_result={})
    for callback in _create_default_callbacks(list(ours), air_verbosity=None):
        callback.on_trial_complete(0, [trial], trial)
    assert (capsys.readouterr().out == "") == is_silent
