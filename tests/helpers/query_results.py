"""Results of a few trials, of which the tests of queries know every number."""

from datetime import UTC, datetime

import numpy as np

from flexres_tune.records import Versions
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import Plan, PlanRow, write_plan
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import TrialConfig
from helpers.factories import make_config, make_decision, make_epoch, make_predictions, make_trial

EVIL = "\x1b[2Jboom [red]markup[/red] <b>|`x`\nLast: \u202e line"
SEEN = [make_config(lr=lr) for lr in (0.1, 0.2)]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def write_sweep(root, sweep, rows):
    """rows: (lr, seed, status, val_accuracy of each epoch)."""
    paths = SweepPaths(root, sweep)
    planned = []
    with SweepWriter(paths) as writer:
        for lr, seed, status, curve in rows:
            config = TrialConfig(model="tiny", dataset="digits", lr=lr, seed=seed, epochs=3)
            planned.append(PlanRow(config.trial_id, config.config_id, seed, "screen"))
            for epoch, value in enumerate(curve, 1):
                writer.add_epoch(make_epoch(config.trial_id, epoch, val_accuracy=value, lr=lr))
            if status is None:
                continue
            best = max(curve, default=None)
            last = curve[-1] if curve else None
            writer.add_trial(
                make_trial(
                    config,
                    status,
                    best,
                    error=EVIL if status == "failed" else None,
                    best_epoch=1 + curve.index(best) if curve else None,
                    last_val_accuracy=last,
                    test_accuracy=last if status == "completed" else None,
                    epochs_run=len(curve),
                    train_seconds=3720.0,
                    images_per_second=1234.5,
                    peak_memory_bytes=3 * 2**29,
                    started_at=NOW,
                    finished_at=NOW,
                    versions=Versions(torch="2.11"),
                    git_commit=None,
                ),
                config,
            )
        writer.add_decision(make_decision(planned[0].trial_id))
    command = f"python -m flexres_tune.run sweeps/{sweep}.yaml"
    plan = Plan(sweep, "", "laptop", command, 0, tuple(planned), len(planned), NOW, Versions(), "here", 1, {})
    write_plan(paths, plan)
    return paths


def write_demo(root):
    """Two sweeps: `demo`, in which lr varies and not every trial has ended, and `other`, with one trial."""
    rows = [
        (0.1, 0, "completed", [0.5, 0.9731, 0.95]),
        (0.1, 1, "completed", [0.4, 0.9711, 0.95]),
        (0.2, 0, "stopped", [0.2]),
        (0.3, 0, "failed", []),
        (0.4, 0, "interrupted", [0.3, 0.4]),
        (0.5, 0, None, [0.1]),
    ]
    write_sweep(root, "demo", rows)
    write_sweep(root, "other", [(0.7, 0, "completed", [0.6, 0.7, 0.8])])


def write_seen(root):
    """A sweep whose two configurations have said what they predict for 12 images of three classes."""
    images = np.random.default_rng(0)
    labels = images.integers(0, 3, 12)
    with SweepWriter(SweepPaths(root, "seen")) as writer:
        for config in SEEN:
            row, known = make_predictions(images.dirichlet(np.ones(3), 12), labels, config.trial_id)
            writer.add_predictions([row], [known])
            writer.add_trial(make_trial(config), config)
