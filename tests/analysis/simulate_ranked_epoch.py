"""Which epoch should rank a trial? `python tests/analysis/simulate_ranked_epoch.py` prints how often each one is right.

Learning curves are drawn: accuracy(epoch) = final - 0.8 exp(-epoch / pace) + luck of the seed + noise of the epoch. The
best configuration is the one whose weights after the last epoch are the most accurate on average, because a trial keeps
those weights and measures them on the test set. `metric.at: best` and `last` each name one by the mean over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

NUM_CONFIGS, NUM_SEEDS = 8, 3


@dataclass(frozen=True)
class Curves:
    """How the curves of a sweep are drawn; standard deviations are fractions of accuracy."""

    lengths: tuple[int, ...] = (20,)  # epochs of the configurations, in turn
    constant: float = 0.0  # share of configurations whose learning rate is constant; the others have cosine
    overfitting: float = 0.0  # share of configurations that lose up to 3 points after three quarters of their epochs
    spread: float = 0.01  # of the configurations' finals
    seed_sd: float = 0.005
    epoch_sd: float = 0.01  # at the first learning rate; it falls with the learning rate to a tenth

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(true accuracy after the last epoch, the mean over seeds by `at`), each per configuration."""
        truths, best, last = (np.empty(NUM_CONFIGS) for _ in range(3))
        for i in range(NUM_CONFIGS):
            epochs = self.lengths[i % len(self.lengths)]
            at = np.arange(1, epochs + 1) / epochs
            mean = 0.9 + self.spread * rng.standard_normal() - 0.8 * np.exp(-at / 0.1)
            if rng.random() < self.overfitting:
                mean -= rng.uniform(0, 0.03) * np.maximum(0, at - 0.75) / 0.25
            lr = np.ones(epochs) if rng.random() < self.constant else 0.1 + 0.45 * (1 + np.cos(np.pi * at))
            noise = self.epoch_sd * lr * rng.standard_normal((NUM_SEEDS, epochs))
            runs = mean + self.seed_sd * rng.standard_normal((NUM_SEEDS, 1)) + noise
            truths[i], best[i], last[i] = mean[-1], runs.max(axis=1).mean(), runs[:, -1].mean()
        return truths, {"best": best, "last": last}


SWEEPS: Mapping[str, Curves] = MappingProxyType(
    {
        "cosine, equal epochs": Curves(),
        "cosine, 5 to 80 epochs": Curves(lengths=(5, 10, 20, 40, 80)),
        "cosine, half of them overfit": Curves(overfitting=0.5),
        "half cosine, half constant": Curves(constant=0.5),
        "constant, equal epochs": Curves(constant=1.0),
        "constant, 5 to 80 epochs": Curves(constant=1.0, lengths=(5, 10, 20, 40, 80)),
    }
)


@dataclass(frozen=True)
class Share:
    """How often a choice of the epoch names the truly best configuration, and what is lost on average."""

    named: float
    lost: float  # fraction of accuracy


def simulate(curves: Curves, num_draws: int, seed: int = 0) -> dict[str, Share]:
    """Both choices on the same draws, by `at`."""
    rng = np.random.default_rng(seed)
    named = dict.fromkeys(("best", "last"), 0)
    lost = dict.fromkeys(named, 0.0)
    for _ in range(num_draws):
        truths, means = curves.draw(rng)
        for at, values in means.items():
            chosen = truths[values.argmax()]
            named[at] += chosen == truths.max()
            lost[at] += truths.max() - chosen
    return {at: Share(named[at] / num_draws, lost[at] / num_draws) for at in named}


if __name__ == "__main__":
    for name, sweep in SWEEPS.items():
        found = simulate(sweep, 10_000)
        print(f"{name:30}", *(f"{at}: {s.named:6.1%} named, {100 * s.lost:.3f} points lost" for at, s in found.items()))
