"""Statistics against known truth: `python tests/uncertainty/simulate_statistics.py` (some minutes; --repeats N for fewer).

Learning curves are drawn, not trained: accuracy(epoch) = final - (final - 0.1) exp(-epoch / pace) + luck of the seed
+ noise of the epoch. Everything they go through is the package's own: the journal and its ASHA ladder, the choice of
what to confirm, and the statistics of the leaderboard.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from helpers.factories import make_metrics

from flexres_tune.analysis.leaderboard import verdict
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.records import TrialRecord, TrialStatus, Versions
from flexres_tune.search.base import History, PastTrial
from flexres_tune.search.confirmation import best_configs, make_confirmation
from flexres_tune.spec import PlannedTrial, SweepSpec, expand_trials
from flexres_tune.sweep.journal import Journal
from flexres_tune.sweep.worker import TrialFacts, TrialReport
from flexres_tune.uncertainty.comparisons import compare_with_leader, critical_ranges, gaps, moments
from flexres_tune.uncertainty.intervals import compare, half_width

CONCURRENT = 4  # trials that run at once


@dataclass(frozen=True)
class Truth:
    """What is so, by lr: no trial sees it."""

    final: dict[float, float]  # accuracy a configuration tends to, fraction
    pace: dict[float, float]  # epochs in which it gets there
    seed_sd: float  # of a trial's own luck
    epoch_sd: float  # of one epoch's

    @property
    def best(self) -> float:
        return max(self.final, key=self.final.__getitem__)


class NoWriter:
    """In place of SweepWriter: the simulation reads the journal's states, not tables."""

    def add_epoch(self, *record) -> None:
        pass

    def add_decision(self, decision) -> None:
        pass

    def add_trial(self, *record) -> None:
        pass

    def add_predictions(self, *records) -> None:
        pass


def make_spec(num_configs: int, epochs: int, early: dict | str, top: int = 3, num_seeds: int = 5) -> SweepSpec:
    return SweepSpec.model_validate(
        {
            "name": "simulation",
            "seeds": [0],
            "base": {"model": "tiny", "dataset": "digits", "epochs": epochs},
            "parameters": [{"lr": {"values": [round(1e-3 * (k + 1), 6) for k in range(num_configs)]}}],
            "early_terminate": early,
            "confirm": {"top": top, "seeds": list(range(10, 10 + num_seeds))},
        }
    )


def draw_truth(spec: SweepSpec, rng: np.random.Generator, spread: float, seed_sd: float, crossing: float) -> Truth:
    """Finals spread by chance around 90 %; paces differ by up to ± `crossing`, so slow curves cross fast ones late."""
    epochs = spec.base["epochs"]
    rates = spec.parameters[0]["lr"].values
    final = {lr: 0.9 + spread * rng.standard_normal() for lr in rates}
    pace = {lr: 0.1 * epochs * (1 + crossing * rng.uniform(-1, 1)) for lr in rates}
    return Truth(final, pace, seed_sd, seed_sd / 2)


def play(spec: SweepSpec, trials: list[PlannedTrial], truth: Truth, rng: np.random.Generator) -> tuple[History, int]:
    """Run trials through the journal, CONCURRENT at once, an epoch each in turn; (memory, epochs run)."""
    journal = Journal(spec, NoWriter(), Versions(), None)
    waiting, running, num_epochs = deque(trials), deque(), 0
    while waiting or running:
        while waiting and len(running) < CONCURRENT:
            planned = waiting.popleft()
            journal.start(planned, 1)
            running.append((planned, iter(_curve(planned, truth, rng))))
        planned, curve = running.popleft()
        epoch, accuracy = next(curve)
        is_last = epoch == planned.config.epochs
        metrics = make_metrics(epoch, accuracy)
        report = TrialReport(metrics, TrialFacts(), TrialStatus.COMPLETED if is_last else None)
        num_epochs += 1
        verdict = journal.judge(planned.config.trial_id, report)
        stop = journal.states[planned.config.trial_id].was_stopped = verdict is not None and verdict.stop
        journal.add(planned.config.trial_id, report)
        if stop or is_last:
            journal.finish(planned.config.trial_id)
        else:
            running.append((planned, curve))
    return History({key: _past(state.record) for key, state in journal.states.items()}), num_epochs


