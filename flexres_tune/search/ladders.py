"""Rungs: at which epochs configurations are compared, and how many of them continue."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from flexres_tune.spec import PlannedTrial

# Computed rungs: (share of a trial's epochs, share of the group that continues; the last rung keeps what is asked for).
# `bench search` compares other places; earlier ones lose a configuration that learns slowly and ends best.
COMPUTED_RUNGS = ((0.22, 2 / 3), (0.40, 1 / 3), (0.50, 0.0))
# No computed rung is before this epoch, or before the last but two of a short trial: after one or two epochs of recorded
# curves, accuracies say little.
EARLIEST_RUNG = 3
# Of many configurations a third is left out early: the same answer for 16 to 20 % fewer epochs (81 and 200).
LARGE_GROUP = 40
COMPUTED_RUNGS_OF_LARGE_GROUPS = ((0.11, 2 / 3), (0.22, 4 / 9), (0.40, 2 / 9), (0.50, 0.0))


@dataclass(frozen=True)
class Candidate:
    """A configuration with its trials, one per seed; `group` is what it competes in, such as a level of `compare`."""

    config_id: str
    trials: tuple[PlannedTrial, ...]
    group: Hashable = None


@dataclass(frozen=True)
class Rung:
    """After `epochs` epochs, the best `keep` configurations of the group continue.

    Only the first `num_seeds` seeds of a configuration train up to this rung, and it is judged by their mean; None:
    all of them.
    """

    epochs: int
    keep: int
    num_seeds: int | None = None


def make_rungs(num_candidates: int, num_kept: int, epochs: int) -> tuple[Rung, ...]:
    """Rungs that reduce a group of `num_candidates` configurations to `num_kept`, for trials of `epochs` epochs."""
    rungs: list[Rung] = []
    num_left, earliest = num_candidates, max(1, min(EARLIEST_RUNG, epochs - 2))
    for place, share in COMPUTED_RUNGS_OF_LARGE_GROUPS if num_candidates > LARGE_GROUP else COMPUTED_RUNGS:
        at, keep = max(earliest, round(place * epochs)), max(num_kept, math.ceil(num_candidates * share - 1e-9))
        if rungs and rungs[-1].epochs == at:
            num_left = num_candidates if len(rungs) == 1 else rungs[-2].keep
            rungs.pop()
        if keep < num_left and at < epochs:
            rungs.append(Rung(at, keep))
            num_left = keep
    return tuple(rungs)


def make_asha_rungs(
    num_candidates: int, grace_period: int, reduction_factor: float, epochs: int, least: int = 1
) -> tuple[Rung, ...]:
    """Rungs at grace_period * eta^k, each of which keeps one of eta configurations, but at least `least`."""
    rungs, place, keep = [], float(grace_period), num_candidates
    while round(place) < epochs:
        keep = max(least, math.floor(keep / reduction_factor))
        rungs.append(Rung(round(place), keep))
        place *= reduction_factor
    return tuple(rungs)


def make_brackets(
    candidates: Iterable[Candidate], grace_period: int, reduction_factor: float, epochs: int, num_brackets: int
) -> tuple[list[Candidate], dict[Hashable, tuple[Rung, ...]]]:
    """Hyperband (Li et al. 2018): bracket s is ASHA with grace period r * eta^s, with Hyperband's share of each group.

    Returns:
        The candidates with the groups (group, bracket), and the rungs of each of these groups. A configuration's
        bracket is drawn by a hash of its id, so that it stays the same if the sweep grows.
    """
    graces = [round(grace_period * reduction_factor**s) for s in range(num_brackets)]
    graces = [grace for grace in graces if grace < epochs] or [grace_period]
    last = len(graces) - 1
    # n_s of Hyperband: eta^(S-s) (S+1) / (S-s+1) configurations give every bracket the same number of epochs
    shares = [reduction_factor ** (last - s) * (last + 1) / (last - s + 1) for s in range(last + 1)]
    placed, sizes = [], {}
    for each in candidates:
        point = int.from_bytes(hashlib.sha256(each.config_id.encode()).digest()[:8], "big") / 2**64 * sum(shares)
        bracket = 0
        while bracket < last and point >= shares[bracket]:
            point -= shares[bracket]
            bracket += 1
        group = (each.group, bracket)
        placed.append(Candidate(each.config_id, each.trials, group))
        sizes[group] = sizes.get(group, 0) + 1
    rungs = {group: make_asha_rungs(n, graces[group[1]], reduction_factor, epochs) for group, n in sizes.items()}
    return placed, rungs
