"""tctl tunnels: the tunnels between this cluster and others (manual, "Trusted Clusters")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runtime.cli.tables import table
from runtime.cli.tctl.connection import ask, connecting
from runtime.cli.tctl.output import format_option, show

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from runtime.api.tunnel_messages import TunnelEntry


@connecting
@click.group()
def tunnels() -> None:
    """Show the reverse tunnels between this cluster and others."""


@connecting
@tunnels.command()
@format_option
def ls(shape: str) -> None:
    """List the tunnels of all proxies, and why one is not there.

    The other cluster is our root where we dial its proxy, and our leaf where its proxies dial ours.

    Example: tctl tunnels ls --format=json
    """
    from runtime.api import methods
    from runtime.api.messages import Nothing

    told = ask(methods.TUNNELS_LIST, Nothing())
    found = [(proxy.proxy_id, entry) for proxy in told.proxies for entry in proxy.tunnels]
    found.sort(key=lambda each: (each[1].cluster, str(each[0]), each[1].addr))
    show(shape, lambda: _text(found), lambda: [_plain(proxy, entry) for proxy, entry in found])


def _text(found: list[tuple[UUID, TunnelEntry]]) -> str:
    if not found:
        return "There are no tunnels: no trusted cluster has one to this one, or the other way round."
    rows = [
        (
            entry.cluster,
            _other(entry),
            _status(entry),
            str(proxy),
            entry.addr,
            _time(entry.since),
            _time(entry.last_heartbeat),
            entry.error,
        )
        for proxy, entry in found
    ]
    return table(("Cluster", "Is our", "Status", "Proxy", "Address", "Since", "Last heard", "Error"), rows)


def _plain(proxy: UUID, entry: TunnelEntry) -> dict[str, object]:
    told = entry.model_dump(mode="json", include={"cluster", "peer", "addr", "since", "last_heartbeat", "error"})
    return {"proxy_id": str(proxy), "other": _other(entry), "status": _status(entry), **told}


def _other(entry: TunnelEntry) -> str:
    """Return what the other cluster is to ours."""
    return "leaf" if entry.side == "root" else "root"


def _status(entry: TunnelEntry) -> str:
    return "online" if entry.online else "offline"


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time is not None else ""
