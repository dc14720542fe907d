"""status.conditions, as Kubernetes' API conventions have them. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from runtime.core.trust_status import TrustReason
from runtime.reconcile import Reason as PlanReason


class Reason(StrEnum):
    """Why a condition is as it is, in one word for machines, beside those of a plan (`runtime.reconcile.Reason`)."""

    RECONCILED = "Reconciled"
    INVALID = "InvalidDocument"
    UNAVAILABLE = "Unavailable"
    DRIFTED = "Drifted"
    DENIED = "PermissionDenied"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a word, no password
    NO_AUTH = "NoAuthServer"
    SECRET_NOT_OPTED_IN = "SecretNotOptedIn"  # noqa: S105 - a word, no password
    SECRET_INVALID = "SecretInvalid"  # noqa: S105 - a word, no password

    PENDING = "Pending"
    CONSUMED = "Consumed"
    NOT_NEEDED = "NotNeeded"
    NO_PROXY = "NoProxyAddress"
    SECRET_TAKEN = "SecretTaken"  # noqa: S105 - a word, no password


PASSING = frozenset({PlanReason.CREDENTIALS_PENDING, TrustReason.PENDING})
"""Reasons that another takes the place of within seconds, with nobody doing anything: they are no news."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement about a resource, and whether it is true."""

    type: str
    status: bool
    reason: StrEnum
    message: str


def synced(reason: StrEnum, message: str, *, status: bool) -> Condition:
    """Return the condition Synced: whether the backend holds what the document says."""
    return Condition("Synced", status, reason, message)


def ready(reason: StrEnum, message: str) -> Condition:
    """Return the condition Ready, which is true for what was reconciled and for nothing else."""
    return Condition("Ready", reason is Reason.RECONCILED, reason, message)


def status_with(
    conditions: Iterable[Condition], *, generation: int, previous: Iterable[Mapping[str, object]], now: datetime
) -> dict[str, object]:
    """Return the fields of `status` after these conditions were found on that generation of the document.

    `previous` are the conditions so far; others than these are kept, and lastTransitionTime moves only when the status
    of its condition does.
    """
    merged = {str(each.get("type")): each for each in previous}
    for condition in conditions:
        status = "True" if condition.status else "False"
        known = merged.get(condition.type, {})
        since = known.get("lastTransitionTime") if known.get("status") == status else None
        merged[condition.type] = {
            "type": condition.type,
            "status": status,
            "observedGeneration": generation,
            "reason": condition.reason.value,
            "message": condition.message,
            "lastTransitionTime": since or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    return {"observedGeneration": generation, "conditions": list(merged.values())}


def has_turned(condition: Condition, previous: Iterable[Mapping[str, object]]) -> bool:
    """Return whether it says something else than before: only that is news. That all went well at once is none."""
    before = next((each for each in previous if each.get("type") == condition.type), None)
    if condition.reason in PASSING:
        return False
    if before is None or before.get("reason") in PASSING:
        return not condition.status
    status = "True" if condition.status else "False"
    return (before.get("status"), before.get("reason")) != (status, condition.reason.value)
