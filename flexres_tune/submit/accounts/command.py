"""`submit --prepare CLUSTER` and `submit --destroy CLUSTER`: which account, which question, which advice afterwards."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from flexres_tune.submit.accounts.account import Account, CloudError, destroy, prepare
from flexres_tune.submit.cluster_file import read_cluster_file, read_provider


def prepare_account(path: Path, show: Callable[[str], None], yes: bool) -> bool:
    """Create what the cluster needs in its account; returns whether everything is there then."""
    account = _find_account(path, show)
    is_ready = prepare(account, show, _confirm(yes))
    if is_ready:
        show(f"next: ray up -y {shlex.quote(str(path))}")
    return is_ready


def destroy_account(path: Path, show: Callable[[str], None], yes: bool) -> bool:
    """Remove what `prepare_account` created, except the results; returns whether it did. The cluster must be down."""
    show(f"the cluster must be down: ray down -y {shlex.quote(str(path))}")
    return destroy(_find_account(path, show), show, _confirm(yes))


def _find_account(path: Path, show: Callable[[str], None]) -> Account:
    match read_provider(path):
        case "aws":
            from flexres_tune.submit.accounts.aws import find_account

            return find_account(read_cluster_file(path))
        case "gcp":
            return _find_google_project(path, show)
        case other:
            raise CloudError(
                f"{path}: --prepare and --destroy need provider.type aws or gcp, but it is {other}; such a cluster "
                "needs nothing in an account"
            )


def _find_google_project(path: Path, show: Callable[[str], None]) -> Account:
    from flexres_tune.submit.accounts import gcp

    credentials, project = gcp.find_credentials()
    if gcp.fill_project(path, project):
        show(f"{path}: the project is {project} now, which the credentials name")

    def api(name: str, version: str) -> object:
        from googleapiclient import discovery

        return discovery.build(name, version, credentials=credentials, cache_discovery=False)

    return gcp.find_account(read_cluster_file(path), api)


def _confirm(yes: bool) -> Callable[[str], bool]:
    """Asks on the terminal; without one, the answer must have been given by --yes."""

    def ask(question: str) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            raise CloudError(f"{question} there is no terminal to ask on; answer with --yes")
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")

    return ask
