"""status.conditions, as Kubernetes' API conventions have them. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Reason(StrEnum):
    """Why a condition is as it is, in one word for machines."""

    RECONCILED = "Reconciled"
    INVALID = "InvalidDocument"
    OTHER_OWNER = "OwnedByAnother"
    BACKEND_UNAVAILABLE = "BackendUnavailable"


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement about a resource, and whether it is true."""

    type: str
    status: bool
    reason: Reason
    message: str


def ready(reason: Reason, message: str) -> Condition:
    """Return the condition Ready, which is true for what was reconciled and for nothing else."""
    return Condition("Ready", reason is Reason.RECONCILED, reason, message)


def status_with(
    condition: Condition, *, generation: int, previous: Iterable[Mapping[str, object]], now: datetime
) -> dict[str, object]:
    """Return the fields of `status` after this condition was found on that generation of the document.

    `previous` are the conditions so far; others than this one are kept, and lastTransitionTime moves only when the
    condition's status does.
    """
    before = {str(each.get("type")): each for each in previous}
    status = "True" if condition.status else "False"
    known = before.get(condition.type, {})
    since = known.get("lastTransitionTime") if known.get("status") == status else None
    before[condition.type] = {
        "type": condition.type,
        "status": status,
        "observedGeneration": generation,
        "reason": condition.reason.value,
        "message": condition.message,
        "lastTransitionTime": since or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return {"observedGeneration": generation, "conditions": list(before.values())}
