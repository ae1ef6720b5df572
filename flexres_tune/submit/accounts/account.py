"""The things that a cluster needs in an account once: shown with their costs, then created or removed.

Each cloud lists its items (aws.py, gcp.py). An item knows whether it is there as it should be, so that
`submit --prepare` may be repeated, and repairs what has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flexres_tune.errors import FlexResError
from flexres_tune.text import plural


class CloudError(FlexResError):
    """An account that cannot be used: no credentials, a missing permission, a name that another account has."""


@dataclass(frozen=True)
class Item:
    """One thing in the account. `remove` may be called although it is missing."""

    name: str
    cost: str
    is_ready: Callable[[], bool]
    create: Callable[[], None]
    remove: Callable[[], None]


@dataclass(frozen=True)
class Account:
    """An account, and what a cluster needs in it."""

    name: str  # for people: "AWS account 123456789012"
    items: Sequence[Item]
    results: str  # address of the results, which --destroy leaves
    how_to_delete: str  # the command that deletes the results
    running_costs: str  # what `ray up` costs afterwards
    settle_s: float = 0.0  # until everything created is known everywhere in the cloud


def prepare(
    account: Account,
    show: Callable[[str], None],
    confirm: Callable[[str], bool],
    pause: Callable[[float], None] = time.sleep,
) -> bool:
    """Create what is missing, after a question; returns whether everything is there then."""
    missing = [item for item in account.items if not item.is_ready()]
    if not missing:
        show(f"{account.name}: everything is there already; nothing to do")
        return True
    show(f"{account.name}: will create or repair")
    for item in missing:
        show(f"  {item.name} ({item.cost})")
    show(f"results will be in {account.results}")
    show(account.running_costs)
    if not confirm(f"create {plural(len(missing), 'item')}?"):
        show("nothing was created")
        return False
    for item in missing:
        item.create()
        show(f"created: {item.name}")
    pause(account.settle_s)
    return True


def destroy(account: Account, show: Callable[[str], None], confirm: Callable[[str], bool]) -> bool:
    """Remove what `prepare` has created, except the results; returns whether it did."""
    show(f"{account.name}: will remove")
    for item in account.items:
        show(f"  {item.name}")
    show(f"the results stay in {account.results}; to delete them, too: {account.how_to_delete}")
    if not confirm(f"remove {plural(len(account.items), 'item')}?"):
        show("nothing was removed")
        return False
    for item in reversed(account.items):
        item.remove()
        show(f"removed: {item.name}")
    return True
