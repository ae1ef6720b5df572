"""bench packing: images/s of a whole device or node, by the number of trials that share it."""

from __future__ import annotations

from flexres_tune.bench.figures import Bench, Figure
from flexres_tune.cluster.connection import connect
from flexres_tune.cluster.packing import measure_with_ray, pack_cpu, pack_gpu
from flexres_tune.spec import TrialConfig


def bench_packing(config: TrialConfig, repeats: int) -> Bench:
    """What `resources_per_trial: {cpu: auto, gpu: auto}` measures, `repeats` times."""
    with connect(None) as cluster:
        measure = measure_with_ray(config)
        if cluster.num_gpus:
            packings = [pack_gpu(measure, cluster.cpus_per_gpu) for _ in range(repeats)]
        else:
            packings = [pack_cpu(measure, int(cluster.num_cpus)) for _ in range(repeats)]
    figures = [Figure.of("all trials together", "images/s", [packing.images_per_second for packing in packings])]
    notes = [packing.reason for packing in packings]
    return Bench(f"packing: {config.model.name}, batch {config.batch_size}", tuple(figures), tuple(notes))