def _past(record: TrialRecord) -> PastTrial:
    accuracy = record.best_val_accuracy
    return PastTrial(
        *(record.trial_id, record.config_id, record.seed, record.stage, TrialStatus(record.status), record.attempt),
        val_accuracy=accuracy,
        score=accuracy,
        is_done=True,
    )


def _curve(planned: PlannedTrial, truth: Truth, rng: np.random.Generator) -> list[tuple[int, float]]:
    lr, epochs = planned.config.lr, planned.config.epochs
    at = np.arange(1, epochs + 1)
    luck = truth.seed_sd * rng.standard_normal()
    rise = 1 - np.exp(-at / truth.pace[lr])
    values = 0.1 + (truth.final[lr] - 0.1 + luck) * rise + truth.epoch_sd * rng.standard_normal(epochs)
    return [(int(epoch), float(value)) for epoch, value in zip(at, values, strict=True)]


@dataclass(frozen=True)
class Outcome:
    """One simulated sweep: what each way of deciding named, and what it cost in epochs."""

    truth: Truth
    screened: float  # lr named by the screening alone
    confirmed: float  # lr named by screening and confirmation
    screen_epochs: int
    confirm_epochs: int
    verdicts: dict[float, str]  # separable_from_leader of the confirmed, by lr


def simulate_sweep(spec: SweepSpec, trials: list[PlannedTrial], truth: Truth, rng: np.random.Generator) -> Outcome:
    """Screen, confirm, compare."""
    order = [trials[i] for i in rng.permutation(len(trials))]
    memory, screen_epochs = play(spec, order, truth, rng)
    rate = {trial.config.config_id: trial.config.lr for trial in trials}
    screened = rate[best_configs(trials, memory)[0]]
    fresh = list(make_confirmation(spec, trials, memory).work.trials)
    seen, confirm_epochs = play(spec, fresh, truth, rng)
    samples: dict[float, dict[int, float]] = {}
    for trial in fresh:
        samples.setdefault(trial.config.lr, {})[trial.config.seed] = seen.trials[trial.config.trial_id].score
    verdicts = separable(samples)
    return Outcome(truth, screened, next(iter(verdicts)), screen_epochs, confirm_epochs, verdicts)


def separable(samples: dict[float, dict[int, float]]) -> dict[float, str]:
    """separable_from_leader by name, best first, as on a leaderboard."""
    leader, *others = sorted(samples, key=lambda name: -fmean(samples[name].values()))
    comparisons = compare_with_leader(samples[leader], [samples[name] for name in others])
    return {leader: "leader"} | {
        name: verdict(each, min(len(samples[leader]), len(samples[name])))
        for name, each in zip(others, comparisons, strict=True)
    }


