"""How an authority gets a new key while everybody goes on working: the phases, and what each of them allows. Pure.

    standby ── init ── update_clients ── update_servers ── standby       the new key alone is trusted
                 └───────────┴──────────────────┴── rollback ── standby  the old key alone is trusted

    phase            trusted      signs what clients show       signs what servers show
    init             old, new     old                           old
    update_clients   old, new     new                           old
    update_servers   old, new     new                           new
    rollback         old, new     old                           old

Everything rests on one rule: what a key signs is shown only to those who trust that key already, so a phase begins when
all have followed the one before. From `init` until the end both keys are trusted; so any phase may follow any other
there, back to the old key included, without a certificate that somebody refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from runtime.core.defaults import MAX_CERTIFICATE_TTL
from runtime.core.errors import AlreadyExists, InvalidInput

DEFAULT_GRACE = MAX_CERTIFICATE_TTL
"""How long an automatic rotation lets old certificates live beside new ones: none is cut short."""

MAX_GRACE = timedelta(days=30)


class Phase(StrEnum):
    """Where a rotation is. `standby`: none runs."""

    STANDBY = "standby"
    INIT = "init"
    UPDATE_CLIENTS = "update_clients"
    UPDATE_SERVERS = "update_servers"
    ROLLBACK = "rollback"


class Mode(StrEnum):
    """Who takes the next step."""

    MANUAL = "manual"
    AUTO = "auto"


class Use(StrEnum):
    """What a certificate is for: to be shown by who calls (people, members), or by who is called."""

    CLIENT = "client"
    SERVER = "server"


_NEXT = {
    Phase.INIT: Phase.UPDATE_CLIENTS,
    Phase.UPDATE_CLIENTS: Phase.UPDATE_SERVERS,
    Phase.UPDATE_SERVERS: Phase.STANDBY,
    Phase.ROLLBACK: Phase.STANDBY,
}

_NEW_SIGNS = {
    Use.CLIENT: {Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS},
    Use.SERVER: {Phase.UPDATE_SERVERS},
}

_SHARE = {
    Phase.INIT: 1 / 30,
    Phase.UPDATE_CLIENTS: 4 / 5,
    Phase.UPDATE_SERVERS: 1 / 5,
    Phase.ROLLBACK: 1.0,
}
"""Of the grace period, for each phase of an automatic rotation.

From the first certificate that the new key signs to the end of the old one it is the whole period, so that what the
old key signed last has ended by itself. Hosts show new certificates after four fifths: who was away for all of that
time has no certificate that is still good, and would have to join anew without a rotation, too.
"""


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation that runs: generation `new` takes the place of the active one. `force`: nobody is waited for long."""

    id: str
    phase: Phase
    started: datetime
    changed: datetime
    mode: Mode
    grace: timedelta
    new: int
    force: bool = False
    new_has_signed: bool = False
    """Whether certificates of the new key are about; going back then takes as long as they live."""

    @property
    def is_emergency(self) -> bool:
        """Whether the old key may be in the wrong hands: all that it has signed ends with the rotation."""
        return self.force and not self.grace

    @property
    def next(self) -> Phase:
        """The phase after this one."""
        return _NEXT[self.phase]

    @property
    def due(self) -> datetime | None:
        """When the next phase comes by itself, at the earliest; None: it does not."""
        if self.mode is Mode.MANUAL:
            return None
        if self.phase is Phase.ROLLBACK and not self.new_has_signed:
            return self.changed
        return self.changed + self.grace * _SHARE[self.phase]


def begin(
    running: Rotation | None, *, name: str, now: datetime, mode: Mode, grace: timedelta, new: int, force: bool = False
) -> Rotation:
    """Return a rotation, which has the id `name`, in its first phase.

    Raises AlreadyExists while one runs, InvalidInput for the grace period.
    """
    if running is not None:
        raise AlreadyExists(
            f"a rotation is running already, in phase {running.phase}",
            hint="Look at it: tctl auth rotate --status. Go on with --phase=" + running.next + ", or back with"
            " --phase=rollback.",
        )
    check_grace(grace)
    return Rotation(name, Phase.INIT, now, now, mode, grace, new, force)


def check_grace(grace: timedelta) -> None:
    """Raise InvalidInput for a grace period that is none."""
    if not timedelta() <= grace <= MAX_GRACE:
        raise InvalidInput(
            f"the grace period is from 0 to {MAX_GRACE.days * 24}h",
            hint=f"{_hours(DEFAULT_GRACE)} is the default, and ends no certificate early; 0 ends all of the old key"
            " at once.",
        )


def step(running: Rotation | None, to: Phase, *, now: datetime) -> Rotation | None:
    """Return the rotation in its phase `to`; None is standby: it has ended.

    Raises InvalidInput when `to` does not come after the phase that it is in. Whether all have followed is not asked
    here.
    """
    if running is None:
        if to is Phase.ROLLBACK:
            raise InvalidInput(
                "there is nothing to roll back: no rotation is running", hint="See tctl auth rotate --status."
            )
        raise InvalidInput(
            f"no rotation is running, so phase {to} cannot be next",
            hint="Begin one: tctl auth rotate --manual --phase=init, or tctl auth rotate for all phases by themselves.",
        )
    if to is Phase.ROLLBACK and running.phase is not Phase.ROLLBACK:
        return replace(running, phase=to, changed=now, force=False)
    if to is not running.next:
        also = "" if running.phase is Phase.ROLLBACK else ", or go back with --phase=rollback"
        raise InvalidInput(
            f"phase {to} does not follow {running.phase}",
            hint=f"The next phase is {running.next}: --phase={running.next}{also}.",
        )
    if to is Phase.STANDBY:
        return None
    return replace(running, phase=to, changed=now, new_has_signed=True)


def signs(running: Rotation | None, active: int, use: Use) -> int:
    """Return the generation that signs certificates for a use."""
    if running is not None and running.phase in _NEW_SIGNS[use]:
        return running.new
    return active


def _hours(period: timedelta) -> str:
    return f"{int(period.total_seconds() // 3600)}h"
