"""What is done about one resource, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from runtime.core.resources import (
    DeletionPolicy,
    Origin,
    Resource,
    SealedCredentials,
    SignupInvite,
    Token,
    TrustedCluster,
    User,
)
from runtime.core.resources.token import digest_of
from runtime.core.resources.trusted_cluster import means_of
from runtime.reconcile import SECRET, Action, Actual, Desired, Owner, Reason, decide, decide_removal
from tests.unit.reconcile.documents import ADOPT, NOW, TCTL, TEAM, VALUE, placed, role, token, trusted_cluster, user


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


def test_a_document_without_a_namespace_stays_where_it_is() -> None:
    """What kubectl printed with one is the same as what was in the file, where there is none."""
    step = decide(Desired(user("joe")), actual(user("joe", namespace="a")), TCTL, now=NOW)
    assert step.action is Action.UNCHANGED
    step = decide(Desired(user("ann")), actual(user("joe", namespace="a")), TCTL, now=NOW)
    assert step.resource is not None
    assert step.resource.metadata.namespace == "a"


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


def test_removal_by_what_the_document_said_last() -> None:
    """Whatever is stored: it may not have been looked at between that edit and its deletion."""
    for stored, said, action in (
        ("Keep", DeletionPolicy.DELETE, Action.DELETE),
        ("Delete", DeletionPolicy.KEEP, Action.UNCHANGED),
    ):
        there = actual(user(spec={"deletionPolicy": stored}))
        assert decide_removal("User", "joe", there, TCTL, said).action is action
    theirs = actual(user(), Origin.CONFIG)
    assert decide_removal("User", "joe", theirs, TCTL, DeletionPolicy.DELETE).reason is Reason.OTHER_OWNER


# --- credentials of machines -------------------------------------------------------------------------------------


def sealed(source: str, **more: Any) -> SealedCredentials:
    """Return credentials from a Secret of that version."""
    return SealedCredentials(source=source, **more)


def bot(credentials: SealedCredentials | None = None) -> User:
    """Return a user with a Secret, and what is kept of it."""
    found = user(spec={"credentialsSecretRef": {"name": "bot-login"}})
    return found.with_credentials(credentials)


def test_another_version_of_the_secret_is_written() -> None:
    """What is sealed anew from the same version is not: it would differ each time, and never be done."""
    taken = bot(sealed("1/1", taken=NOW))
    same = decide(Desired(bot(), credentials=sealed("1/1", box="AAAA")), actual(taken), TCTL, now=NOW)
    assert (same.action, same.findings) == (Action.UNCHANGED, ())
    other = decide(Desired(bot(), credentials=sealed("1/2", box="AAAA")), actual(taken), TCTL, now=NOW)
    assert other.action is Action.UPDATE
    assert isinstance(other.resource, User)
    assert other.resource.metadata.credentials == sealed("1/2", box="AAAA")
    assert [found.reason for found in other.findings] == [Reason.CREDENTIALS_PENDING]
    assert "AAAA" not in str(other.changes)


def test_credentials_that_cannot_be_had_leave_those_there_are() -> None:
    """The Secret is away, or holds nothing: the user can go on. What auth refused is told of until it is replaced."""
    taken = bot(sealed("1/1", taken=NOW))
    assert decide(Desired(bot()), actual(taken), TCTL, now=NOW).action is Action.UNCHANGED
    step = decide(Desired(bot()), actual(bot(sealed("1/1", problem="too short"))), TCTL, now=NOW)
    assert [(found.reason, "too short" in found.message) for found in step.findings] == [
        (Reason.CREDENTIALS_REFUSED, True)
    ]


def test_credentials_go_with_the_reference_and_with_the_owner() -> None:
    """Without the reference nothing is kept of them; who takes a user over brings its own."""
    taken = bot(sealed("1/1", taken=NOW))
    step = decide(Desired(user()), actual(taken), TCTL, now=NOW)
    assert isinstance(step.resource, User)
    assert step.resource.metadata.credentials is None
    adopted = decide(Desired(placed(bot(), None, adopt=True)), actual(taken, Origin.CONFIG), TCTL, now=NOW)
    assert adopted.action is Action.ADOPT
    assert isinstance(adopted.resource, User)
    assert adopted.resource.metadata.credentials is None


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


def test_a_trusted_cluster_needs_its_secret() -> None:
    """Without it that is said, whether it is new or not; what it has already, stays with it."""
    for there in (None, actual(trusted_cluster())):
        step = decide(Desired(trusted_cluster()), there, TCTL, now=NOW)
        assert [each.reason for each in step.findings] == [Reason.NO_SECRET]
    given = trusted_cluster().given(means_of('{"ca": "one"}')).with_origin(Origin.TCTL)
    step = decide(Desired(trusted_cluster()), actual(given), TCTL, now=NOW)
    assert (step.action, step.findings) == (Action.UNCHANGED, ())


def test_what_comes_from_the_secret_of_a_trusted_cluster() -> None:
    """It is written with the document; another is a change, which shows neither; a token that is spent is none."""
    one, two = '{"token": "first"}', '{"token": "second"}'
    step = decide(Desired(trusted_cluster(), one), None, TCTL, now=NOW)
    assert isinstance(step.resource, TrustedCluster)
    assert step.resource.metadata.means is not None
    assert step.resource.metadata.means.token == "first"
    spent = step.resource.with_means(step.resource.metadata.means.without_token())
    assert decide(Desired(trusted_cluster(), one), actual(spent), TCTL, now=NOW).action is Action.UNCHANGED
    step = decide(Desired(trusted_cluster(), two), actual(spent), TCTL, now=NOW)
    assert step.action is Action.UPDATE
    assert [(change.path, change.old, change.new) for change in step.changes] == [(("secret",), SECRET, SECRET)]


def test_who_cannot_ask_auth_gives_it_sealed() -> None:
    """A box differs each time that it is made: what counts is whether the Secret holds something else."""
    first, again, other = (
        means_of(value).model_copy(update={"token": None, "box": box})
        for value, box in (('{"token": "a"}', "one"), ('{"token": "a"}', "two"), ('{"token": "b"}', "three"))
    )
    step = decide(Desired(trusted_cluster(), means=first), None, TCTL, now=NOW)
    assert isinstance(step.resource, TrustedCluster)
    assert step.resource.metadata.means == first
    there = actual(step.resource)
    assert decide(Desired(trusted_cluster(), means=again), there, TCTL, now=NOW).action is Action.UNCHANGED
    step = decide(Desired(trusted_cluster(), means=other), there, TCTL, now=NOW)
    assert isinstance(step.resource, TrustedCluster)
    assert (step.action, step.resource.metadata.means) == (Action.UPDATE, other)


def test_a_revision_is_of_what_was_seen() -> None:
    """Not of the document."""
    there = replace(actual(user("joe", "x")), revision=12)
    assert decide(Desired(user()), there, TCTL, now=NOW).revision == 12
    assert decide_removal("User", "joe", there, TCTL).revision == 12


# --- what the cluster keeps of a user ----------------------------------------------------------------------------


INVITE = SignupInvite(digest=digest_of(VALUE), issued=NOW, expires=NOW + timedelta(hours=1))


def stored(desired: Desired, there: Resource | None, owner: Owner = TEAM) -> User:
    """Return what a user is to be stored as."""
    found = decide(desired, actual(there, there.metadata.origin) if there else None, owner, now=NOW).resource
    assert isinstance(found, User)
    return found


def test_a_user_stays_who_it_is() -> None:
    """An edit keeps id and invite, of whatever origin the user was, and that alone is no reason to write."""
    known = user(namespace="team").with_id("a" * 32).with_invite(INVITE).with_origin(Origin.KUBERNETES)
    edited = stored(Desired(user("joe", "root", namespace="team")), known)
    assert (edited.metadata.id, edited.metadata.invite) == (INVITE.digest[:32], INVITE)
    step = decide(Desired(user(namespace="team"), person="b" * 32), actual(known, Origin.KUBERNETES), TEAM, now=NOW)
    assert step.action is Action.UNCHANGED
    theirs = user().with_id("a" * 32).with_origin(Origin.TCTL)
    adopted = stored(Desired(user(namespace="team", annotations=ADOPT["annotations"]), person="b" * 32), theirs)
    assert adopted.metadata.id == "a" * 32
    earlier = user(namespace="team").with_origin(Origin.KUBERNETES)  # of a version that knew no ids
    assert stored(Desired(user(namespace="team"), person="b" * 32), earlier).metadata.id is None


def test_a_new_user_is_somebody_new() -> None:
    """By its invite, or by the id that is given."""
    assert stored(Desired(user(), person="b" * 32), None).metadata.id == "b" * 32
    assert stored(Desired(user(), invite=INVITE, person="b" * 32), None).metadata.id == INVITE.digest[:32]


def test_a_new_invite_is_told_as_a_change() -> None:
    """Not what it is."""
    known = user(namespace="team").with_invite(INVITE).with_origin(Origin.KUBERNETES)
    other = INVITE.model_copy(update={"digest": digest_of("another value than that")})
    step = decide(Desired(user(namespace="team"), invite=other), actual(known, Origin.KUBERNETES), TEAM, now=NOW)
    assert step.action is Action.UPDATE
    assert [(each.path, each.old, each.new) for each in step.changes] == [(("invite",), SECRET, SECRET)]


def test_who_has_credentials_has_no_invite() -> None:
    """It ends when the document names a Secret."""
    known = user(namespace="team").with_invite(INVITE).with_origin(Origin.KUBERNETES)
    machine = user(namespace="team", spec={"credentialsSecretRef": {"name": "login"}})
    assert stored(Desired(machine), known).metadata.invite is None
