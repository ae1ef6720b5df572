"""Which configurations of a sweep compete at which rungs: its `early_terminate` and `compare`, as a RungPlan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flexres_tune.search.base import History
from flexres_tune.search.ladders import Candidate, Rung, make_asha_rungs, make_brackets, make_rungs
from flexres_tune.search.rungs import RungSearch
from flexres_tune.spec import PlannedTrial, SweepSpec
from flexres_tune.spec.levels import epochs_of, level_of, list_parts, share_draws


@dataclass(frozen=True)
class Group:
    """Configurations that compete: of one level of `compare`, with one number of epochs, in one bracket of Hyperband."""

    level: str
    epochs: int
    bracket: int | None = None


@dataclass(frozen=True)
class RungPlan:
    """What a RungSearch needs."""

    candidates: tuple[Candidate, ...]
    rungs: Mapping[Group, tuple[Rung, ...]]
    eager: bool  # see RungSearch
    ladders: Mapping[Group, str]
    sizes: Mapping[Group, int]  # number of configurations of each group, drawn or not


def plan_rungs(spec: SweepSpec, trials: Sequence[PlannedTrial]) -> RungPlan:
    """The candidates and rungs of a sweep that pauses configurations.

    With `confirm`, computed rungs reduce each group to `confirm.top` configurations; without it, to one of
    `reduction_factor`. Those that are left after the last rung run to the end.
    """
    early = spec.early_terminate
    if spec.method == "tpe":
        return _plan_drawn(spec)
    candidates = _candidates(spec, trials)
    groups: dict[Group, list[Candidate]] = {}
    for each in candidates:
        groups.setdefault(each.group, []).append(each)
    rungs: dict[Group, tuple[Rung, ...]] = {}
    if early.num_brackets is not None:
        candidates = []
        for group, members in groups.items():
            settings = (early.grace_period, early.reduction_factor, group.epochs, early.num_brackets)
            placed, ladders = make_brackets(members, *settings)
            names = {key: Group(group.level, group.epochs, key[1]) for key in ladders}
            candidates += [Candidate(each.config_id, each.trials, names[each.group]) for each in placed]
            rungs |= {names[key]: ladder for key, ladder in ladders.items()}
        order = {trial.config.config_id: position for position, trial in reversed([*enumerate(trials)])}
        candidates.sort(key=lambda each: order[each.config_id])
    else:
        rungs = {group: _rungs(spec, group, len(members)) for group, members in groups.items()}
    return RungPlan(
        candidates=tuple(candidates),
        rungs=rungs,
        eager=early.type != "halving",
        ladders={group: _ladder(spec, group) for group in rungs},
        sizes=Counter(each.group for each in candidates),
    )


def _plan_drawn(spec: SweepSpec) -> RungPlan:
    """The plan of a search that draws: a group for each level, whose configurations have one number of epochs."""
    epochs = {part.level: max(epochs_of(spec, part)) for part in list_parts(spec)}
    sizes = {Group(level, epochs[level]): number for level, number in share_draws(spec).items() if level in epochs}
    return RungPlan(
        candidates=(),
        rungs={group: _rungs(spec, group, number) for group, number in sizes.items()},
        eager=spec.early_terminate.type != "halving",
        ladders={group: _ladder(spec, group) for group in sizes},
        sizes=sizes,
    )


def make_rung_search(spec: SweepSpec, trials: Sequence[PlannedTrial], history: History) -> RungSearch:
    """The search that screens a sweep which pauses configurations."""
    plan = plan_rungs(spec, trials)
    ends = {group: group.epochs for group in plan.rungs}
    return RungSearch(plan.candidates, plan.rungs, ends, plan.eager, history, plan.ladders)


def _candidates(spec: SweepSpec, trials: Sequence[PlannedTrial]) -> list[Candidate]:
    """One per configuration, in the order of their first trials; its seeds are in the order of the sweep file."""
    by_config: dict[str, list[PlannedTrial]] = {}
    for trial in trials:
        by_config.setdefault(trial.config.config_id, []).append(trial)
    place = {seed: position for position, seed in enumerate(spec.seeds)}
    return [
        Candidate(
            config_id,
            tuple(sorted(members, key=lambda trial: place.get(trial.config.seed, len(place)))),
            Group(level_of(spec, members[0].varied), members[0].config.epochs),
        )
        for config_id, members in by_config.items()
    ]


def _rungs(spec: SweepSpec, group: Group, num_candidates: int) -> tuple[Rung, ...]:
    """The rungs of a group of `num_candidates` configurations, without brackets."""
    early = spec.early_terminate
    if early.rungs is not None:
        return tuple(Rung(rung.epochs, rung.keep) for rung in early.rungs if rung.epochs < group.epochs)
    least = spec.confirm.top if spec.confirm else 1
    if early.grace_period == "auto":
        num_kept = least if spec.confirm else max(1, round(num_candidates / early.reduction_factor))
        return make_rungs(num_candidates, num_kept, group.epochs)
    if num_candidates <= least:
        return ()
    return make_asha_rungs(num_candidates, early.grace_period, early.reduction_factor, group.epochs, least)


def _ladder(spec: SweepSpec, group: Group) -> str:
    """Name of the group's ladder in `decisions`."""
    early = spec.early_terminate
    parts = [early.type if early.type == "halving" else f"{early.type} {early.variant}", f"{group.epochs} epochs"]
    if group.bracket is not None:
        parts.append(f"bracket {group.bracket}")
    if spec.metric.name != "val_accuracy":
        parts.append(spec.metric.name)
    if group.level:
        parts.append(group.level)
    return ", ".join(parts)
