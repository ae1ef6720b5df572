"""Which cluster a command joins: the one named, else the one that runs on this machine, else none. Imports no ray."""

from __future__ import annotations

import os
import socket
from pathlib import Path

CONNECT_TIMEOUT_S = 3.0


def find_address(address: str | None, local: bool) -> str | None:
    """Address of the cluster to join: the one given, $RAY_ADDRESS, one that `ray start` has started or joined on this
    machine, or None for a Ray of our own. `local` stays out of all of them.
    """
    if local:
        return None
    return address or os.environ.get("RAY_ADDRESS") or _running_here()


def nobody_at(address: str) -> str | None:
    """Why nobody can be reached at host:port; None where somebody can, or where the address is of another form.

    Ray would try for minutes.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "://" in address:
        return None
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return str(error.strerror or error)
    return None


def _running_here() -> str | None:
    """What `ray start` left in ray_current_cluster, if somebody still answers there: the file outlives its cluster."""
    folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray"
    try:
        address = (folder / "ray_current_cluster").read_text().strip()
    except OSError:
        return None
    return address if address and nobody_at(address) is None else None
