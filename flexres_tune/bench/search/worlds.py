"""Worlds of bench search: learning curves whose truth is known, drawn by chance or recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from flexres_tune.errors import FlexResError

NUM_FRESH = 15  # fresh seeds that a configuration can be confirmed on


@dataclass(frozen=True)
class Draw:
    """One sweep's truth and the curves that its trials would have.

    curves: (configurations, seeds, epochs), accuracy as a fraction; NaN from the epoch at which a trial diverges. Seed
    0 is that of the screening, the others are fresh.
    """

    finals: np.ndarray  # (configurations,) by which they are ranked; -inf for a configuration that diverges
    curves: np.ndarray
    expected_score: Callable[[int], float]  # of a full run of a configuration, the best of its epochs
    optima: np.ndarray | None = None  # best final of each level that could be thought of; None: of those listed
    add_config: Callable[[Mapping[str, float], int], int] | None = None  # by a search, of a level; its index


@dataclass(frozen=True)
class World:
    """How curves are drawn: accuracy(e) = 0.1 + (final + luck - 0.1) (1 - exp(-(e - delay) / pace)) + noise.

    Accuracies are fractions, and "points" hundredths of them.
    """

    num_configs: int = 27  # of each level
    num_levels: int = 1
    epochs: int = 27
    slots: int = 4
    spread: float = 0.01  # standard deviation of the configurations' finals, within a level
    level_spread: float = 0.004
    seed_sd: float = 0.005  # of a trial's luck; an epoch's noise has half of it
    crossing: float = 0.0  # paces differ by up to this share, so slow curves overtake fast ones late
    shrinking: bool = False  # luck and noise in proportion to the error that remains
    plateaus: float = 0.0  # share of configurations that learn nothing for up to a sixth of the epochs
    diverging: float = 0.0  # share of configurations that diverge
    neighbours: float = 0.0  # distance over which the finals of configurations in a row are correlated

    num_fresh = NUM_FRESH

    @property
    def num_listed(self) -> int:
        """Configurations of the grid."""
        return len(self.levels)

    @cached_property
    def levels(self) -> np.ndarray:
        """Level of each configuration, (configurations,)."""
        return np.repeat(np.arange(self.num_levels), self.num_configs)

    def draw(self, rng: np.random.Generator) -> Draw:
        """One sweep."""
        offsets = self.level_spread * rng.standard_normal(self.num_levels) if self.num_levels > 1 else np.zeros(1)
        return self._draw_curves(0.9 + offsets[self.levels] + self.spread * self._standard(len(self.levels), rng), rng)

    def _draw_curves(self, finals: np.ndarray, rng: np.random.Generator) -> Draw:
        n, at = len(finals), np.arange(1, self.epochs + 1)
        pace = 0.1 * self.epochs * (1 + self.crossing * rng.uniform(-1, 1, n))
        delay = np.where(rng.random(n) < self.plateaus, rng.uniform(0, self.epochs / 6, n), 0.0)
        sd = self.seed_sd * ((1 - finals) / 0.1 if self.shrinking else np.ones(n))
        luck = sd[:, None] * rng.standard_normal((n, 1 + NUM_FRESH))
        rise = 1 - np.exp(-np.maximum(0, at - delay[:, None]) / pace[:, None])  # (n, epochs)
        curves = 0.1 + (finals[:, None] - 0.1 + luck)[..., None] * rise[:, None]
        curves += sd[:, None, None] / 2 * rng.standard_normal(curves.shape)
        for index in np.flatnonzero(rng.random(n) < self.diverging):
            curves[index, :, rng.integers(0, self.epochs) :] = np.nan
            finals[index] = -np.inf

        @cache
        def expected_score(index: int) -> float:
            normal = sd[index] * _normal(1 + self.epochs)
            runs = 0.1 + (finals[index] - 0.1 + normal[:, :1]) * rise[index] + normal[:, 1:] / 2
            return float(runs.max(axis=1).mean())

        return Draw(finals, curves, expected_score)

    def _standard(self, n: int, rng: np.random.Generator) -> np.ndarray:
        if not self.neighbours:
            return rng.standard_normal(n)
        distance = np.subtract.outer(np.arange(n), np.arange(n)) / self.neighbours
        return np.linalg.cholesky(np.exp(-(distance**2)) + 1e-6 * np.eye(n)) @ rng.standard_normal(n)


@dataclass(frozen=True)
class SurfaceWorld(World):
    """Configurations whose finals are a function of two parameters, so that a search can learn where to look.

    final = 0.9 + offset - bend ((log10 lr - a)^2 / 2 + 10 (mixup_alpha - b)^2), with a and b drawn for each sweep: a
    standard deviation of about 1 point over lr from 0.001 to 1 and mixup_alpha from 0 to 0.5. Each level has an offset
    and an a of its own: `lr_spread` is by how many powers of ten the best learning rates of the levels differ. The listed
    configurations are drawn at random; as many others have room that a search thinks of.
    """

    bend: float = 0.017
    lr_spread: float = 0.5  # standard deviation

    @property
    def num_listed(self) -> int:
        return self.num_levels * self.num_configs

    @cached_property
    def levels(self) -> np.ndarray:
        return np.tile(np.repeat(np.arange(self.num_levels), self.num_configs), 2)

    def draw(self, rng: np.random.Generator) -> Draw:
        """One sweep. The others have the luck and noise of their place, and no curve before they are added."""
        best_lr, best_mixup = rng.uniform(-2.5, -0.5), rng.uniform(0, 0.5)
        best_lrs, offsets = np.full(self.num_levels, best_lr), np.zeros(self.num_levels)
        if self.num_levels > 1:
            best_lrs = np.clip(best_lr + self.lr_spread * rng.standard_normal(self.num_levels), -3, 0)
            offsets = self.level_spread * rng.standard_normal(self.num_levels)

        def final(log_lr: float, mixup_alpha: float, level: int) -> float:
            bend = (log_lr - best_lrs[level]) ** 2 / 2 + 10 * (mixup_alpha - best_mixup) ** 2
            return 0.9 + offsets[level] - self.bend * bend

        n = len(self.levels)
        finals = np.full(n, 0.9)
        places = rng.uniform([-3, 0], [0, 0.5], (self.num_listed, 2))
        finals[: self.num_listed] = [final(*at, level) for at, level in zip(places, self.levels, strict=False)]
        draw = self._draw_curves(finals, rng)
        rise = 1 - np.exp(-np.arange(1, self.epochs + 1) / (0.1 * self.epochs))
        finals[self.num_listed :] = -np.inf
        added = [iter(np.flatnonzero(self.levels == level)[self.num_configs :]) for level in range(self.num_levels)]

        def add_config(values: Mapping[str, float], level: int = 0) -> int:
            index = int(next(added[level]))
            finals[index] = final(np.log10(values["lr"]), values["mixup_alpha"], level)
            draw.curves[index] += (finals[index] - 0.9) * rise
            return index

        return replace(draw, optima=0.9 + offsets, add_config=add_config)


@cache
def _normal(n: int) -> np.ndarray:
    """Normal numbers in antithetic pairs, so that each column's mean is 0; (500, n)."""
    half = np.random.default_rng(0).standard_normal((250, n))
    return np.concatenate([half, -half])


