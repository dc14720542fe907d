"""The steps of a rotation on an authority's record: a record in, the next one out. Pure; the backend is elsewhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from runtime.auth.authority_record import Generation, LocalAuthority, Succession
from runtime.core import rotation
from runtime.core.rotation import Mode, Phase
from runtime.pki.keys import PrivateKey
from runtime.pki.succession import conclude, endorse

MAX_SUCCESSIONS = 16
"""So many are kept for who was away: with one rotation a year more than anybody stays away."""


def begin(
    authority: LocalAuthority,
    key: PrivateKey,
    *,
    name: str,
    now: datetime,
    mode: Mode,
    grace: timedelta,
    force: bool = False,
) -> LocalAuthority:
    """Return the authority with a new generation that is trusted, and signs nothing yet.

    Raises AlreadyExists while a rotation runs, InvalidInput for the grace period.
    """
    number = max(generation.number for generation in authority.generations) + 1
    running = rotation.begin(authority.rotation, name=name, now=now, mode=mode, grace=grace, new=number, force=force)
    new = Generation(number=number, created=now, public=key.public, private=key)
    return replace(authority, generations=(*authority.generations, new), rotation=running, serial=authority.serial + 1)


def step(authority: LocalAuthority, to: Phase, *, now: datetime) -> LocalAuthority:
    """Return the authority in the phase `to`. Raises InvalidInput when that is not the one that comes next."""
    before = authority.rotation
    after = rotation.step(before, to, now=now)
    serial = authority.serial + 1
    if after is not None or before is None:
        return replace(authority, rotation=after, serial=serial)
    if before.phase is Phase.ROLLBACK:
        kept = tuple(each for each in authority.generations if each.number != before.new)
        return replace(authority, generations=kept, rotation=None, serial=serial)
    return replace(
        authority,
        active=before.new,
        generations=tuple(each for each in authority.generations if each.number == before.new),
        rotation=None,
        serial=serial,
        successions=_succeeded(authority, before, serial),
    )


def _succeeded(authority: LocalAuthority, ended: rotation.Rotation, serial: int) -> tuple[Succession, ...]:
    """Return the successions when a rotation ends: of an old key that may be in the wrong hands, its last word."""
    old, new = authority.signer_of(authority.active), authority.signer_of(ended.new)
    if ended.is_emergency:
        return (Succession(authority.active, old.key.public, serial, conclude(old, serial=serial)),)
    last = Succession(ended.new, new.key.public, serial, endorse(old, new, serial=serial))
    return (*authority.successions, last)[-MAX_SUCCESSIONS:]
