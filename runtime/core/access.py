"""Access decisions: pure functions of users, roles and labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from runtime.core.defaults import CERTIFICATE_TTL
from runtime.core.errors import AccessDenied
from runtime.core.resources import Conditions, Options, Role, RoleMetadata, RoleSpec, Rule, RuleResource, User, Verb

USER_ROLE_RULES = (
    RuleResource.AUTH_SERVER,
    RuleResource.CERT_AUTHORITY,
    RuleResource.NODE,
    RuleResource.ROLE,
    RuleResource.SESSION,
    RuleResource.TUNNEL,
)
"""What the role of a user's own logins may read (manual, `tctl get roles`)."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may have in a certificate. `logins` is sorted and not empty."""

    logins: tuple[str, ...]
    roles: tuple[str, ...]
    max_ttl: timedelta
    forward_agent: bool
    port_forwarding: bool


def user_role(user: User) -> Role | None:
    """Return the role `user:NAME` that a user's own logins make; None without logins.

    It is derived, never stored, so that it cannot differ from the user. It allows every node, as the manual's
    `tctl users add` does, and forwarding; a further role's options are stricter if they say so.
    """
    if not user.spec.logins:
        return None
    return Role(
        metadata=RoleMetadata(name=f"user:{user.name}"),
        spec=RoleSpec(
            allow=Conditions(
                logins=user.spec.logins,
                node_labels={"*": ("*",)},
                rules=(Rule(resources=USER_ROLE_RULES, verbs=(Verb.READ,)),),
            ),
            options=Options(max_session_ttl=CERTIFICATE_TTL, forward_agent=True, port_forwarding=True),
        ),
    )


def roles_of(user: User, declared: Mapping[str, Role]) -> tuple[Role, ...]:
    """Return the roles that a user has, its own first.

    A role that is missing may be the one that denies: raises AccessDenied rather than going on without it.
    """
    missing = [name for name in user.spec.roles if name not in declared]
    if missing:
        raise AccessDenied(
            f"user {user.name} has the role {missing[0]}, which does not exist",
            hint=f"An administrator has to create the role {missing[0]} or take it from the user.",
        )
    own = user_role(user)
    return (*((own,) if own else ()), *(declared[name] for name in user.spec.roles))


def rights(user: User, declared: Mapping[str, Role]) -> Rights:
    """Return what a certificate for this user may hold.

    Raises AccessDenied when no login is left, or a role is missing.
    """
    roles = roles_of(user, declared)
    denied = {login for role in roles for login in role.spec.deny.logins}
    logins = sorted({login for role in roles for login in role.spec.allow.logins} - denied)
    if not logins:
        raise AccessDenied(
            f"no role of user {user.name} allows a login",
            hint="An administrator has to give the user a login, or a role that allows one.",
        )
    return Rights(
        logins=tuple(logins),
        roles=tuple(role.name for role in roles),
        max_ttl=min(role.spec.options.max_session_ttl for role in roles),
        forward_agent=all(role.spec.options.forward_agent for role in roles),
        port_forwarding=all(role.spec.options.port_forwarding for role in roles),
    )
