"""status.conditions follow Kubernetes' conventions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runtime.reconcile import Reason as PlanReason
from teleport_operator.verdicts.conditions import Reason, has_turned, ready, status_with, synced

NOW = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def conditions(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the conditions of a status."""
    return list(status["conditions"])


def test_a_first_condition() -> None:
    """A condition has all fields that the conventions ask for, and the status its observedGeneration."""
    status = status_with([ready(Reason.RECONCILED, "done")], generation=3, previous=[], now=NOW)
    assert status == {
        "observedGeneration": 3,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "observedGeneration": 3,
                "reason": "Reconciled",
                "message": "done",
                "lastTransitionTime": "2027-01-02T03:04:05Z",
            }
        ],
    }


def test_only_what_was_reconciled_is_ready() -> None:
    """Ready is true for one reason and for no other."""
    assert [reason for reason in Reason if ready(reason, "").status] == [Reason.RECONCILED]


def test_the_transition_time_moves_with_the_status_alone() -> None:
    """A new reason or generation keeps lastTransitionTime; a new status moves it."""
    first = status_with([ready(Reason.INVALID, "a")], generation=1, previous=[], now=NOW)
    same = status_with([ready(PlanReason.OTHER_OWNER, "b")], generation=2, previous=conditions(first), now=LATER)
    assert conditions(same)[0]["lastTransitionTime"] == "2027-01-02T03:04:05Z"
    assert conditions(same)[0]["reason"] == "OwnedByAnother"
    turned = status_with([ready(Reason.RECONCILED, "c")], generation=2, previous=conditions(same), now=LATER)
    assert conditions(turned)[0]["lastTransitionTime"] == "2027-01-02T04:04:05Z"


def test_other_conditions_are_kept() -> None:
    """What somebody else says of the resource is left as it is."""
    other = {"type": "InviteReady", "status": "True"}
    status = status_with([ready(Reason.RECONCILED, "")], generation=1, previous=[other], now=NOW)
    assert conditions(status)[0] == other
    assert conditions(status)[1]["type"] == "Ready"


def test_several_conditions_at_once() -> None:
    """One patch holds all that was found."""
    found = [synced(Reason.RECONCILED, "held", status=True), ready(PlanReason.ROLE_NOT_FOUND, "no role dev")]
    status = status_with(found, generation=1, previous=[], now=NOW)
    assert [(each["type"], each["status"]) for each in conditions(status)] == [("Synced", "True"), ("Ready", "False")]


def test_what_is_news() -> None:
    """A condition that is new, or has another status or reason; not one whose words or generation differ."""
    before = conditions(status_with([ready(Reason.INVALID, "a")], generation=1, previous=[], now=NOW))
    assert has_turned(ready(Reason.INVALID, "a"), [])
    assert not has_turned(ready(Reason.INVALID, "b"), before)
    assert has_turned(ready(Reason.UNAVAILABLE, "a"), before)
    assert has_turned(ready(Reason.RECONCILED, "a"), before)


def test_what_goes_well_at_once_is_no_news() -> None:
    """A thousand users that are declared and ready are no thousand Events; neither is what passes by itself."""
    assert not has_turned(ready(Reason.RECONCILED, "a"), [])
    pending = ready(PlanReason.CREDENTIALS_PENDING, "soon")
    assert not has_turned(pending, [])
    before = conditions(status_with([pending], generation=1, previous=[], now=NOW))
    assert not has_turned(ready(Reason.RECONCILED, "a"), before)
    assert has_turned(ready(PlanReason.CREDENTIALS_REFUSED, "a"), before)
