"""What `run` prints before a sweep (the trials of `--dry-run`) and after it (leaderboard, files, answer). No ray."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from flexres_tune.cluster.resources import (
    ClusterResources,
    NodeResources,
    TrialResources,
    num_visible_gpus,
    trial_resources,
)
from flexres_tune.datasets import describe_dataset, split_sizes
from flexres_tune.display.terminal import UNLIMITED_WIDTH, escape_for_console, print_trimmed
from flexres_tune.errors import DeviceError, FlexResError
from flexres_tune.estimate.estimate import (
    Estimate,
    describe_estimate,
    describe_left_out,
    estimate,
    sweep_to_estimate,
)
from flexres_tune.estimate.price import DryRun, describe_cost, num_slots_of
from flexres_tune.estimate.speeds import SpeedBook, read_speeds, shape_of
from flexres_tune.records import parse_metrics
from flexres_tune.results.paths import SweepPaths, query_command
from flexres_tune.run.progress import waiting
from flexres_tune.search.base import History, Workload
from flexres_tune.search.budget import BudgetedSearches, make_budgeted_searches
from flexres_tune.search.methods import make_search
from flexres_tune.search.pausing import Group, RungPlan, plan_rungs
from flexres_tune.spec import Budget, PlannedTrial, SweepSpec
from flexres_tune.spec.document.document import show
from flexres_tune.spec.expand import count_trials, example_trials
from flexres_tune.spec.levels import list_levels, share_draws
from flexres_tune.spec.metrics import metric_column
from flexres_tune.storage import AnyPath
from flexres_tune.sweep.checkpoints import checkpoint_bytes, describe_disk
from flexres_tune.sweep.history import read_spent
from flexres_tune.sweep.options import RunOptions
from flexres_tune.text import format_duration, join_words, plural, plural_range

MAX_SPLITS = 4  # that are printed
MAX_CAVEATS = 2  # below the answer; `query answer` prints all


@dataclass(frozen=True)
class PlanTable:
    """Rows of text under columns, and one line of totals."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    totals: str


def print_listing(
    console: Console,
    spec: SweepSpec,
    trials: Sequence[PlannedTrial],
    work: Workload,
    folder: AnyPath,
    max_concurrent: int | None,
) -> None:
    """`--dry-run`: one row per trial that is known before the sweep runs, and the totals.

    Args:
        work: what the command would run of `trials`.
        folder: where the rows of the others are.
    """
    plan = describe_plan(spec, trials)
    _print_trials(console, plan)
    _print_line(console, plan.totals)
    _print_line(console, describe_images(spec, trials))
    for line in describe_search(spec, trials):
        _print_line(console, line)
    if work.num_done:
        _print_line(console, f"{work.num_done} of them are done: their rows are in {folder}")
    missing = list(work.missing)
    if spec.method == "tpe":
        largest = max(example_trials(spec, describe_dataset), key=checkpoint_bytes)
        missing += [largest] * (work.num_todo - len(missing))
    num_concurrent, keeps_all = _num_concurrent(spec, max_concurrent), spec.early_terminate.pauses
    _print_line(console, describe_disk(missing, num_concurrent, len(spec.seeds), keeps_all))


