"""What the rotation of the cluster's authorities takes and gives: members follow it, administrators command it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.messages import Message, PublicKey, Text
from runtime.core.callers import CallerKind
from runtime.core.resources.authority import AuthorityType
from runtime.core.rotation import DEFAULT_GRACE, Mode, Phase


class AuthorityState(Message):
    """One authority of the cluster as it stands: whom to believe, and the number that tells of having followed."""

    cluster: Text
    type: AuthorityType
    keys: tuple[PublicKey, ...]
    """All to be believed, the one that signs first."""
    serial: int
    """Rises with every change of the authority; 0: it was never changed."""
    phase: Phase
    rotation: Text = ""
    """The id of the rotation that runs."""

    @property
    def as_keys(self) -> AuthorityKeys:
        """The same as other messages have it."""
        return AuthorityKeys(cluster=self.cluster, type=self.type.value, keys=self.keys)


class AuthorityStates(Message):
    """The user and the host authority, and what a member's certificates have to be now."""

    authorities: tuple[AuthorityState, ...]
    host_signer: Text
    """Fingerprint of the key by which the host certificate of a member has to be signed."""
    member_signer: Text
    """The same of the certificate with which it calls others."""
    spread: float
    """Seconds: a member renews after a random part of them, so that not all come at once."""

    @property
    def serials(self) -> dict[str, int]:
        """What a member reports that has followed all of this (`Heartbeat.followed`)."""
        return {authority.type.value: authority.serial for authority in self.authorities}


class RotateRequest(Message):
    """Begin a rotation, or take one that runs to its next phase."""

    types: tuple[AuthorityType, ...] = Field(default=tuple(AuthorityType), min_length=1)
    phase: Phase | None = None
    """Where to go; None: begin."""
    manual: bool = False
    """The next steps are taken by hand; else by themselves."""
    grace: Annotated[timedelta, Field(ge=timedelta())] = DEFAULT_GRACE
    force: bool = False
    """Do not wait for members that have not followed."""


class KeyStanding(Message):
    """One trusted key of an authority. `signs` are the certificates that it signs now: users, hosts, members."""

    generation: int
    fingerprint: Text
    created: datetime
    signs: tuple[Text, ...]


class Straggler(Message):
    """A member that is online and has not followed."""

    id: Text
    kind: CallerKind
    name: Text


class RotationStatus(Message):
    """How it stands with one authority. In standby no rotation runs, and what belongs to one is empty."""

    cluster: Text
    type: AuthorityType
    phase: Phase
    mode: Mode | None = None
    rotation: Text = ""
    started: datetime | None = None
    changed: datetime | None = None
    grace: timedelta | None = None
    next_phase: Phase | None = None
    next_due: datetime | None = None
    """When the next phase comes by itself, if all have followed; None: it is taken by hand."""
    keys: tuple[KeyStanding, ...]
    members: int
    """How many members are online."""
    stragglers: tuple[Straggler, ...]


class RotationStatuses(Message):
    """How it stands with the user and the host authority."""

    authorities: tuple[RotationStatus, ...]
