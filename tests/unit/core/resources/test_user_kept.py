"""What the cluster keeps of a user beside its document: who it is, and its invite."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runtime.core.errors import InvalidResource
from runtime.core.resources import SignupInvite, User, decode, dump, encode, load_documents, read_object
from runtime.core.resources.token import digest_of
from runtime.core.resources.user import RENEW_INVITE

NOW = datetime(2027, 1, 2, tzinfo=UTC)
INVITE = SignupInvite(digest=digest_of("a" * 32), issued=NOW, expires=NOW + timedelta(hours=1))


def document(**metadata: Any) -> dict[str, Any]:
    """Return a document of user joe."""
    known = {"name": "joe", **metadata}
    return {"apiVersion": "teleport.internal/v1", "kind": "User", "metadata": known, "spec": {"logins": ["joe"]}}


def joe(**annotations: str) -> User:
    """Return user joe."""
    found = read_object(document(annotations=annotations), source="test")
    assert isinstance(found, User)
    return found


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", "0" * 32), ("invite", INVITE.model_dump(mode="json")), ("renewed", "monday")],
)
def test_no_document_sets_it(field: str, value: object) -> None:
    """Who may write documents makes nobody's invite, and takes over nobody's password."""
    with pytest.raises(InvalidResource, match=rf"metadata\.{field}: is kept by the cluster; leave it out"):
        read_object(document(**{field: value}), source="test")


def test_it_is_stored_and_not_shown() -> None:
    """It comes back from the backend as it was, and is no part of what tctl get prints."""
    user = joe(**{RENEW_INVITE: "monday"}).with_invite(INVITE)
    assert decode(User, encode(user)) == user
    assert user.metadata.renewed == "monday"
    shown = dump(user)
    assert load_documents(shown, source="printed") == [joe(**{RENEW_INVITE: "monday"})]
    assert INVITE.digest not in shown


def test_who_a_user_is() -> None:
    """Given once; another with another token, the same with the same; withdrawing an invite changes nobody."""
    first = joe().with_id("0" * 32)
    assert first.with_id("1" * 32) == first
    invited = first.with_invite(INVITE)
    assert invited.metadata.id == INVITE.digest[:32]
    used = INVITE.model_copy(update={"consumed": NOW})
    assert invited.with_invite(used).metadata.id == invited.metadata.id
    assert invited.with_invite(used).with_invite(INVITE).metadata.invite == used
    assert invited.with_invite(None).metadata.id == invited.metadata.id
    other = INVITE.model_copy(update={"digest": digest_of("b" * 32)})
    assert invited.with_invite(other).metadata.id != invited.metadata.id


def test_a_new_version_of_the_document_keeps_it() -> None:
    """And a user of whom there was none has nothing."""
    before = joe().with_invite(INVITE)
    assert joe(**{RENEW_INVITE: "x"}).as_kept(before).metadata.invite == INVITE
    assert before.as_kept(None) == joe()


def test_the_value_of_the_annotation() -> None:
    """Short ones as they are; of a long one a digest, since it is kept and shown."""
    assert joe().renewal is None
    assert joe(**{RENEW_INVITE: ""}).renewal == ""
    assert joe(**{RENEW_INVITE: "x" * 63}).renewal == "x" * 63
    assert joe(**{RENEW_INVITE: "x" * 64}).renewal == digest_of("x" * 64)


@pytest.mark.parametrize(
    ("moment", "used", "good"), [(0, False, True), (3599, False, True), (3600, False, False), (0, True, False)]
)
def test_how_long_an_invite_is_good(moment: int, used: bool, good: bool) -> None:
    """Until its end, and until it is used."""
    invite = INVITE.model_copy(update={"consumed": NOW if used else None})
    assert invite.is_good(NOW + timedelta(seconds=moment)) is good