def _print_trials(console: Console, plan: PlanTable) -> None:
    """The rows with every character: a pipe or file has no limit of width, and a terminal breaks long values."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    varied = plan.columns[1:-2]  # between the id and the numbers
    for name in plan.columns:
        table.add_column(name, no_wrap=name not in varied, overflow="fold")
    for row in plan.rows:
        table.add_row(*map(escape_for_console, row))
    is_limited = console.is_terminal or "COLUMNS" in os.environ
    if plan.rows:
        print_trimmed(table, console, console.width if is_limited else UNLIMITED_WIDTH)


def describe_images(spec: SweepSpec, trials: Sequence[PlannedTrial]) -> str:
    """`images: 45,000 training, 5,000 validation, 10,000 test images`, once per split that the trials use.

    Raises:
        FlexResError: a data set is missing or malformed.
    """
    if not trials and spec.method == "tpe":
        trials = example_trials(spec, describe_dataset)
    configs = {
        (config.images, config.num_train_images, config.num_val_images): config
        for config in (trial.config for trial in trials)
    }
    several = len({config.dataset for config in configs.values()}) > 1
    splits = list(dict.fromkeys(f"{split_sizes(c)}{f' of {c.dataset}' if several else ''}" for c in configs.values()))
    rest = [f"and {plural(len(splits) - MAX_SPLITS, 'other split')}"] if len(splits) > MAX_SPLITS else []
    return f"images: {'; '.join([*splits[:MAX_SPLITS], *rest])}"


def describe_plan(spec: SweepSpec, trials: Sequence[PlannedTrial]) -> PlanTable:
    """One row per trial, in the order in which trials start: id, varied values, parameters and epochs."""
    varied = tuple(dict.fromkeys(key for grid in spec.parameters for key in grid))
    rows = tuple(
        (
            trial.config.trial_id,
            *(_show_value(trial.varied[key]) if key in trial.varied else "" for key in varied),
            f"{trial.num_parameters:,}",
            str(trial.config.epochs),
        )
        for trial in trials
    )
    return PlanTable(("trial_id", *varied, "num_parameters", "epochs"), rows, _totals(spec, trials))


def _show_value(value: Any) -> str:
    """As in the file; a number that was drawn with four digits, which tell it from the others."""
    text = show(value, 40)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > 8 else text


def _totals(spec: SweepSpec, trials: Sequence[PlannedTrial]) -> str:
    if spec.method == "tpe":
        shares = share_draws(spec).values()
        of_each = f", {plural_range(shares, 'configuration')} of each level," if spec.compare else ""
        return (
            f"{plural(count_trials(spec), 'trial')}: {plural(spec.num_trials or 0, 'configuration')} to be drawn while "
            f"the sweep runs{of_each} x {plural(len(spec.seeds), 'seed')}{_confirmation(spec)}"
        )
    configurations = {trial.config.config_id for trial in trials}
    epochs = sum(trial.config.epochs for trial in trials)
    if spec.early_terminate.pauses:
        num_epochs = plural(make_search(spec, trials, History()).work.num_epochs, "epoch")
    else:
        num_epochs = f"{plural(epochs, 'epoch')} in all if none is stopped early"
    text = (
        f"{plural(len(trials), 'trial')}: {plural(len(configurations), 'configuration')} x "
        f"{plural(len(spec.seeds), 'seed')}; {num_epochs}"
    )
    if excluded := count_trials(spec) - len(trials):
        text += f"; {plural(excluded, 'trial')} excluded"
    if redrawn := sum(trial.num_redrawn for trial in trials):
        text += f"; {plural(redrawn, 'draw')} over max_parameters={spec.max_parameters:,} drawn again"
    return text + _confirmation(spec)


def _confirmation(spec: SweepSpec) -> str:
    """What runs after the screening: `; then the best 3 again on 5 fresh seeds`; "" without `confirm`."""
    if spec.confirm is None:
        return ""
    of_each = " of each level" if spec.compare else ""
    if spec.confirm.seeds is not None:
        runs = f"on {plural(len(spec.confirm.seeds), 'fresh seed')}"
    else:
        runs = f"in {plural(spec.confirm.num_runs, 'run')} on fresh seeds, each for the comparison that needs it most"
    baseline = " and the baseline" if spec.baseline is not None else ""
    final = "; then the winner once more on all training images" if spec.confirm.final else ""
    return f"; then the best {spec.confirm.top}{of_each}{baseline} again {runs}{final}"


def describe_search(spec: SweepSpec, trials: Sequence[PlannedTrial]) -> list[str]:
    """Lines about `compare` and about the rungs: their epochs, and how many configurations continue."""
    lines = []
    if spec.compare:
        levels = list_levels(spec)
        lines.append(f"compare: {plural(len(levels), 'level')}: {'; '.join(levels)}")
    if spec.early_terminate.pauses:
        plan = plan_rungs(spec, trials)
        ladders: dict[str, list[Group]] = {}
        for group in plan.rungs:
            ladders.setdefault(_describe_ladder(plan, group, spec), []).append(group)
        for text, groups in ladders.items():
            lines.append(f"rungs of {_describe_groups(spec, groups, len(plan.rungs))}: {text}")
    return lines


def _describe_ladder(plan: RungPlan, group: Group, spec: SweepSpec) -> str:
    """`after epoch 4 the best 2 of 3 continue, ...`; says what `grace_period: auto` stands for."""
    num_left, ladder, parts = plan.sizes[group], plan.rungs[group], []
    if not ladder:
        return "none: they run to the end"
    for rung in ladder:
        parts.append(f"after epoch {rung.epochs} the best {min(rung.keep, num_left)} of {num_left} continue")
        num_left = min(rung.keep, num_left)
    auto = f" (grace_period: auto is {ladder[0].epochs})" if spec.early_terminate.grace_period == "auto" else ""
    return ", ".join(parts) + f", to epoch {group.epochs}{auto}"


def _describe_groups(spec: SweepSpec, groups: Sequence[Group], num_groups: int) -> str:
    if len(groups) == num_groups:
        of_level = spec.compare and len({group.level for group in groups}) == num_groups
        return "all configurations" if num_groups == 1 else "each level" if of_level else f"each of {num_groups} groups"
    names = []
    for group in groups:
        bracket = "" if group.bracket is None else f", bracket {group.bracket}"
        names.append(f"{group.level + ', ' if group.level else ''}{plural(group.epochs, 'epoch')}{bracket}")
    return "; ".join(names)


def _num_concurrent(spec: SweepSpec, max_concurrent: int | None) -> int:
    """Trials at once on this machine; 1 if the file is for another machine, where it may run."""
    here = _resources_here(spec, max_concurrent)
    return here.num_concurrent if here else max_concurrent or 1


def _resources_here(spec: SweepSpec, max_concurrent: int | None) -> TrialResources | None:
    """What a trial takes of this machine, as far as that is known without Ray; `auto` is one per CPU or GPU."""
    try:
        return trial_resources(spec.resources_per_trial, _this_machine(), max_concurrent)
    except DeviceError:
        return None


def _this_machine() -> ClusterResources:
    node = NodeResources(num_gpus=num_visible_gpus() or 0, num_cpus=os.cpu_count() or 1)
    return ClusterResources((node,), num_alive=1, is_local=True)


def print_estimate(
    console: Console,
    spec: SweepSpec,
    listed: Sequence[PlannedTrial],
    history: History,
    options: RunOptions,
    dry_run: DryRun,
) -> None:
    """`--dry-run`: how many epochs, how much time and, with a price, how much money the rest of a sweep will take.

    Nothing is printed if nothing is to run. `listed` are the trials of the sweep file, done or not.

    Raises:
        FlexResError: `dry_run.measure`, and the trials cannot run on this machine.
    """
    paths = SweepPaths(options.storage, spec.name)
    sweep = sweep_to_estimate(spec, listed, history, read_spent(paths) if spec.budget else {})
    trials = sweep.missing
    if not trials or (history.trials and estimate(spec, sweep, 1, 1.0, SpeedBook()).num_epochs == (0, 0)):
        return
    here = _resources_here(spec, options.max_concurrent)
    if dry_run.measure and here is None:
        raise FlexResError(
            "--measure: resources_per_trial must fit on this machine, because it is measured, but it does not; add "
            "--set resources_per_trial.gpu=0, or leave out --measure"
        )
    num_slots = here.num_concurrent if here else options.max_concurrent or 1
    num_devices, price = _this_machine().num_gpus or 1, dry_run.price
    if price is not None:
        num_devices = price.num_workers
        num_slots = min(num_slots_of(price, spec.resources_per_trial.gpu), options.max_concurrent or sys.maxsize)
    shapes = {shape_of(trial.config) for trial in trials}
    if dry_run.measure:
        from flexres_tune.estimate.measure import measure_speeds  # not for every dry run

        speeds = measure_speeds(trials, num_slots, here.num_threads, lambda text: _print_line(console, text))
    else:
        speeds = read_speeds(paths, shapes, num_slots)
    share = num_devices / num_slots
    found = estimate(spec, sweep, num_slots, share, speeds)
    _print_line(console, describe_estimate(found, num_slots, speeds, trials))
    if price is not None:
        _print_line(console, describe_cost(found, price))
    if spec.budget is not None:
        searches = make_budgeted_searches(spec, listed, history, sweep.spent, share)
        _print_line(console, describe_split(searches, found))


def show_amount(budget: Budget, amount: float) -> str:
    """An amount in the unit of the budget: `600 epochs`, `1 h 20 min of device time`."""
    if budget.epochs is not None:
        return plural(round(amount), "epoch")
    return f"{format_duration(max(0.0, amount))} of device time"


def describe_split(searches: BudgetedSearches, found: Estimate) -> str:
    """How the budget is divided between screening and confirmation, and what does not fit."""
    account = searches.account
    budget, whole = account.budget, show_amount(account.budget, account.limit)
    text = f"budget: {whole}"
    if account.spent:
        text += f", of which {show_amount(budget, account.spent)} are spent"
    if budget.epochs is None and found.device_seconds is None:
        return f"{text}; what fits into it is not known before speeds are"
    if searches.reserve:
        rest = show_amount(budget, account.limit - searches.reserve)
        text += f": {rest} for the screening, {show_amount(budget, searches.reserve)} kept for the confirmation"
    left_out = describe_left_out(found)
    return f"{text}; {f'does not fit: {left_out}' if left_out else 'everything fits'}"


def describe_spending(searches: BudgetedSearches) -> str:
    """What was spent of the budget, and what was left out because it did not fit."""
    from flexres_tune.analysis.summary import left_out_words  # not above: a dry run needs no pyarrow

    account = searches.account
    text = f"budget: {show_amount(account.budget, account.spent)} spent of {show_amount(account.budget, account.limit)}"
    if left_out := left_out_words(searches.left_out):
        text += f"; left out, because it did not fit: {left_out}; raise the budget to run the rest"
    return text


def describe_missing_metrics(paths: SweepPaths, spec: SweepSpec) -> str:
    """Which rows of the sweep have no value of a metric, because they are older than it; "" if none."""
    if not spec.metrics or not paths.table("trials").exists():
        return ""
    from flexres_tune.results import open_results

    rows = open_results(paths.root).trials(spec.name).select(["best_val_accuracy", "metrics"]).to_pylist()
    parts = []
    for column in map(metric_column, spec.metrics):
        count = sum(
            row["best_val_accuracy"] is not None and column not in parse_metrics(row["metrics"]) for row in rows
        )
        parts += [f"{column} in {plural(count, 'trial')}"] if count else []
    if not parts:
        return ""
    return (
        f"metrics: no value of {join_words(parts, 'and')}, which had ended before the metric was listed, or for which it is "
        "not finite; another name of the sweep runs them again"
    )


def describe_confirm_power(paths: SweepPaths, spec: SweepSpec) -> str:
    """The difference that the seeds of `confirm` can show; "" without `confirm`, or if no variance of seeds is known."""
    if spec.confirm is None or not paths.table("trials").exists():
        return ""
    from flexres_tune.analysis.leaderboard import leaderboards
    from flexres_tune.analysis.power import compared_rows, seed_deviation, smallest_difference
    from flexres_tune.results import open_results

    try:
        board = leaderboards(open_results(paths.root), spec.name)[0]
    except FlexResError:  # a damaged table; the run itself reports it
        return ""
    num_configs = spec.confirm.top * len(list_levels(spec)) + (spec.baseline is not None)
    num_seeds = len(spec.confirm.seeds or ()) or spec.confirm.num_runs // num_configs
    sd = seed_deviation(compared_rows(board))
    difference = None if sd is None or num_configs < 2 else smallest_difference(sd, num_seeds, num_configs)
    if difference is None:
        return ""
    metric = board.metric
    digits = metric.decimals(sd)
    return (
        f"confirm: {num_seeds} seeds can show a difference of {metric.factor * difference:.{digits}f} "
        f"{metric.difference} between two of {num_configs} configurations with 80 % power, from a standard deviation of "
        f"{metric.factor * sd:.{digits}f} between the seeds so far"
    )


def print_ending(console: Console, paths: SweepPaths, has_new_rows: bool) -> None:
    """A table and the answer in words, where the files are, and the commands that show all of it.

    The table has a row per level of `compare`, or without it the first ten configurations. The report is written if
    there are new rows or no report exists.
    """
    from flexres_tune.analysis.answer import answer_of
    from flexres_tune.display.render import print_section
    from flexres_tune.query.answers import level_section
    from flexres_tune.query.views import answer_leaderboard
    from flexres_tune.report.files import try_report
    from flexres_tune.results import open_results

    results = open_results(paths.root)
    answer = answer_of(results, paths.sweep)
    sections = [level_section(answer)] if answer.rows else answer_leaderboard(results, paths.sweep, limit=10).sections
    for section in sections:
        shown = replace(section, shows_all="query leaderboard shows all", names_left_out=False)
        print_section(shown, console)
    _print_sentences(console, [answer.claim, *answer.findings, *answer.caveats[:MAX_CAVEATS]])
    is_current = not has_new_rows and paths.report.exists()
    with waiting(console, "writing the report"):
        report = f"report: {paths.report}" if is_current else try_report(paths)
    _print_line(console, f"tables: {paths.folder}")
    _print_line(console, report)
    _print_line(console, f"next:   {query_command(paths, 'answer')}")
    _print_line(console, f"        {query_command(paths, 'leaderboard')}")


def _print_sentences(console: Console, sentences: Sequence[str]) -> None:
    """A line each; a terminal breaks it between words."""
    for sentence in sentences:
        console.print(escape_for_console(sentence), soft_wrap=not console.is_terminal)


def _print_line(console: Console, text: str) -> None:
    console.print(escape_for_console(text), soft_wrap=True)
