"""bench sweep: what it costs to pause a trial and to continue it, in a process that is used again."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flexres_tune.bench.figures import Figure
from flexres_tune.bench.process_time import ProcessTime
from flexres_tune.cluster.resources import TrialResources
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.results.paths import SweepPaths
from flexres_tune.search.base import History
from flexres_tune.search.methods import make_search
from flexres_tune.spec import SweepSpec, expand_trials
from flexres_tune.sweep.journal import Display
from flexres_tune.sweep.signals import Signals

MODEL = "small"
NUM_TRIALS = 6
NUM_CLASSES = 2
NUM_IMAGES = {"train": 80, "test": 20}


def time_pauses(repeats: int, display: Display) -> tuple[Figure, Figure]:
    """Seconds per pause and continuation: trials of two epochs with a pause between them, against the same without it.

    They train MODEL on a few random images, one at a time, on the connected cluster, so that the epochs cost little.
    The first figure is the time on the clock; the second one the CPU time of the driver, Ray and the trials, which
    depends less on what else the machine does.
    """
    with tempfile.TemporaryDirectory(prefix="flexres_tune_bench_", ignore_cleanup_errors=True) as folder:
        _write_images(Path(folder) / "images")
        wall, cpu = [], []
        for repeat in range(repeats):
            whole = _time(Path(folder), f"whole{repeat}", "none", display)
            rungs = [{"epochs": 1, "keep": NUM_TRIALS}]
            paused = _time(Path(folder), f"paused{repeat}", {"type": "halving", "rungs": rungs}, display)
            wall.append((paused.wall_seconds - whole.wall_seconds) / NUM_TRIALS)
            cpu.append((paused.cpu_seconds - whole.cpu_seconds) / NUM_TRIALS)
    name = f"a pause and a continuation, {MODEL}"
    return Figure.of(name, "s", wall), Figure.of(f"{name}: CPU time", "CPU-s", cpu)


def _time(folder: Path, name: str, early_terminate: object, display: Display) -> ProcessTime:
    from flexres_tune.raytune.runner import TuneRun, run_trials

    spec = SweepSpec.model_validate(
        {
            "name": name,
            "base": {
                **{"model": MODEL, "dataset": f"parquet:{folder / 'images'}", "epochs": 2, "precision": "fp32"},
                "augmentation": [],
            },
            "parameters": {"lr": {"values": [0.001 * (k + 1) for k in range(NUM_TRIALS)]}},
            "early_terminate": early_terminate,
        }
    )
    trials = expand_trials(spec, describe_dataset)
    run = TuneRun(
        spec=spec,
        search=make_search(spec, trials, History()),
        paths=SweepPaths(folder, name),
        resources=TrialResources(cpu=1, gpu=0, num_concurrent=1, reason=""),
        signals=Signals(),
        display=display,
    )
    with ProcessTime() as spent:
        run_trials(run)
    return spent


def _write_images(folder: Path) -> None:
    """Random images of 32x32 in the Hugging Face layout."""
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, number in NUM_IMAGES.items():
        rows = []
        for index in range(number):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "PNG")
            rows.append({"img": {"bytes": file.getvalue(), "path": None}, "label": index % NUM_CLASSES})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
