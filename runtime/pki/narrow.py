"""Reissuing: a new certificate is never wider than the one that was presented for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from runtime.core.defaults import MIN_CERTIFICATE_TTL
from runtime.core.errors import AccessDenied
from runtime.pki.claims import Network, UserClaims
from runtime.pki.identity import UserIdentity


def narrow(presented: UserIdentity, claims: UserClaims, now: datetime) -> UserClaims:
    """Return the claims cut down to what the presented certificate grants, its expiry included.

    Raises AccessDenied when nothing would be left: another user or cluster, no common login, less than the shortest
    lifetime to go, no common network, two different forced commands.
    """
    if (claims.user, claims.cluster) != (presented.user, presented.cluster):
        raise AccessDenied(
            f"the certificate of {presented.user} in {presented.cluster} cannot be reissued"
            f" to {claims.user} in {claims.cluster}"
        )
    logins = tuple(login for login in claims.logins if login in presented.logins)
    if not logins:
        raise AccessDenied(f"the presented certificate of {presented.user} allows none of the logins asked for")
    left = timedelta(seconds=(presented.proof.valid_before - now) // timedelta(seconds=1))
    if left < MIN_CERTIFICATE_TTL:
        raise AccessDenied("the presented certificate expires too soon to be reissued", hint="Log in again.")
    if None not in (presented.force_command, claims.force_command) and presented.force_command != claims.force_command:
        raise AccessDenied("the presented certificate forces another command")
    return replace(
        claims,
        logins=logins,
        roles=tuple(role for role in claims.roles if role in presented.roles),
        ttl=min(claims.ttl, left),
        permit_pty=claims.permit_pty and presented.permit_pty,
        permit_port_forwarding=claims.permit_port_forwarding and presented.permit_port_forwarding,
        permit_agent_forwarding=claims.permit_agent_forwarding and presented.permit_agent_forwarding,
        join_sessions=claims.join_sessions and presented.join_sessions,
        source_addresses=_common(presented.source_addresses, claims.source_addresses),
        force_command=presented.force_command if claims.force_command is None else claims.force_command,
    )


def _common(presented: tuple[Network, ...], asked: tuple[Network, ...]) -> tuple[Network, ...]:
    """Return the networks from which both lists let somebody come; an empty list means from anywhere."""
    if not presented or not asked:
        return presented or asked
    # Of two networks, one holds the other or they have nothing in common: the smaller is what both allow.
    common = [a if within(a, b) else b for a in asked for b in presented if within(a, b) or within(b, a)]
    if not common:
        raise AccessDenied("the presented certificate allows none of the networks asked for")
    return tuple(dict.fromkeys(common))


def within(inner: Network, outer: Network) -> bool:
    """Return whether every address of the inner network is one of the outer."""
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # same version