@dataclass(frozen=True)
class RecordedWorld:
    """Curves that real trials had. Each draw shuffles the seeds of every configuration, so that each one may screen.

    The truth is the mean over all seeds. With S seeds, S - 1 are fresh; if a policy wants more, there are none.
    """

    curves: np.ndarray  # (configurations, seeds, epochs)
    levels: np.ndarray  # (configurations,) what is compared, numbered from 0; zeros: the single best is asked for
    slots: int = 4

    @property
    def num_listed(self) -> int:
        return len(self.levels)

    @property
    def num_levels(self) -> int:
        return int(self.levels.max()) + 1

    @property
    def num_fresh(self) -> int:
        return self.curves.shape[1] - 1

    @property
    def epochs(self) -> int:
        return self.curves.shape[2]

    def draw(self, rng: np.random.Generator) -> Draw:
        """One sweep."""
        curves = rng.permuted(np.broadcast_to(np.arange(self.curves.shape[1]), self.curves.shape[:2]), axis=1)
        shuffled = np.take_along_axis(self.curves, curves[..., None], axis=1)
        has_diverged = np.isnan(self.curves[:, :, -1]).any(axis=1)
        means = np.nanmax(self.curves, axis=2).mean(axis=1)
        return Draw(np.where(has_diverged, -np.inf, means), shuffled, lambda index: float(means[index]))

    @classmethod
    def load(cls, file: Path, level: str | None = None) -> RecordedWorld:
        """Read a Parquet table with a row per epoch: config_id, seed, epoch, val_accuracy, and the field `level`.

        level: name of the column whose values are compared; None: the question is the single best configuration. Seeds
        that not every configuration has are left out.

        Raises:
            FlexResError: it is not such a table, or has fewer than two configurations or three seeds.
        """
        import pyarrow.parquet as pq

        names = ["config_id", "seed", "epoch", "val_accuracy", *([level] if level else [])]
        try:
            rows = pq.read_table(file, columns=names).to_pylist()
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise FlexResError(f"--curves: {file} must be a Parquet table of {', '.join(names)}: {reason}") from None
        curves: dict[tuple[str, int], dict[int, float]] = {}
        for row in rows:
            curves.setdefault((row["config_id"], row["seed"]), {})[row["epoch"]] = row["val_accuracy"]
        configs = sorted({config for config, _ in curves})
        seeds = [seed for seed in sorted({seed for _, seed in curves}) if all((c, seed) in curves for c in configs)]
        if len(configs) < 2 or len(seeds) < 3:
            counts = f"{len(configs)} and {len(seeds)}"
            raise FlexResError(
                f"--curves: {file} must have 2 configurations or more with the same 3 seeds, but has {counts}"
            )
        at = range(1, 1 + max(row["epoch"] for row in rows))
        values = np.array([[[curves[c, seed].get(e, np.nan) for e in at] for seed in seeds] for c in configs])
        level_of = {row["config_id"]: str(row[level]) if level else "" for row in rows}
        return cls(values, np.unique([level_of[config] for config in configs], return_inverse=True)[1])


_LEVELS = {"num_levels": 6, "num_configs": 5}

WORLDS: Mapping[str, World] = MappingProxyType(
    {
        "reference": World(),
        "crossing": World(crossing=0.1),
        "shrinking noise": World(shrinking=True, spread=0.03),
        "plateaus": World(plateaus=0.3),
        "diverging": World(diverging=0.3),
        "neighbours": World(neighbours=3.0),
        "equal": World(spread=0.0),
        "8 configurations": World(num_configs=8),
        "81 configurations": World(num_configs=81),
        "200 configurations": World(num_configs=200),
        "2 slots": World(slots=2),
        "64 slots": World(num_configs=200, slots=64),
        "surface": SurfaceWorld(),
        "6 surfaces": SurfaceWorld(num_levels=6, num_configs=10),
        "6 levels x 5": World(**_LEVELS),
        "6 levels x 5, crossing": World(**_LEVELS, crossing=0.1),
        "6 levels x 5, equal": World(**_LEVELS, spread=0.0, level_spread=0.0),
        "6 levels x 3": World(num_levels=6, num_configs=3, epochs=10),
    }
)