def simulate_ladder(
    repeats: int, seed: int = 0, spread: float = 0.01, seed_sd: float = 0.005, crossing: float = 0.0, grid: bool = True
) -> dict[str, float]:
    """How often ASHA alone, ASHA + confirm, and a full grid of one seed name the best of 27, and what they cost."""
    rng = np.random.default_rng(seed)
    asha = make_spec(27, 27, {"type": "asha", "variant": "stopping", "grace_period": 3, "reduction_factor": 3})
    unstopped = make_spec(27, 27, "none")
    trials = list(expand_trials(asha, describe_dataset))
    outcomes, grid_hits = [], 0
    for _ in range(repeats):
        truth = draw_truth(asha, rng, spread, seed_sd, crossing)
        outcomes.append(simulate_sweep(asha, trials, truth, rng))
        if not grid:
            continue
        memory, _ = play(unstopped, trials, truth, rng)
        best = best_configs(trials, memory)[0]
        grid_hits += next(t.config.lr for t in trials if t.config.config_id == best) == truth.best
    wrong = sum(
        o.verdicts[lr] == "yes" and o.truth.final[lr] >= o.truth.final[o.confirmed]
        for o in outcomes
        for lr in o.verdicts
    )
    figures = {"full grid names the best": grid_hits / repeats} if grid else {}
    figures |= {
        "full grid epochs": 27 * 27,
        "asha names the best": np.mean([o.screened == o.truth.best for o in outcomes]),
        "asha epochs": np.mean([o.screen_epochs for o in outcomes]),
        "asha points lost": 100 * np.mean([o.truth.final[o.truth.best] - o.truth.final[o.screened] for o in outcomes]),
        "confirm names the best": np.mean([o.confirmed == o.truth.best for o in outcomes]),
        "confirm epochs": np.mean([o.screen_epochs + o.confirm_epochs for o in outcomes]),
        "confirm points lost": 100
        * np.mean([o.truth.final[o.truth.best] - o.truth.final[o.confirmed] for o in outcomes]),
        "runner-up separable": np.mean(["yes" in list(o.verdicts.values())[1:2] for o in outcomes]),
        "called separable though no better": wrong / repeats,
    }
    return {name: float(value) for name, value in figures.items()}


def simulate_coverage(repeats: int, n: int, seed: int = 0) -> dict[str, float]:
    """How often 95 % intervals hold the truth: of a mean, of a paired difference, and of Welch's."""
    rng = np.random.default_rng(seed)
    held = dict.fromkeys(("mean", "paired", "welch"), 0)
    for _ in range(repeats):
        shared = 0.003 * rng.standard_normal(n)  # luck that a seed brings to every configuration
        a = 0.93 + shared + 0.004 * rng.standard_normal(n)
        b = 0.92 + shared + 0.006 * rng.standard_normal(n)
        held["mean"] += abs(a.mean() - 0.93) <= half_width(a.std(ddof=1), n)
        ours = dict(enumerate(a.tolist()))
        for test, first in (("paired", 0), ("welch", 100)):
            # seeds of their own where nothing is shared
            c = b if first == 0 else 0.92 + 0.006 * rng.standard_normal(n + 1)
            found = compare(ours, dict(enumerate(c.tolist(), first)))
            assert found.test == test
            held[test] += found.low <= 0.01 <= found.high
    return {name: count / repeats for name, count in held.items()}


def simulate_equals(repeats: int, num_configs: int, num_seeds: int, shared: bool, seed: int = 0) -> float:
    """Share of runs in which any of some configurations that are truly equal is called separable from the leader.

    Accuracies are counts of 5,000 images, the best of 20 noisy epochs, as a real sweep's are.
    """
    rng = np.random.default_rng(seed)
    false = 0
    for _ in range(repeats):
        luck = (
            0.93
            + 0.004 * rng.standard_normal((num_configs, num_seeds, 1))
            + 0.002 * rng.standard_normal((num_configs, num_seeds, 20))
        )
        values = np.round(luck.max(axis=2) * 5000) / 5000
        seeds = [range(num_seeds) if shared else range(100 * k, 100 * k + num_seeds) for k in range(num_configs)]
        samples = {k: dict(zip(seeds[k], values[k].tolist(), strict=True)) for k in range(num_configs)}
        false += "yes" in separable(samples).values()
    return false / repeats


