"""Witnesses: trials that note where they ran and from when to when, run through the sweep's own runner."""

from __future__ import annotations

import json
import os
import time

from flexres_tune.cluster.resources import trial_resources
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.results.paths import SweepPaths
from flexres_tune.search.lists import ListSearch
from flexres_tune.spec import SweepSpec, expand_trials
from flexres_tune.sweep.signals import Signals
from helpers.factories import make_metrics


class NullDisplay:
    """A display that shows nothing."""

    def update(self, state):
        pass

    def message(self, text):
        raise AssertionError(text)


def witness(folder, num_at_once, patience_s):
    """Such a trial. The first of them wait until as many run as should: processes take seconds to start."""

    metrics = make_metrics()  # here: the nodes' processes cannot import the tests

    def trial(config):
        import ray
        from ray import tune

        from flexres_tune.raytune.trainable import REPORT_KEY
        from flexres_tune.records import TrialStatus
        from flexres_tune.sweep.worker import TrialReport

        note = {"node": ray.get_runtime_context().get_node_id(), "devices": os.environ.get("CUDA_VISIBLE_DEVICES")}
        note["from"] = time.time()
        (folder / f"{config['trial_id']}.started").touch()
        deadline = time.time() + patience_s
        while len(list(folder.glob("*.started"))) < num_at_once and time.time() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        note["until"] = time.time()
        (folder / f"{config['trial_id']}.json").write_text(json.dumps(note))
        tune.report({REPORT_KEY: TrialReport(metrics, status=TrialStatus.COMPLETED), "done": True})

    return trial


def run_witnesses(cluster, folder, requested, num_trials, patience_s=120):
    """(share, notes of all trials), of a sweep on a connected cluster; its tables are in folder/results."""
    from flexres_tune.raytune.runner import TuneRun, run_trials

    folder.mkdir(exist_ok=True)
    share = trial_resources(requested, cluster, None)
    spec = SweepSpec.model_validate(
        {
            "name": "witness",
            "base": {"model": "tiny", "dataset": "digits", "epochs": 1},
            "seeds": list(range(num_trials)),
        }
    )
    states = run_trials(
        TuneRun(
            spec=spec,
            search=ListSearch(expand_trials(spec, describe_dataset)),
            paths=SweepPaths(folder / "results", spec.name),
            resources=share,
            signals=Signals(),
            display=NullDisplay(),
            trainable=witness(folder, share.num_concurrent, patience_s),
        )
    )
    assert [state.record.status for state in states.values()] == ["completed"] * num_trials
    return share, [json.loads(file.read_text()) for file in folder.glob("*.json")]


def most_at_once(notes):
    """The most intervals that overlap."""
    events = sorted([(note["from"], 1) for note in notes] + [(note["until"], -1) for note in notes])
    running = most = 0
    for _, change in events:
        running += change
        most = max(most, running)
    return most
