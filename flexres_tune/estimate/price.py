"""Price: what the machines of a sweep cost, from its estimated time and a price per hour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flexres_tune.estimate.estimate import Estimate
from flexres_tune.text import plural


@dataclass(frozen=True)
class Price:
    """Prices per hour, and the number of workers; a worker has one device."""

    worker_usd_per_hour: float
    head_usd_per_hour: float = 0.0
    num_workers: int = 1


@dataclass(frozen=True)
class DryRun:
    """What `--dry-run` does besides listing the trials."""

    measure: bool = False  # measure on this machine how long an epoch takes
    price: Price | None = None  # say what the sweep costs


def num_slots_of(price: Price, gpu: float | str) -> int:
    """How many trials that hold this part of a GPU run on the workers at once.

    One per worker if they need no GPU, or if `auto` will be decided on the workers.
    """
    return price.num_workers * max(1, int(1 / gpu + 1e-9) if isinstance(gpu, (int, float)) and gpu else 1)


def describe_cost(found: Estimate, price: Price) -> str:
    """A line of the dry run: workers x hours x price, without the cost of storage and of idle workers."""
    workers, usd = plural(price.num_workers, "worker"), price.worker_usd_per_hour
    rate = price.num_workers * usd + price.head_usd_per_hour
    if found.wall_seconds is None:
        head = f" + a head at {price.head_usd_per_hour:.2f} USD" if price.head_usd_per_hour else ""
        return f"cost: {workers} x {usd:.2f} USD{head} = {rate:.2f} USD per hour; how many hours is not known"
    hours = [seconds / 3600 for seconds in found.wall_seconds]
    span = _show(hours, lambda value: f"{value:.2g}" if value < 10 else f"{value:,.0f}")
    head = f" + {span} h x {price.head_usd_per_hour:.2f} USD for the head" if price.head_usd_per_hour else ""
    total = _show([value * rate for value in hours], lambda value: f"{value:,.2f}")
    return f"cost: {workers} x {span} h x {usd:.2f} USD{head} = {total} USD, if all workers run all the time"


def _show(values: list[float], show: Callable[[float], str]) -> str:
    low, high = map(show, values)
    return low if low == high else f"{low} to {high}"
