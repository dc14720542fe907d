"""What proxies report of tunnels, summed up for each root, and written only when it is news."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from runtime.api.tunnel_messages import ProxyTunnels, TunnelEntry
from runtime.auth.trusted_tunnels import is_news, summed_up
from runtime.core.resources import encode
from runtime.core.tunnel_status import TunnelStatus

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)


def reported(*entries: TunnelEntry) -> ProxyTunnels:
    """Return a proxy's report."""
    return ProxyTunnels(proxy_id=uuid.uuid4(), tunnels=entries)


def entry(*, online: bool, cluster: str = "main", side: str = "leaf", **more: object) -> TunnelEntry:
    """Return one tunnel."""
    return TunnelEntry.model_validate({"cluster": cluster, "side": side, "online": online, **more})


def test_one_that_is_up_is_enough() -> None:
    """Of several proxies and tunnels; the heartbeat is the newest of them."""
    found = summed_up(
        "main",
        [
            reported(entry(online=True, last_heartbeat=NOW), entry(online=False, error="refused")),
            reported(entry(online=True, last_heartbeat=NOW + timedelta(seconds=9))),
        ],
    )
    assert found.connected
    assert found.message == "2 tunnels to proxies of main"
    assert found.last_heartbeat == NOW + timedelta(seconds=9)


def test_others_do_not_count() -> None:
    """Neither tunnels to another root, nor those in which we are the root."""
    others = [reported(entry(online=True, cluster="other"), entry(online=True, side="root"))]
    found = summed_up("main", others)
    assert not found.connected
    assert found.message == "no proxy of this cluster has told of a tunnel yet"


def test_why_there_is_none() -> None:
    """Each reason once, in the proxies' words."""
    found = summed_up(
        "main",
        [
            reported(entry(online=False, error="p:3024 refused the connection")),
            reported(entry(online=False, error="p:3024 refused the connection")),
            reported(entry(online=False, error="it is no proxy")),
        ],
    )
    assert found.message == "p:3024 refused the connection; it is no proxy"


def told(*, connected: bool = True, message: str = "m", after: float | None = 0) -> TunnelStatus:
    """Return a status whose heartbeat is some seconds after NOW."""
    heard = None if after is None else NOW + timedelta(seconds=after)
    return TunnelStatus(connected=connected, message=message, last_heartbeat=heard)


@pytest.mark.parametrize(
    ("before", "now", "news"),
    [
        (None, told(), True),
        (b"nonsense", told(), True),
        (encode(told()), told(), False),
        (encode(told()), told(after=59), False),
        (encode(told()), told(after=60), True),
        (encode(told()), told(connected=False), True),
        (encode(told()), told(message="n"), True),
        (encode(told(after=None)), told(), True),
        (encode(told(after=None)), told(after=None), False),
    ],
)
def test_what_is_news(before: bytes | None, now: TunnelStatus, news: bool) -> None:
    """A heartbeat alone is told once a minute."""
    assert is_news(before, now) is news
