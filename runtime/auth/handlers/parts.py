"""What the methods of auth work with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from runtime.audit.log import Audit
from runtime.auth.attempts import Attempts
from runtime.auth.credentials import CredentialStore
from runtime.auth.declared import Declared
from runtime.auth.events import EventView
from runtime.auth.invites import Invites
from runtime.auth.issuing import Issuer
from runtime.auth.membership import Members
from runtime.auth.people import People
from runtime.auth.presence import PresenceStore
from runtime.auth.recordings import Recordings
from runtime.auth.rotating import Rotations
from runtime.auth.sessions import RunningSessions
from runtime.auth.tokens import JoinTokens
from runtime.auth.trusted_service import TrustService
from runtime.auth.tunnels import TunnelStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of auth that do the work."""

    now: Callable[[], datetime]
    dynamic_config: bool
    declared: Declared
    people: People
    credentials: CredentialStore
    invites: Invites
    attempts: Attempts
    tokens: JoinTokens
    members: Members
    presence: PresenceStore
    issuer: Issuer
    audit: Audit
    events: EventView
    recordings: Recordings
    sessions: RunningSessions
    rotations: Rotations
    trust: TrustService
    tunnels: TunnelStore
    auth_servers: Callable[[], Sequence[str]]

    async def forget_user(self, name: str) -> None:
        """Delete what belongs to a user. Invites first: with one, credentials could come back at once."""
        await self.invites.revoke_of(name)
        await self.credentials.delete(name)
        await self.attempts.forgive(f"user/{name}")
