"""How it stands with an authority and its rotation: what signs, what comes next, and who has not followed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from runtime.api.rotation_messages import (
    AuthorityState,
    AuthorityStates,
    KeyStanding,
    RotationStatus,
    Straggler,
)
from runtime.auth.membership import public_key_lines
from runtime.core.resources.authority import AuthorityType
from runtime.core.rotation import Phase, Use, signs

if TYPE_CHECKING:
    from runtime.auth.authorities import Authorities
    from runtime.auth.authority_record import LocalAuthority
    from runtime.auth.presence import Follower

RENEWALS_A_SECOND = 40
"""How many renewals an auth server is to have to do: each, with the connection that follows it, takes 18 ms of CPU."""

_SIGNED = {
    AuthorityType.USER: {Use.CLIENT: "users"},
    AuthorityType.HOST: {Use.SERVER: "hosts", Use.CLIENT: "members"},
}


def stragglers(authority: LocalAuthority, members: Iterable[Follower]) -> Sequence[Follower]:
    """Return the members that have not followed the authority to where it is; what does not report has not."""
    kind = authority.type.value
    return [each for each in members if each.followed.get(kind, 0) < authority.serial]


def status_of(authority: LocalAuthority, members: Sequence[Follower]) -> RotationStatus:
    """Return how it stands with an authority, for administrators."""
    running = authority.rotation
    standing = [
        KeyStanding(
            generation=each.number,
            fingerprint=each.public.fingerprint,
            created=each.created,
            signs=tuple(
                name
                for use, name in _SIGNED[authority.type].items()
                if signs(running, authority.active, use) == each.number
            ),
        )
        for each in sorted(authority.generations, key=lambda each: each.number)
    ]
    return RotationStatus(
        cluster=authority.cluster,
        type=authority.type,
        phase=running.phase if running else Phase.STANDBY,
        mode=running.mode if running else None,
        rotation=running.id if running else "",
        started=running.started if running else None,
        changed=running.changed if running else None,
        grace=running.grace if running else None,
        next_phase=running.next if running else None,
        next_due=running.due if running else None,
        keys=tuple(standing),
        members=len(members),
        stragglers=tuple(
            Straggler(id=each.id, kind=each.kind, name=each.name) for each in stragglers(authority, members)
        ),
    )


def states_of(authorities: Authorities, watchers: int) -> AuthorityStates:
    """Return what members follow; `watchers` of them hear it from this auth server."""
    return AuthorityStates(
        authorities=tuple(
            AuthorityState(
                cluster=each.cluster,
                type=each.type,
                keys=public_key_lines(each),
                serial=each.serial,
                phase=each.rotation.phase if each.rotation else Phase.STANDBY,
                rotation=each.rotation.id if each.rotation else "",
            )
            for each in (authorities.user, authorities.host)
        ),
        host_signer=authorities.host.signer.public.key.fingerprint,
        member_signer=authorities.host.client_signer.public.key.fingerprint,
        spread=watchers / RENEWALS_A_SECOND,
    )
