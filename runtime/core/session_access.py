"""Who may see, watch and take part in running sessions: pure functions of users, roles, labels and the session.

    list    rules, resource session, verb list; one's own always
    watch   verb read, as for recordings, which show the same a moment later; one's own always
    type    verb join, or one's own; and the session's login on that node must be allowed to oneself, now

A rule that denies wins, also over what is one's own, and so does a role that denies the node by its labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.core.access import access_to_node, check_labels, denies, may, roles_of
from runtime.core.errors import AccessDenied
from runtime.core.joining import Mode
from runtime.core.resources import Role, RuleResource, User, Verb


@dataclass(frozen=True, slots=True)
class Owned:
    """What a decision needs of a session: who opened it, and as whom it runs."""

    user: str
    login: str


def may_list(user: User, declared: Mapping[str, Role], owner: str) -> bool:
    """Tell whether a list of sessions shows that person the sessions of `owner`."""
    return _may(user, declared, owner, Verb.LIST)


def may_ask(user: User, declared: Mapping[str, Role], owner: str) -> bool:
    """Tell whether that person, who knows the id of a session, may be told where it runs."""
    return any(_may(user, declared, owner, verb) for verb in (Verb.LIST, Verb.READ, Verb.JOIN))


def may_enter(user: User, declared: Mapping[str, Role], labels: Mapping[str, str]) -> bool:
    """Tell whether there can be a session of others to join on a node with these labels."""
    try:
        for role in roles_of(user, declared):
            check_labels(role, labels)
    except AccessDenied:
        return False
    return any(may(user, declared, RuleResource.SESSION, verb) for verb in (Verb.READ, Verb.JOIN))


def part_in(
    user: User, declared: Mapping[str, Role], labels: Mapping[str, str], session: Owned, wanted: Mode | None
) -> Mode:
    """Return as what the person may join a session on a node with these labels: as wanted, else as much as may be.

    Raises AccessDenied.
    """
    for role in roles_of(user, declared):
        check_labels(role, labels)
    refused: AccessDenied | None = None
    try:
        _check_peer(user, declared, labels, session)
    except AccessDenied as error:
        refused = error
    if refused is None:
        return wanted or Mode.PEER
    if wanted is Mode.PEER:
        raise refused
    if _may(user, declared, session.user, Verb.READ):
        return Mode.OBSERVER
    if wanted is None and _may(user, declared, session.user, Verb.JOIN):
        raise refused  # the nearer reason
    raise AccessDenied(
        f"user {user.name} may not watch the sessions of {session.user}",
        hint="A role can allow it: rules on the resource session, verb read to watch, verb join to take part.",
    )


def _check_peer(user: User, declared: Mapping[str, Role], labels: Mapping[str, str], session: Owned) -> None:
    if not _may(user, declared, session.user, Verb.JOIN):
        raise AccessDenied(
            f"user {user.name} may not take part in the sessions of {session.user}",
            hint="A role can allow it: rules on the resource session, verb join. To watch: tsh join --mode=observer.",
        )
    access_to_node(user, declared, labels, session.login)


def _may(user: User, declared: Mapping[str, Role], owner: str, verb: Verb) -> bool:
    if user.name == owner:
        return not denies(user, declared, RuleResource.SESSION, verb)
    return may(user, declared, RuleResource.SESSION, verb)
