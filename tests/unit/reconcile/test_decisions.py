"""What is done about one resource, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from runtime.core.resources import Origin, Resource, Token, User
from runtime.core.resources.token import digest_of
from runtime.reconcile import SECRET, Action, Actual, Desired, Owner, Reason, decide, decide_removal
from tests.unit.reconcile.documents import NOW, TCTL, TEAM, VALUE, placed, role, token, trusted_cluster, user


def actual(resource: Resource, origin: Origin | None = Origin.TCTL) -> Actual:
    """Return the resource as it is there, declared by an origin."""
    return Actual(resource.kind, resource.name, 7, resource.with_origin(origin))


def changes(before: Resource, after: Resource) -> list[tuple[str, object, object]]:
    """Return what a step would change, with paths as text."""
    step = decide(Desired(after), actual(before), TCTL, now=NOW)
    return [(".".join(map(str, each.path)), each.old, each.new) for each in step.changes]


def test_what_is_not_there_is_created() -> None:
    """With its origin, and all fields that are no defaults told."""
    step = decide(Desired(role("dev", "dev")), None, TCTL, now=NOW)
    assert (step.action, step.reason, step.revision) == (Action.CREATE, Reason.NEW, 0)
    assert step.resource == role("dev", "dev").with_origin(Origin.TCTL)
    assert [(each.path, each.old, each.new) for each in step.changes] == [(("spec", "allow", "logins"), None, ["dev"])]


def test_what_is_there_as_declared_stays() -> None:
    """Nothing is written for it."""
    step = decide(Desired(user()), actual(user()), TCTL, now=NOW)
    assert (step.action, step.reason, step.changes, step.writes) == (Action.UNCHANGED, Reason.AS_DECLARED, (), False)


def test_what_differs_is_updated() -> None:
    """At the revision that was seen."""
    step = decide(Desired(user("joe", "joe", "root")), actual(user()), TCTL, now=NOW)
    assert (step.action, step.reason, step.revision) == (Action.UPDATE, Reason.CHANGED, 7)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (user("a", "a"), user("a", "a", "b"), [("spec.logins", ["a"], ["a", "b"])]),
        (user("a", roles=("x",)), user("a"), [("spec.roles", ["x"], [])]),
        (
            user("a", spec={"invite": {"ttl": "2h"}}),
            user("a", spec={"driftPolicy": "Report"}),
            [("spec.invite.ttl", "2h", None), ("spec.driftPolicy", "Correct", "Report")],
        ),
        (
            trusted_cluster("m", "x", "y"),
            trusted_cluster("m", "x"),
            [("spec.roleMap.0.local", ["x", "y"], ["x"])],
        ),
        (
            trusted_cluster("m"),
            trusted_cluster("m", "x"),
            [("spec.roleMap.0.remote", None, "admin"), ("spec.roleMap.0.local", None, ["x"])],
        ),
        (user("a"), user("a", labels={"team": "ops"}), [("metadata.labels.team", None, "ops")]),
    ],
)
def test_differences_name_fields(before: User, after: User, expected: list[tuple[str, object, object]]) -> None:
    """The path of each field, what it was, and what it becomes; defaults are values like others.

    Of a list of mappings each entry is told by its place.
    """
    assert changes(before, after) == expected


@pytest.mark.parametrize(
    ("owner", "origin", "namespace"),
    [
        (TCTL, Origin.KUBERNETES, "team"),
        (TCTL, Origin.CONFIG, None),
        (TCTL, None, None),
        (TEAM, Origin.TCTL, "team"),
        (TEAM, Origin.KUBERNETES, "other"),
        (TEAM, Origin.KUBERNETES, None),
    ],
)
def test_what_another_declared_is_refused(owner: Owner, origin: Origin | None, namespace: str | None) -> None:
    """Whether it is the same or not; unless the document asks to adopt it. It is not deleted either way."""
    theirs = actual(placed(user("joe", "theirs"), namespace), origin)
    step = decide(Desired(placed(user(), owner.namespace)), theirs, owner, now=NOW)
    assert (step.action, step.reason, step.changes) == (Action.REFUSE, Reason.OTHER_OWNER, ())
    assert f"is declared by {origin or 'nobody known'}" in step.message
    assert "teleport.internal/adopt" in step.hint

    step = decide(Desired(placed(user(), owner.namespace, adopt=True)), theirs, owner, now=NOW)
    assert (step.action, step.reason, step.revision) == (Action.ADOPT, Reason.ADOPTED, 7)
    assert ("spec", "logins") in [each.path for each in step.changes]
    assert step.resource is not None
    assert step.resource.metadata.origin is owner.origin

    step = decide_removal("User", "joe", theirs, owner)
    assert (step.action, step.reason) == (Action.UNCHANGED, Reason.OTHER_OWNER)


def test_to_tctl_a_namespace_says_nothing() -> None:
    """What it declared in one, it changes in another."""
    step = decide(Desired(user("joe", namespace="b")), actual(user("joe", namespace="a")), TCTL, now=NOW)
    assert step.action is Action.UPDATE


def test_what_cannot_be_read_is_refused() -> None:
    """Neither overwritten nor deleted: a newer version may have written it."""
    there = Actual("User", "joe", 7, None, "the stored User 'joe' cannot be read: spec.x: …")
    for step in (
        decide(Desired(placed(user(), None, adopt=True)), there, TCTL, now=NOW),
        decide_removal("User", "joe", there, TCTL),
    ):
        assert (step.action, step.reason) == (Action.REFUSE, Reason.UNREADABLE)
        assert "cannot be read" in step.message


def test_removal() -> None:
    """One's own goes, unless it says Keep; what is gone, is gone."""
    assert decide_removal("User", "joe", actual(user()), TCTL).action is Action.DELETE
    kept = decide_removal("User", "joe", actual(user(spec={"deletionPolicy": "Keep"})), TCTL)
    assert (kept.action, kept.reason) == (Action.UNCHANGED, Reason.KEPT)
    gone = decide_removal("User", "joe", None, TCTL)
    assert (gone.action, gone.reason) == (Action.UNCHANGED, Reason.GONE)


