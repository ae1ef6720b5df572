"""Which trials were stopped, and what that saved."""

from flexres_tune.analysis.early_stops import stopped_trials, stops_by_rung
from flexres_tune.results.writer import SweepWriter


def test_stops_say_rung_cutoff_and_what_was_saved(results, paths, make_config, make_decision):
    opened = results(
        ({"lr": 0.1, "epochs": 9}, 0, "completed", 0.9),
        ({"lr": 0.2, "epochs": 9}, 0, "stopped", 0.3, {"epochs_run": 3, "train_seconds": 6.0}),
    )
    trial_id = make_config(lr=0.2, epochs=9).trial_id
    with SweepWriter(paths) as writer:
        writer.add_decision(make_decision(trial_id, epoch=1, rung=0, value=0.2, cutoff=None, action="continue"))
        writer.add_decision(make_decision(trial_id, epoch=3, rung=1, value=0.3, cutoff=0.5))
    stopped, varied = stopped_trials(opened, "demo")
    (row,) = stopped
    assert (varied, row.parameters) == (["lr"], {"lr": 0.2})
    assert (row.rung, row.epoch, row.value, row.cutoff) == (1, 3, 0.3, 0.5)
    assert (row.saved_epochs, row.saved_device_seconds) == (6, 12.0)
    (rung,) = stops_by_rung(stopped)
    assert (rung.num_stopped, rung.median_cutoff, rung.saved_device_seconds) == (1, 0.5, 12.0)
    assert stops_by_rung([]) == []
