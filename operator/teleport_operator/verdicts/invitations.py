"""Invites: whether a user is to be invited, and what is to be said of it. Pure: `secrets.invites` does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from runtime.core.resources import SignupInvite, User
from runtime.core.resources.user import RENEW_INVITE
from runtime.reconcile import Reason as PlanReason
from teleport_operator.verdicts.conditions import Condition, Reason

TYPE = "InviteReady"
_RENEW = f"To have a new one: kubectl -n {{}} annotate user {{}} {RENEW_INVITE}=$(date +%s) --overwrite"

_NEWS = frozenset({Reason.CONSUMED, PlanReason.EXPIRED, Reason.SECRET_TAKEN})
"""Reasons that are worth an Event."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """What was done about a user's invite before its record is written."""

    new: SignupInvite | None = None
    """For the record; None: the one that is there stays."""
    linked: bool = True
    """Whether the Secret has the link; without, no proxy has said yet where it is."""
    trouble: tuple[Reason, str] | None = None
    """Why nothing could be done about it, in a word and in words."""


def secret_name(user: User) -> str:
    """Return the name of the Secret with the invite."""
    return f"{user.name}-invite"


def is_due(user: User, before: User | None) -> bool:
    """Return whether the user is to be invited now: a new one, or one whose document asks for it, once."""
    if user.spec.credentials_secret_ref is not None:
        return False
    return before is None or bool(user.renewal and user.renewal != before.metadata.renewed)


def condition(user: User, invitation: Invitation, now: datetime) -> Condition:
    """Return whether the user's link can be used, and why not; `user` as it is stored now."""
    invite, renew = user.metadata.invite, _RENEW.format(user.metadata.namespace, user.name)
    if invitation.trouble is not None:
        return _not_ready(*invitation.trouble)
    if user.spec.credentials_secret_ref is not None:
        return _not_ready(Reason.NOT_NEEDED, "logs in with what spec.credentialsSecretRef names")
    if invite is None:
        return _not_ready(Reason.NOT_NEEDED, f"has no invite of its document's; it may have one of tctl's. {renew}")
    if invite.consumed is not None:
        return _not_ready(Reason.CONSUMED, f"signed up at {invite.consumed:%Y-%m-%d %H:%M} UTC. {renew}")
    if not invite.is_good(now):
        return _not_ready(PlanReason.EXPIRED, f"nobody signed up until {invite.expires:%Y-%m-%d %H:%M} UTC. {renew}")
    if not invitation.linked:
        message = f"the Secret {secret_name(user)} has the token; its url follows once a proxy has joined"
        return _not_ready(Reason.NO_PROXY, message)
    message = f"the Secret {secret_name(user)} has the link, good until {invite.expires:%Y-%m-%d %H:%M} UTC"
    return Condition(TYPE, status=True, reason=Reason.PENDING, message=message)


def status(user: User, before: Mapping[str, object]) -> dict[str, object]:
    """Return `status.invite`; `before` is what stands there, of which None takes away what is true no more."""
    invite = user.metadata.invite
    told: dict[str, object] = {"renewal": user.metadata.renewed} if user.metadata.renewed else {}
    if invite is not None:
        told |= {"secretName": secret_name(user), "expires": _time(invite.expires)}
        if invite.consumed is not None:
            told["consumed"] = _time(invite.consumed)
    return told if told == before else {**dict.fromkeys(before), **told}


def is_news(found: Condition, before: Mapping[str, object]) -> bool:
    """Return whether an Event should tell of it; `before` is the condition that was there."""
    return found.type == TYPE and found.reason in _NEWS and before.get("reason") != found.reason.value


def severity_of(found: Condition) -> str:
    """Return the type of that Event."""
    return "Normal" if found.reason is Reason.CONSUMED else "Warning"


def _not_ready(reason: Reason | PlanReason, message: str) -> Condition:
    return Condition(TYPE, status=False, reason=reason, message=message)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