# --- tokens ------------------------------------------------------------------------------------------------------


def issued(value: str = VALUE, *, uses: int = 0, age: timedelta = timedelta(), **spec: Any) -> Token:
    """Return a token whose value was issued some time ago, with which some have joined."""
    found = token(**spec).issued_as(digest_of(value), NOW - age)
    assert found.metadata.issued is not None
    return found.with_issue(found.metadata.issued.model_copy(update={"uses": uses}))


def test_a_new_token_gets_the_value_of_its_secret() -> None:
    """From now on; the value itself is nowhere in the step."""
    step = decide(Desired(token(), VALUE), None, TCTL, now=NOW)
    assert isinstance(step.resource, Token)
    assert step.resource == issued().with_origin(Origin.TCTL)
    assert step.changes[-1].path == ("value",)
    assert step.changes[-1].new == SECRET
    assert VALUE not in repr(step)


def test_a_token_keeps_its_value_and_its_uses() -> None:
    """Whether the Secret is at hand or not; an edit of its document does not begin its life anew."""
    there = actual(issued(uses=3, age=timedelta(minutes=5), maxUses=10))
    for value in (VALUE, None):
        assert decide(Desired(token(maxUses=10), value), there, TCTL, now=NOW).action is Action.UNCHANGED
        step = decide(Desired(token(maxUses=20, ttl="1h"), value), there, TCTL, now=NOW)
        assert isinstance(step.resource, Token)
        assert step.resource.uses_left == 17
        assert step.resource.expires == NOW + timedelta(minutes=55)


def test_another_value_begins_a_new_life() -> None:
    """The old one is worthless from then on."""
    step = decide(
        Desired(token(), "another-value-of-it"), actual(issued(uses=3, age=timedelta(minutes=5))), TCTL, now=NOW
    )
    assert step.action is Action.UPDATE
    assert [(each.path, each.old, each.new) for each in step.changes] == [(("value",), SECRET, SECRET)]
    assert isinstance(step.resource, Token)
    assert step.resource.expires == NOW + timedelta(minutes=30)
    assert step.resource.metadata.issued is not None
    assert step.resource.metadata.issued.uses == 0


def test_a_token_without_a_value_is_to_get_one() -> None:
    """One that an earlier version stored: nobody could join with it."""
    step = decide(Desired(token()), actual(token()), TCTL, now=NOW)
    assert step.action is Action.UPDATE
    assert [each.path for each in step.changes] == [("value",)]


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (issued(age=timedelta(minutes=30)), Reason.EXPIRED),
        (issued(age=timedelta(minutes=29)), None),
        (issued(uses=2, maxUses=2), Reason.USED_UP),
        (issued(uses=1, maxUses=2), None),
    ],
)
def test_a_token_that_is_over_is_told_of(there: Token, reason: Reason | None) -> None:
    """Its document is as declared, and yet nobody can join with it."""
    document = token(maxUses=2) if there.spec.max_uses else token()
    step = decide(Desired(document, VALUE), actual(there), TCTL, now=NOW)
    assert step.action is Action.UNCHANGED
    assert [each.reason for each in step.findings] == ([reason] if reason else [])
    assert there.is_good(NOW) is (reason is None)


def test_a_trusted_cluster_has_no_effect_yet() -> None:
    """Which is said, whether it is new or not."""
    for there in (None, actual(trusted_cluster())):
        step = decide(Desired(trusted_cluster()), there, TCTL, now=NOW)
        assert [each.reason for each in step.findings] == [Reason.NO_EFFECT]


def test_a_revision_is_of_what_was_seen() -> None:
    """Not of the document."""
    there = replace(actual(user("joe", "x")), revision=12)
    assert decide(Desired(user()), there, TCTL, now=NOW).revision == 12
    assert decide_removal("User", "joe", there, TCTL).revision == 12
