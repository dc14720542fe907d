"""What goes to the backend and comes back: canonical, lenient to newer versions, strict about meaning."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.errors import InvalidResource
from runtime.core.resources import (
    Origin,
    Resource,
    Role,
    User,
    decode,
    dump,
    dump_all,
    encode,
    key_of,
    load_documents,
)
from runtime.core.resources.model import Model
from tests.unit.core.resources.strategies import declared

USER = User.model_validate({"metadata": {"name": "joe"}, "spec": {"logins": ["joe"]}})


@given(declared(st.none()))
def test_documents_there_and_back(resource: Resource) -> None:
    """What is dumped is loaded as it was, and dumped the same."""
    text = dump(resource)
    assert load_documents(text, source="s") == [resource]
    assert dump(load_documents(text, source="s")[0]) == text


@given(declared(st.none() | st.sampled_from(Origin)))
def test_the_store_there_and_back(value: Model) -> None:
    """What is encoded is decoded as it was, origin included, and encoded to the same bytes."""
    encoded = encode(value)
    assert decode(type(value), encoded) == value
    assert encode(decode(type(value), encoded)) == encoded


def test_the_origin_is_not_in_a_document() -> None:
    """A resource of the store can be applied by anybody: its origin is stored, not shown."""
    stored = USER.with_origin(Origin.KUBERNETES)
    assert decode(User, encode(stored)).metadata.origin is Origin.KUBERNETES
    assert load_documents(dump_all([stored]), source="s") == [USER]


def test_a_newer_version_wrote_it() -> None:
    """Unknown fields are left out when reading the store, at every depth, and refused in a person's document."""
    data = json.loads(encode(USER))
    data |= {"generation": 3}
    data["spec"]["shell"] = "/bin/zsh"
    data["spec"]["invite"] = {"ttl": "1h", "via": "mail"}
    newer = json.dumps(data)
    user = decode(User, newer.encode())
    assert user.spec.logins == ("joe",)
    assert user.spec.invite is not None
    with pytest.raises(InvalidResource) as caught:
        load_documents(newer, source="s")
    assert len(str(caught.value).splitlines()) == 3


def test_a_newer_meaning_is_not_guessed() -> None:
    """A verb that this version does not know is refused: leaving it out of `deny` would allow it."""
    role = {"metadata": {"name": "r"}, "spec": {"deny": {"rules": [{"resources": ["node"], "verbs": ["reboot"]}]}}}
    with pytest.raises(InvalidResource, match=r"stored Role 'r' .*spec\.deny\.rules\[0\]\.verbs\[0\]: expected one of"):
        decode(Role, json.dumps(role).encode())


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b"[" * 100_000, b"3", b"null", b"[]", b'{"kind":"Role"}'])
def test_what_is_not_a_stored_resource(value: bytes) -> None:
    """Any other bytes are refused with one kind of error."""
    with pytest.raises(InvalidResource, match="the stored User"):
        decode(User, value)


def test_the_bytes_are_canonical() -> None:
    """Keys are sorted and defaults written out, so that a later default does not change what is stored."""
    assert encode(USER) == (
        b'{"apiVersion":"teleport.internal/v1","kind":"User","metadata":{"annotations":{},"labels":{},"name":"joe"},'
        b'"spec":{"deletionPolicy":"Delete","driftPolicy":"Correct","logins":["joe"],"roles":[]}}'
    )
    assert key_of(USER) == "resources/User/joe"


def test_generated_roles_live_in_the_store_only() -> None:
    """`user:joe` is a role's name to the cluster and is stored, but no document may have it."""
    role = Role.model_validate({"metadata": {"name": "user:joe"}, "spec": {}})
    assert decode(Role, encode(role)) == role
    with pytest.raises(InvalidResource, match="the cluster makes user: roles itself"):
        load_documents(dump(role), source="s")
    with pytest.raises(ValueError, match="expected a name"):
        Role.model_validate({"metadata": {"name": "user:J"}, "spec": {}})


def test_values_are_frozen() -> None:
    """Nobody changes a resource under another's hands."""
    with pytest.raises(ValueError, match="frozen"):
        USER.metadata = USER.metadata  # type: ignore[misc]  # what mypy refuses is refused at run time, too
