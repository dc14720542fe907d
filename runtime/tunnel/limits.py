"""The limits of a tunnel, one place for both ends: what one end keeps, the other can rely on."""

from __future__ import annotations

from runtime.transport.limits import Limits, PenaltyLimits, StartupLimits

KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 10.0, 3
"""An end that was silent for so long is asked; one that has not answered so often is dead: after 40 seconds at most."""
MAX_CHANNELS = 1024
"""Sessions and lists at once on one tunnel."""
MAX_TUNNELS_PER_CLUSTER = 32
"""At one proxy of the root. A leaf has some proxies, each with one tunnel, and for a moment two."""

TRANSPORT_LIMITS = Limits(
    sessions=MAX_CHANNELS,
    channels=MAX_CHANNELS + 16,
    keepalive_interval=KEEPALIVE_SECONDS,
    keepalive_count=KEEPALIVE_COUNT,
)
"""Of either end's SSH."""

PENALTIES = PenaltyLimits(
    authentication_failed=1, no_attempt=0, grace_exceeded=0, protocol_error=2, threshold=10, longest=10
)
"""Mild: a leaf that is not trusted yet comes every few seconds, and is to be let in soon after it is. None for being
slow: after a restart all leaves come at once, maybe from one address, and the line holds them (`STARTUPS`)."""

STARTUPS = StartupLimits(full=4096, patience=30)
"""Of a root's port. Who waits in line costs a socket, and nobody is hurried for those behind: they are leaves, too."""
