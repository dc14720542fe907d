"""The limits that every SSH port keeps, as one frozen value. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True, slots=True)
class PenaltyLimits:
    """How long a source address is refused after what it did, in seconds (sshd_config, PerSourcePenalties).

    One penalty for each connection that ends without a login. They add up; they bite once they reach `threshold` and
    never exceed `longest`.
    """

    authentication_failed: float = 5
    no_attempt: float = 1
    grace_exceeded: float = 10
    protocol_error: float = 90
    """sshd's `crash`: what the peer sent ended the connection."""
    threshold: float = 15
    longest: float = 600
    sources: int = 65_536
    """Addresses remembered (`max-sources4`); the oldest is forgotten first."""


@dataclass(frozen=True, slots=True)
class StartupLimits:
    """How many connections may be between accept and login, and how many may wait for that (docs/adr/0007).

    The names are those of sshd's MaxStartups `start:rate:full`; there is no `rate`, since nobody is refused at random.
    """

    start: int = 30
    """How many log in at once; sshd's 10 are processes, ours cost some 100 KiB each. Who comes then waits in line."""
    full: int = 500
    """How many may log in and wait together. Beyond, the source with most in line makes room, or the newcomer goes."""
    patience: float = 5
    """Seconds that a login may take while others wait in line; then it is ended for one of them."""
    per_source: int | None = None
    """PerSourceMaxStartups, those in line included: none, as in sshd. One address may be a whole office."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may ask of an SSH port or client. Times are seconds, sizes bytes.

    The manual's names (section "Configuration", connection_limits) are `max_connections` and `max_users`; the rest
    are OpenSSH's, with its defaults, unless the line says otherwise.
    """

    max_connections: int = 1000
    """Manual. Open connections of one listener, logged in or not."""
    max_users: int = 250
    """Manual. Distinct users logged in at one listener at the same time."""
    startups: StartupLimits = StartupLimits()
    penalties: PenaltyLimits = PenaltyLimits()
    penalty_exempt: tuple[IPv4Network | IPv6Network, ...] = ()
    """PerSourcePenaltyExemptList: a node exempts its proxies, behind which every user has the same address."""
    login_grace: float = 30
    """LoginGraceTime is 120 in sshd; certificates need no typing."""
    tries: int = 6
    """MaxAuthTries."""
    sessions: int = 10
    """MaxSessions: sessions open at once on one connection."""
    channels: int = 256
    """All channels open at once on one connection, forwarded ports included. Ours; sshd has no limit."""
    listeners: int = 64
    """Forwarded ports, sockets and agents listened on at once for one connection. Ours; sshd has no limit."""
    requests: int = 256
    """Global requests that may wait for one before them to be answered. Ours."""
    packet: int = 256 * 1024
    """PACKET_MAX_SIZE in packet.c."""
    smallest_packet: int = 1024
    """The least a peer may declare as a channel's maximum packet size. Ours; RFC 4254 §5.1 names none."""
    window: int = 2 * 1024 * 1024
    """CHAN_SES_WINDOW_DEFAULT: what we let a peer send ahead on one channel."""
    write_pause: int = 256 * 1024
    """Channels stop sending while the socket has not taken this much; twice that is the most that waits. Ours."""
    write_drop: int = 2 * 1024 * 1024
    """A peer that asks on and leaves this much of our answers unread is dropped. Ours."""
    deferred_packets: int = 4096
    """Packets that may wait for a key exchange to end. Ours."""
    rekey_bytes: int = 1024**3
    rekey_seconds: float = 3600
    """RekeyLimit `1G 1h`."""
    rekey_timeout: float = 60
    """A key exchange after login that takes longer ends the connection. Ours."""
    keepalive_interval: float = 15
    keepalive_count: int = 3
    """ClientAliveInterval is 0, off, in sshd; a dead peer is gone after four intervals."""
