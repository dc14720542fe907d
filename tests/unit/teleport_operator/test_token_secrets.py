"""The Secret of a token: read, made, or refused, against an API server that keeps objects in a dictionary."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from runtime.core.errors import AlreadyExists, CompareFailed, NotFound, Unavailable
from runtime.core.resources import Token, read_object
from teleport_operator.conditions import Reason
from teleport_operator.reconciling import Unready
from teleport_operator.token_secrets import OPT_IN, value_of

VALUE = "1f0e2d3c4b5a69788796a5b4c3d2e1f0"
SECRETS = "/api/v1/namespaces/team/secrets"
UID = "d52527f9"


def token(**spec: Any) -> Token:
    """Return the document of token web."""
    metadata = {"name": "web", "namespace": "team"}
    data = {"apiVersion": "teleport.internal/v1", "kind": "Token", "metadata": metadata}
    found = read_object({**data, "spec": {"roles": ["node"], **spec}}, source="test")
    assert isinstance(found, Token)
    return found


class Server:
    """Keeps Secrets, by path; what is in `missed` is not found that often although it is there."""

    def __init__(self, **secrets: dict[str, Any]) -> None:
        self.secrets = {f"{SECRETS}/{name.replace('_', '-')}": secret for name, secret in secrets.items()}
        self.missed = 0
        self.crossed = 0
        self.made = 0

    async def get(self, path: str) -> dict[str, Any]:
        """Return a Secret."""
        if self.missed:
            self.missed -= 1
            raise NotFound(path)
        if path not in self.secrets:
            raise NotFound(path)
        return self.secrets[path]

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a Secret, as the API server does with stringData."""
        path = f"{path}/{body['metadata']['name']}"
        if path in self.secrets:
            raise AlreadyExists(path)
        data = {key: base64.b64encode(value.encode()).decode() for key, value in body["stringData"].items()}
        self.secrets[path] = {"metadata": body["metadata"], "data": data}
        return self.secrets[path]

    async def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a Secret."""
        if self.crossed:
            self.crossed -= 1
            raise CompareFailed(path)
        self.secrets[path] = dict(body)
        return self.secrets[path]

    def new_value(self) -> str:
        """Return a value and count it."""
        self.made += 1
        return f"{VALUE[:-1]}{self.made}"

    async def value_of(self, token: Token, uid: str = UID) -> str:
        """Return the value that a token has."""
        return await value_of(self, token, uid, new_value=self.new_value)


def secret(value: str = VALUE, *, key: str = "token", labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a Secret as the API server gives it."""
    data = {key: base64.b64encode(value.encode()).decode()}
    return {"metadata": {"labels": {OPT_IN: "true"} if labels is None else labels}, "data": data}


async def test_a_secret_that_is_there_is_read() -> None:
    """By the name that the document gives, or NAME-token; a line end at its end is not part of the value."""
    server = Server(mine=secret(f"{VALUE}\n", key="x"), web_token=secret(VALUE[::-1]))
    assert await server.value_of(token(secretRef={"name": "mine", "key": "x"})) == VALUE
    assert await server.value_of(token()) == VALUE[::-1]
    assert server.made == 0


async def test_a_secret_that_is_missing_is_made_once() -> None:
    """It goes with its Token, and opts in."""
    server = Server()
    value = await server.value_of(token())
    assert await server.value_of(token()) == value
    metadata = server.secrets[f"{SECRETS}/web-token"]["metadata"]
    assert metadata["labels"] == {OPT_IN: "true"}
    assert [(each["kind"], each["name"], each["uid"]) for each in metadata["ownerReferences"]] == [
        ("Token", "web", UID)
    ]


async def test_somebody_else_makes_it_meanwhile() -> None:
    """Theirs counts."""
    server = Server(web_token=secret())
    server.missed = 1
    assert await server.value_of(token()) == VALUE


async def test_a_key_that_the_document_names_later() -> None:
    """In a Secret that was made for the token, a new key gets a value, whoever else writes it."""
    server = Server()
    first = await server.value_of(token())
    server.crossed = 1
    second = await server.value_of(token(secretRef={"name": "web-token", "key": "other"}))
    assert second != first
    assert await server.value_of(token()) == first


async def test_a_secret_that_never_holds_still() -> None:
    """It is left for later."""
    server = Server()
    await server.value_of(token())
    server.crossed = 100
    with pytest.raises(Unavailable, match="was changed by others"):
        await server.value_of(token(secretRef={"name": "web-token", "key": "other"}))


@pytest.mark.parametrize(
    ("found", "reason", "message"),
    [
        (secret(labels={}), Reason.SECRET_NOT_OPTED_IN, "does not say that documents may refer to it"),
        (secret(labels={OPT_IN: "yes"}), Reason.SECRET_NOT_OPTED_IN, "does not say"),
        (secret(key="tokn"), Reason.SECRET_INVALID, "has no key token"),
        (secret("short"), Reason.SECRET_INVALID, "a token needs 16"),
        ({**secret(), "data": {"token": "/w=="}}, Reason.SECRET_INVALID, "is no text"),
        ({**secret(), "data": None}, Reason.SECRET_INVALID, "has no key"),
    ],
)
async def test_a_secret_that_is_not_to_be_used(found: dict[str, Any], reason: Reason, message: str) -> None:
    """The condition says what is wrong with it, never what is in it; it is left as it is."""
    server = Server(web_token=found)
    with pytest.raises(Unready, match=message) as caught:
        await server.value_of(token())
    assert caught.value.reason is reason
    assert "short" not in str(caught.value)
    assert server.secrets == {f"{SECRETS}/web-token": found}


async def test_the_secret_of_an_earlier_token() -> None:
    """Its value ended with that one: the new token waits until Kubernetes has deleted it."""
    server = Server()
    await server.value_of(token())
    with pytest.raises(Unavailable, match="belongs to an earlier Token"):
        await server.value_of(token(), uid="another")