@dataclass(frozen=True)
class Boards:
    """Boards of configurations whose seeds are normal: `num_seeds` each, the standard deviation of each is known."""

    num_configs: int
    num_seeds: int
    sds: str = "equal"  # equal | half: twice as large for every second one | one: twice as large for the first one
    is_paired: bool = True  # each seed adds the same to all configurations
    behind: float = 0.0  # how far the last one is behind the others, which are equal

    def draw(self, repeats: int, rng: np.random.Generator) -> np.ndarray:
        """(repeats, num_configs, num_seeds) values, in units of the smallest standard deviation."""
        index = np.arange(self.num_configs)
        sd = 1.0 + {"equal": 0 * index, "half": index % 2, "one": index == 0}[self.sds]
        values = rng.standard_normal((repeats, self.num_configs, self.num_seeds)) * sd[:, None]
        values[:, -1] -= self.behind
        return values + rng.standard_normal((repeats, 1, self.num_seeds)) if self.is_paired else values


def share_separable(boards: Boards, repeats: int, seed: int = 0) -> float:
    """Share of boards in which the leader is called better than the last one, or than any if all are equal.

    The last one is compared by the first step of the step-down test, so that its power is not overstated.
    """
    rng = np.random.default_rng(seed)
    count = 0
    for start in range(0, repeats, 1000):  # 1,000 boards of 81 x 10 values have 6 MB
        found = moments(boards.draw(min(1000, repeats - start), rng), boards.is_paired)
        gap = gaps(found, found.mean.argmax(axis=-1)[:, None])
        separable = math.sqrt(2) * gap.difference / gap.error > critical_values(boards.num_configs, gap.freedom)
        count += (separable[:, -1] if boards.behind else separable.any(axis=-1)).sum()
    return count / repeats


@cache
def _table_of_critical_values(num: int) -> tuple[np.ndarray, np.ndarray]:
    freedom = 1 / np.linspace(1, 1e-4, 60)
    return 1 / freedom[::-1], np.log(critical_ranges(num, freedom))[::-1]


def critical_values(num: int, freedom: np.ndarray) -> np.ndarray:
    """The studentized range of `num` values that is exceeded by chance in 5 % of cases; interpolated."""
    return np.exp(np.interp(1 / freedom, *_table_of_critical_values(num)))


def monte_carlo_error(share: float, repeats: int) -> float:
    """Standard error of a share counted in so many repeats."""
    return math.sqrt(share * (1 - share) / repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repeats", type=int, default=20_000, help="of each figure; a twentieth of them for the ladder"
    )
    repeats = parser.parse_args().repeats
    started = time.monotonic()
    for n in (3, 5, 10):
        print(f"coverage of 95 % intervals, n = {n}, {repeats} repeats:", simulate_coverage(repeats, n))
    for num_configs in (2, 3, 5, 10):
        for num_seeds in (3, 5):
            for shared in (True, False):
                share = simulate_equals(repeats, num_configs, num_seeds, shared)
                what = f"{num_configs} equal configurations, {num_seeds} {'shared' if shared else 'own'} seeds"
                print(f"{what}: called separable in {share:.4f} ± {monte_carlo_error(share, repeats):.4f}")
    for num_configs, num_seeds in itertools.product((3, 8, 24, 81), (2, 3, 4, 10)):
        for sds, is_paired in itertools.product(("equal", "half", "one"), (True, False)):
            share = share_separable(Boards(num_configs, num_seeds, sds, is_paired), repeats)
            what = f"{num_configs} equal configurations, {num_seeds} {'paired' if is_paired else 'unpaired'} seeds"
            print(f"{what}, deviations {sds}: {share:.4f} ± {monte_carlo_error(share, repeats):.4f}")
    for seed_sd, crossing in ((0.002, 0.0), (0.005, 0.0), (0.005, 0.02), (0.005, 0.1)):
        figures = simulate_ladder(max(1, repeats // 20), seed_sd=seed_sd, crossing=crossing)
        what = f"seeds ± {100 * seed_sd:g} points, paces ± {crossing:.0%}"
        print(f"27 configurations, finals 90 ± 1 %, {what}, {max(1, repeats // 20)} sweeps:")
        for name, value in figures.items():
            print(f"  {name}: {value:.4g}")
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
