"""Access decisions: pure functions of users, roles and labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Grant:
    """What a user may do on one node as one login. Of several roles the strictest option counts."""

    login: str
    roles: tuple[str, ...]
    """The roles that allow it."""
    forward_agent: bool
    port_forwarding: bool
    file_copy: bool
    max_sessions: int
    idle_timeout: timedelta | None


def still_the_same(user: User, person: str) -> User:
    """Return the user if a certificate that was issued to that person is its own.

    One that names nobody was issued to a user without an id, or by an earlier version, and goes by the user's name.
    Raises AccessDenied.
    """
    if person and person != user.metadata.id:
        raise AccessDenied(
            f"the certificate was issued to who was user {user.name} before, or before that user was invited anew",
            hint="Log in again: tsh login.",
        )
    return user


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


def access_to_node(user: User, declared: Mapping[str, Role], labels: Mapping[str, str], login: str) -> Grant:
    """Return what the user may do as `login` on a node with these labels, by the roles as they are now.

    A role allows it that names the login and whose labels match the node; any role of the user's may deny the login, or
    the node. Raises AccessDenied.
    """
    roles = roles_of(user, declared)
    for role in roles:
        _check_denial(role, labels, login)
    reaching = [role for role in roles if _matches_all(role.spec.allow.node_labels, labels)]
    if not reaching:
        raise AccessDenied(
            f"no role of user {user.name} allows this node",
            hint="Roles allow nodes by labels; an administrator can change them.",
        )
    allowing = tuple(role.name for role in reaching if login in role.spec.allow.logins)
    if not allowing:
        logins = sorted({name for role in reaching for name in role.spec.allow.logins})
        raise AccessDenied(
            f"no role of user {user.name} allows login {login!a} on this node",
            hint=f"Here it may be {', '.join(logins)}." if logins else "An administrator has to allow a login.",
        )
    options = [role.spec.options for role in roles]
    timeouts = [option.idle_timeout for option in options if option.idle_timeout is not None]
    return Grant(
        login=login,
        roles=allowing,
        forward_agent=all(option.forward_agent for option in options),
        port_forwarding=all(option.port_forwarding for option in options),
        file_copy=all(option.file_copy for option in options),
        max_sessions=min(option.max_sessions for option in options),
        idle_timeout=min(timeouts, default=None),
    )


def sight(user: User, declared: Mapping[str, Role]) -> Callable[[Mapping[str, str]], bool]:
    """Return what tells whether there is any login with which the user could be on a node with given labels.

    It is asked of thousands of nodes: what does not depend on the labels is done once.
    """
    try:
        roles = roles_of(user, declared)
    except AccessDenied:
        return lambda labels: False
    denied = {login for role in roles for login in role.spec.deny.logins}
    denying = [role.spec.deny.node_labels for role in roles if role.spec.deny.node_labels]
    allowing = [role.spec.allow.node_labels for role in roles if set(role.spec.allow.logins) - denied]

    def sees(labels: Mapping[str, str]) -> bool:
        return not any(_matches_any(selector, labels) for selector in denying) and any(
            _matches_all(selector, labels) for selector in allowing
        )

    return sees


def may(user: User, declared: Mapping[str, Role], resource: RuleResource, verb: Verb) -> bool:
    """Tell whether a rule of the user's roles allows that, and none denies it. A missing role allows nothing."""
    if denies(user, declared, resource, verb):
        return False
    return any(_rules(rule, resource, verb) for role in roles_of(user, declared) for rule in role.spec.allow.rules)


def denies(user: User, declared: Mapping[str, Role], resource: RuleResource, verb: Verb) -> bool:
    """Tell whether a rule of the user's roles denies that. A role that is missing may be the one."""
    try:
        roles = roles_of(user, declared)
    except AccessDenied:
        return True
    return any(_rules(rule, resource, verb) for role in roles for rule in role.spec.deny.rules)


def _rules(rule: Rule, resource: RuleResource, verb: Verb) -> bool:
    """Tell whether a rule speaks of that."""
    return not {resource, RuleResource.ANY}.isdisjoint(rule.resources) and not {verb, Verb.ANY}.isdisjoint(rule.verbs)


def _check_denial(role: Role, labels: Mapping[str, str], login: str) -> None:
    if login in role.spec.deny.logins:
        raise AccessDenied(f"the role {role.name} denies the login {login!a}")
    check_labels(role, labels)


def check_labels(role: Role, labels: Mapping[str, str]) -> None:
    """Refuse a node that the role denies by its labels, whatever is to be done there. Raises AccessDenied."""
    if _matches_any(role.spec.deny.node_labels, labels):
        raise AccessDenied(f"the role {role.name} denies this node by its labels")


def _matches_all(selector: Mapping[str, Sequence[str]], labels: Mapping[str, str]) -> bool:
    """Tell whether labels meet every line of an `allow`; an empty selector matches nothing."""
    return bool(selector) and all(_matches(key, values, labels) for key, values in selector.items())


def _matches_any(selector: Mapping[str, Sequence[str]], labels: Mapping[str, str]) -> bool:
    """Tell whether labels meet a line of a `deny`: one is enough."""
    return any(_matches(key, values, labels) for key, values in selector.items())


def _matches(key: str, values: Sequence[str], labels: Mapping[str, str]) -> bool:
    """Tell whether labels meet one line of a selector. `*` as a value stands for any, as a key for every node."""
    if key == "*":
        return True
    return key in labels and ("*" in values or labels[key] in values)
