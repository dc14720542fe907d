"""Who somebody is, once `runtime.pki.verify` has proved it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from runtime.pki.claims import MemberRole, Network
from runtime.pki.keys import PublicKey
from runtime.pki.trust import AuthorityKey


@dataclass(frozen=True, slots=True)
class Proof:
    """What the identity rests on. Both times are aware and in UTC; `authority` is the key that signed."""

    key: PublicKey
    serial: int
    valid_after: datetime
    valid_before: datetime
    authority: AuthorityKey


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """A person, and what the certificate lets this person do at most."""

    user: str
    cluster: str
    logins: tuple[str, ...]
    roles: tuple[str, ...]
    permit_pty: bool
    permit_port_forwarding: bool
    permit_agent_forwarding: bool
    source_addresses: tuple[Network, ...]
    force_command: str | None
    proof: Proof
    join_sessions: bool = False
    """Whether it may be shown to join sessions where one has no login."""
    person: str = ""
    """Who the user was when it was issued (`runtime.core.access.still_the_same`)."""


@dataclass(frozen=True, slots=True)
class MemberIdentity:
    """A service of a cluster that calls another."""

    host_id: str
    role: MemberRole
    cluster: str
    proof: Proof


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """A server, and the names that it may answer to."""

    host_id: str
    principals: tuple[str, ...]
    cluster: str
    proof: Proof
