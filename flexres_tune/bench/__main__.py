"""Benchmarks of this machine and of searches: `python -m flexres_tune.bench [train|sweep|scale|tables|search|...]`."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flexres_tune import cli
from flexres_tune.bench.steps import say_step

if TYPE_CHECKING:
    from flexres_tune.bench.figures import Bench
    from flexres_tune.bench.search.benchmark import SearchBench
    from flexres_tune.spec import TrialConfig

EPILOG = """
Examples:

  python -m flexres_tune.bench train --model resnet22_2 --batch-size 128

  python -m flexres_tune.bench train --model small --batch-size 64 --dataset parquet:../shared/data/cifar10-jpeg

  python -m flexres_tune.bench sweep --trials 200

  python -m flexres_tune.bench scale --slots 64 --trials 200 --epoch-seconds 1

  python -m flexres_tune.bench tables --json

  python -m flexres_tune.bench headline --model small --batch-size 64 --dataset parquet:../shared/data/cifar10-jpeg

  python -m flexres_tune.bench search --world crossing --draws 1000

  python -m flexres_tune.bench search --world recorded --curves tests/data/learning_curves.parquet

  python -m flexres_tune.bench gpu --dataset parquet:../shared/data/cifar10-jpeg

Each figure is the median of n measurements with their range. Ratios are taken pair by pair within one run. `sweep`
also measures the defaults of Ray Tune, which takes minutes; every other benchmark takes one or two.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class What(StrEnum):
    """What to measure."""

    all = "all"
    train = "train"
    sweep = "sweep"
    scale = "scale"
    tables = "tables"
    packing = "packing"
    search = "search"
    gpu = "gpu"
    headline = "headline"


# scale starts one process per slot; search trains nothing; gpu has passes and failures; headline takes hours
NOT_IN_ALL = (What.all, What.scale, What.search, What.gpu, What.headline)


@app.command(epilog=EPILOG)
def bench(
    what: Annotated[What, typer.Argument(help="What to measure.")] = What.all,
    model: Annotated[str, typer.Option(help="Name of a preset (train, packing).")] = "resnet22_2",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step (train, packing).")] = 128,
    dataset: Annotated[str, typer.Option(help="digits, cifar10 or parquet:PATH (train, packing, gpu).")] = "cifar10",
    mixup_alpha: Annotated[float, typer.Option(min=0, help="Alpha of mixup, in both loops; 0: none (train).")] = 0.0,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Number of trials that train nothing (sweep, scale: 200; tables: 10,000)."),
    ] = None,
    growth: Annotated[
        int, typer.Option(min=1, help="Also measure with N times as many trials; 1: skip (sweep, scale).")
    ] = 10,
    slots: Annotated[int, typer.Option(min=1, help="Number of trials at once, on fake CPUs (scale).")] = 64,
    epoch_seconds: Annotated[float, typer.Option(min=0, help="How long an epoch sleeps (scale).")] = 1.0,
    table_trials: Annotated[int, typer.Option(min=1, help="Number of trials (tables, in `all`).")] = 10_000,
    table_epochs: Annotated[int, typer.Option(min=1, help="Epochs of each of them (tables).")] = 100,
    repeats: Annotated[int, typer.Option(min=1, help="Number of measurements of each figure.")] = 3,
    images: Annotated[int, typer.Option(min=1, help="Training images per epoch (headline).")] = 10_000,
    epochs: Annotated[int, typer.Option(min=2, help="Epochs of a trial (headline).")] = 10,
    val_images: Annotated[
        int | None, typer.Option(min=1, help="Validation images; those of the data set by default (headline).")
    ] = None,
    textbook_seeds: Annotated[
        int, typer.Option(min=1, max=3, help="Seeds of the textbook's grid that are trained; its cost is scaled to 3.")
    ] = 3,
    world: Annotated[
        list[str] | None, typer.Option(help="World to simulate; repeatable; all by default (search).")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="Policy to simulate; repeatable; all by default (search).")
    ] = None,
    draws: Annotated[int, typer.Option(min=2, help="Number of simulated sweeps per world and policy (search).")] = 150,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated sweeps (search).")] = 0,
    curves: Annotated[
        Path | None, typer.Option(help="Parquet file of recorded learning curves, which are replayed as well (search).")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="Column of the recorded curves whose values are compared (search).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per benchmark.")] = False,
    write: Annotated[
        Path | None, typer.Option(help="Also rewrite the table of figures in this Markdown file (docs/performance.md).")
    ] = None,
    check: Annotated[list[int] | None, typer.Option(help="Number of a check to run; repeatable (gpu).")] = None,
    checks_file: Annotated[Path, typer.Option(help="JSON file of the checks' outcomes (gpu).")] = Path(
        "gpu_checks.json"
    ),
) -> None:
    """Measure this machine: training against a textbook loop, the driver against plain Ray Tune, tables, packing.

    `all` leaves out scale, which measures the driver with many trials at once, and search, which simulates how often
    each search policy finds the best configuration, and trains nothing. `gpu` shows check by check that training works
    on this machine's GPU; its exit status is 1 if a check fails. It needs no Ray.
    """
    if what is What.gpu:
        from flexres_tune.bench.gpu.command import run_checks

        raise typer.Exit(0 if run_checks(dataset, checks_file, check or []) else cli.EXIT_FAILED)
    command = shlex.join(["python", "-m", "flexres_tune.bench", *sys.argv[1:]])
    if what is What.search:
        _search(SearchOptions(world or [], policy or [], draws, seed, curves, compare), command, as_json, write)
        return
    from flexres_tune.spec import parse_architecture
    from flexres_tune.spec.trial_values import build_config
    from flexres_tune.trial_options import refuse

    values = {"model": model, "batch_size": batch_size, "dataset": dataset, "mixup_alpha": mixup_alpha}
    config, findings = build_config(values, seed=0)
    refuse(findings)
    chosen = [(name, config) for name in What if name not in NOT_IN_ALL] if what is What.all else [(what, config)]
    if what is What.all:  # also a small network: there the loop costs most in relation
        chosen.insert(
            1, (What.train, config.model_copy(update={"model": parse_architecture("small"), "batch_size": 64}))
        )
    in_tables = trials if trials is not None and what is What.tables else table_trials
    num_trials = 200 if trials is None else trials
    results = []
    for name, trial in chosen:
        if name is What.scale:
            from flexres_tune.bench.driver.scale import bench_scale

            say_step(f"starting Ray with {slots} slots, then {num_trials} and {growth * num_trials} trials")
            results.append(bench_scale(slots, num_trials, growth, epoch_seconds))
        elif name is What.headline:
            from flexres_tune.bench.headline import Extent, bench_headline

            results.append(
                bench_headline(trial, Extent(images, epochs, val_images), textbook_seeds, partial(typer.echo, err=True))
            )
        else:
            results.append(_measure(name, trial, (num_trials, growth), (in_tables, table_epochs), repeats))
        _print(results[-1], as_json)
    if write is not None:
        from flexres_tune.bench.note import write_note

        write_note(write, results, command)


