"""The Secret of a token: read, made, or refused, against an API server that keeps objects in a dictionary."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runtime.core.errors import AlreadyExists, CompareFailed, NotFound, Unavailable
from runtime.core.resources import Token, read_object
from teleport_operator.secrets.tokens import MADE_AT, OPT_IN, value_of
from teleport_operator.verdicts.conditions import Reason
from teleport_operator.verdicts.reconciling import Unready

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
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

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

    async def value_of(self, token: Token, uid: str = UID, **beside: str) -> str:
        """Return the value that a token has."""
        return await value_of(self, token, uid, now=self.now, new_value=self.new_value, beside=beside)

    def texts(self, name: str) -> dict[str, str]:
        """Return what a Secret holds."""
        data = self.secrets[f"{SECRETS}/{name}"]["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


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


async def test_what_is_to_be_kept_goes_with_nobody() -> None:
    """It changes with the document, either way, and its value stays; a later token of that name finds it."""
    server = Server()

    def owners() -> list[str]:
        return [each["uid"] for each in server.secrets[f"{SECRETS}/web-token"]["metadata"]["ownerReferences"]]

    value = await server.value_of(token())
    assert owners() == [UID]
    assert await server.value_of(token(deletionPolicy="Keep")) == value
    assert owners() == []
    assert await server.value_of(token(), "another-uid") == value
    assert owners() == ["another-uid"]
    server.secrets[f"{SECRETS}/web-token"]["metadata"]["ownerReferences"].append(
        {"kind": "Pod", "name": "x", "uid": "p"}
    )
    assert await server.value_of(token(deletionPolicy="Keep"), "another-uid") == value
    assert owners() == ["p"]
    kept = Server()
    await kept.value_of(token(deletionPolicy="Keep"))
    assert kept.secrets[f"{SECRETS}/web-token"]["metadata"]["ownerReferences"] == []


async def test_a_secret_of_ones_own_is_not_made_to_go_with_its_token() -> None:
    """Whatever the token's deletionPolicy is."""
    server = Server(web_token=secret())
    for policy in ("Keep", "Delete"):
        assert await server.value_of(token(deletionPolicy=policy)) == VALUE
        assert "ownerReferences" not in server.secrets[f"{SECRETS}/web-token"]["metadata"]


async def test_what_a_node_needs_beside_the_value() -> None:
    """It is in the Secret that was made for the token, from the first or as soon as it is known, and kept current."""
    server = Server()
    value = await server.value_of(token(), caPin="SHA256:a", authServers="auth:3025")
    assert server.texts("web-token") == {"token": value, "caPin": "SHA256:a", "authServers": "auth:3025"}
    assert await server.value_of(token(), caPin="SHA256:b") == value
    assert server.texts("web-token")["caPin"] == "SHA256:b"
    assert await server.value_of(token()) == value
    assert server.texts("web-token")["caPin"] == "SHA256:b"

    later = Server()
    value = await later.value_of(token())
    assert later.texts("web-token") == {"token": value}
    assert await later.value_of(token(), caPin="SHA256:a") == value
    assert later.texts("web-token") == {"token": value, "caPin": "SHA256:a"}


async def test_a_secret_of_ones_own_stays_as_it_is() -> None:
    """What was not made for the token is read only; a key that the document names is the value's, whatever its name."""
    server = Server(web_token=secret())
    before = dict(server.secrets)
    assert await server.value_of(token(), caPin="SHA256:a") == VALUE
    assert server.secrets == before
    named = Server()
    value = await named.value_of(token(secretRef={"name": "x", "key": "caPin"}), caPin="SHA256:a")
    assert named.texts("x") == {"caPin": value}


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


async def test_a_value_that_is_renewed() -> None:
    """When half of the ttl is over there is another, once; without renew the one there is stays."""
    server = Server()
    first = await server.value_of(token(ttl="10h", renew=True), caPin="SHA256:a")
    server.now += timedelta(hours=4, minutes=59)
    assert await server.value_of(token(ttl="10h", renew=True)) == first
    server.now += timedelta(minutes=1)
    assert await server.value_of(token(ttl="10h")) == first
    second = await server.value_of(token(ttl="10h", renew=True))
    assert second != first
    assert server.texts("web-token") == {"token": second, "caPin": "SHA256:a"}
    assert await server.value_of(token(ttl="10h", renew=True)) == second
    server.now += timedelta(hours=5)
    assert await server.value_of(token(ttl="10h", renew=True)) not in {first, second}
    assert server.made == 3


@pytest.mark.parametrize("since", [None, "yesterday", "2026-01-02T03:04:05"], ids=["none", "no time", "no zone"])
async def test_a_value_of_unknown_age_is_renewed(since: str | None) -> None:
    """A Secret from before, or that somebody has changed, gets a value whose age is known."""
    server = Server()
    first = await server.value_of(token())
    marks = server.secrets[f"{SECRETS}/web-token"]["metadata"]["annotations"]
    marks.pop(MADE_AT) if since is None else marks.update({MADE_AT: since})
    second = await server.value_of(token(renew=True))
    assert second != first
    assert await server.value_of(token(renew=True)) == second


async def test_a_renewal_that_is_crossed_begins_again() -> None:
    """Somebody changes the Secret meanwhile: the value that counts is the one that was stored."""
    server = Server()
    await server.value_of(token(ttl="10h", renew=True))
    server.now += timedelta(hours=6)
    server.crossed = 2
    value = await server.value_of(token(ttl="10h", renew=True))
    assert server.texts("web-token") == {"token": value}


async def test_a_value_that_a_person_picked_is_never_renewed() -> None:
    """What was not made here is not changed here."""
    server = Server(web_token=secret())
    assert await server.value_of(token(ttl="1m", renew=True)) == VALUE
    assert server.made == 0
