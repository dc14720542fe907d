"""Membership: joining, renewing, and the presence that members tell of by heartbeat."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from pydantic import Field

from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.messages import Labels, Message, PublicKey, Secret, Text
from runtime.core.callers import CallerKind
from runtime.core.defaults import CERTIFICATE_TTL


class Presence(Message):
    """A member as it tells of itself by heartbeat. `addr` is host:port as others reach it."""

    id: UUID
    kind: CallerKind
    name: Text
    addr: Text
    labels: Labels = Field(default_factory=dict)
    version: Text = ""


class JoinRequest(Message):
    """A newcomer's token, and who it wants to be. The key pair is its own; the private key never leaves it."""

    token: Secret
    roles: tuple[CallerKind, ...] = Field(min_length=1)
    name: Text
    advertised: tuple[Text, ...] = ()
    """Addresses and names beside `name` under which it wants to be known: host names or IPs, no ports."""
    public_key: PublicKey


class MemberCertificates(Message):
    """One role's certificates, signed by the host CA: `host` to serve with, `member` to call other services with.

    An administrator serves nothing; its `host` is empty.
    """

    role: CallerKind
    host: PublicKey
    member: PublicKey


class Membership(Message):
    """What a member holds: its id, its certificates, when the first of them ends, and whom to trust."""

    id: UUID
    certificates: tuple[MemberCertificates, ...]
    expires: datetime
    authorities: tuple[AuthorityKeys, ...]
    labels: Labels = Field(default_factory=dict)
    """Labels that the token imposed; they override what the member reports of itself."""


class RenewRequest(Message):
    """A member asks for new certificates for the identity that it proved, with a key that may be new."""

    name: Text
    advertised: tuple[Text, ...] = ()
    public_key: PublicKey


class AdminRequest(Message):
    """An administrator asks for one more identity, to be used elsewhere until `ttl` is over; it is never renewed."""

    ttl: timedelta = CERTIFICATE_TTL
    public_key: PublicKey


class Heartbeat(Message):
    """A member is alive; forgotten after `ttl` unless it says so again."""

    presence: Presence
    ttl: timedelta = timedelta(seconds=60)
    followed: dict[Text, int] = Field(default_factory=dict, max_length=8)
    """For each type of authority the serial of the state that it has followed (`runtime.api.rotation_messages`)."""


class HeartbeatReply(Message):
    """What a member should know after a heartbeat: where auth servers are (host:port)."""

    auth_servers: tuple[Text, ...]


class PresenceQuery(Message):
    """Which members to list."""

    kind: CallerKind


class PresenceEntry(Message):
    """A member as it was last heard; `labels` are already the merged ones."""

    presence: Presence
    expires: datetime


class PresenceList(Message):
    """Members, ordered by name and id."""

    members: tuple[PresenceEntry, ...]