@dataclass(frozen=True)
class SearchOptions:
    """What bench search simulates; empty lists: all."""

    worlds: list[str]
    policies: list[str]
    draws: int
    seed: int
    curves: Path | None
    compare: str | None


def _search(options: SearchOptions, command: str, as_json: bool, write: Path | None) -> None:
    from flexres_tune.bench.search.benchmark import SearchBench, bench_search, choose_worlds
    from flexres_tune.bench.search.tables import to_json_lines, write_block

    worlds = choose_worlds(options.worlds, options.curves, options.compare)
    rows = bench_search(worlds, options.policies, options.draws, options.seed)
    bench = SearchBench(command, options.draws, options.seed, rows)
    if as_json:
        print(to_json_lines(bench), flush=True)
    else:
        _print_search(bench)
    if write is not None:
        write_block(write, bench)


def _print_search(bench: SearchBench) -> None:
    from itertools import groupby

    from rich.console import Console
    from rich.table import Table

    from flexres_tune.bench.search.tables import HEADINGS, cells, legend

    console = Console(highlight=False)
    for world, rows in groupby(bench.rows, key=lambda row: row.world):
        texts = [(row.policy, *cells(row)) for row in rows]
        table = Table(title=world, title_justify="left", box=None, header_style="bold", pad_edge=False)
        columns = [k for k in range(len(texts[0])) if any(row[k] for row in texts)]
        for k in columns:
            heading = ["", *HEADINGS.values()][k].replace(" ", "\n", 1)
            table.add_column(heading, justify="right" if k else "left", no_wrap=True)
        for row in texts:
            table.add_row(*(row[k] for k in columns))
        console.width = max(console.width, Console(width=1000).measure(table).maximum)  # no column is cut
        console.print(table)
        console.print()
    for line in (*legend(HEADINGS), f"{bench.num_draws} sweeps each: mean ± standard error"):
        console.print(line, style="dim", soft_wrap=True)


def _measure(
    what: What, config: TrialConfig, sweep: tuple[int, int], tables: tuple[int, int], repeats: int
) -> Bench:  # imports inside: each loads torch or ray
    if what is What.train:
        from flexres_tune.bench.train import bench_train

        return bench_train(config, repeats)
    if what is What.sweep:
        from flexres_tune.bench.driver.sweep import bench_sweep

        return bench_sweep(*sweep, repeats)
    if what is What.tables:
        from flexres_tune.bench.tables import bench_tables

        return bench_tables(*tables, repeats)
    return _bench_packing(config, repeats)


def _bench_packing(config: TrialConfig, repeats: int) -> Bench:
    """Images/s of a device or node that trials share, as `resources_per_trial: {cpu: auto, gpu: auto}` measures it."""
    from flexres_tune.bench.figures import Bench, Figure
    from flexres_tune.cluster.connection import connect
    from flexres_tune.cluster.packing import measure_with_ray, pack_cpu, pack_gpu

    say_step("starting Ray")
    with connect(None) as cluster:
        say_step(f"measuring how many trials share a device, {repeats} times")
        measure = measure_with_ray(config, {})
        if cluster.num_gpus:
            packings = [pack_gpu(measure, cluster.cpus_per_gpu) for _ in range(repeats)]
        else:
            packings = [pack_cpu(measure, int(cluster.num_cpus)) for _ in range(repeats)]
    figures = (Figure.of("all trials together", "images/s", [packing.images_per_second for packing in packings]),)
    notes = tuple(packing.reason for packing in packings)
    return Bench(f"packing: {config.model.name}, batch {config.batch_size}", figures, notes)


def _print(result: Bench, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(result)), flush=True)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from flexres_tune.bench.note import number

    table = Table(title=escape(result.title), title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in ("median", "lowest", "highest"):
        table.add_column(name, justify="right")
    table.add_column("n", justify="right")
    table.add_column("unit")
    for figure in result.figures:
        numbers = map(number, (figure.median, figure.low, figure.high))
        table.add_row(escape(figure.name), *numbers, str(figure.n), figure.unit)
    console = Console(highlight=False)
    console.print(table)
    for note in (*result.notes, result.machine):
        console.print(escape(note), style="dim", soft_wrap=True)
    console.print()


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
