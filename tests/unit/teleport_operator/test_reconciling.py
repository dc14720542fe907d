"""What a document does to the backend, what it leaves alone, and what is then said of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf
import pytest

from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied, InvalidResource, TeleportError, Unavailable
from runtime.core.resources import Origin, Resource, Token, encode, key_of
from teleport_operator.handlers.edge import as_kopf_error
from teleport_operator.verdicts.conditions import Reason
from teleport_operator.verdicts.reconciling import (
    Given,
    Unready,
    Verdict,
    declare,
    failed,
    forget,
    read_document,
    reason_of,
)
from tests.unit.teleport_operator.declared import document, user

CLOCK = ManualClock(datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC))
VALUE = "1f0e2d3c4b5a69788796a5b4c3d2e1f0"


ROLE = document("Role", "dev", allow={"logins": ["dev"]})
TOKEN = document("Token", "web", roles=["node"], ttl="5m", maxUses=3)


@pytest.fixture
async def backend() -> AsyncIterator[MemoryBackend]:
    """Open an empty backend."""
    opened = MemoryBackend(clock=CLOCK)
    yield opened
    await opened.close()


def said(verdict: Verdict) -> dict[str, tuple[bool, str]]:
    """Return status and reason of each condition but that of a user's invite, which has tests of its own."""
    told = {each.type: (each.status, each.reason.value) for each in verdict.conditions}
    told.pop("InviteReady", None)
    return told


async def stored(backend: MemoryBackend) -> dict[str, bytes]:
    """Return all documents in the backend."""
    return {item.key: item.value for item in (await backend.range("resources/")).items}


@pytest.mark.parametrize("resource", [user(), ROLE], ids=["User", "Role"])
async def test_a_document_from_its_first_to_its_last_day(backend: MemoryBackend, resource: Resource) -> None:
    """Written with its origin, left as it is by a second look, and forgotten; forgetting twice is no error."""
    verdict = await declare(backend, CLOCK, resource)
    assert said(verdict) == {"Synced": (True, "Reconciled"), "Ready": (True, "Reconciled")}
    assert (verdict.result, verdict.again) == ("written", False)
    held = await backend.get(key_of(resource))
    assert held.value == encode(resource.with_origin(Origin.KUBERNETES))
    assert (await declare(backend, CLOCK, resource)).result == "unchanged"
    assert await backend.get(key_of(resource)) == held
    for writes in (True, False):
        step = await forget(backend, CLOCK, resource.kind, resource.name, "team")
        assert step.writes is writes
    assert await stored(backend) == {}


@pytest.mark.parametrize(
    "theirs",
    [user("ann").with_origin(Origin.TCTL), user("ann"), user("ann", namespace="other").with_origin(Origin.KUBERNETES)],
    ids=["of tctl", "of nobody known", "of another namespace"],
)
async def test_what_another_declared_is_left_alone(backend: MemoryBackend, theirs: Resource) -> None:
    """The conditions say whose it is, and it is looked at again: they may give it up. With adopt it is taken over."""
    await backend.put(key_of(theirs), encode(theirs))
    verdict = await declare(backend, CLOCK, user())
    assert said(verdict) == {"Synced": (False, "OwnedByAnother"), "Ready": (False, "OwnedByAnother")}
    assert "user joe is declared by" in verdict.ready.message
    assert "teleport.internal/adopt" in verdict.ready.message
    assert verdict.result == "refused"
    assert verdict.waits
    assert not (await forget(backend, CLOCK, "User", "joe", "team")).writes
    assert await stored(backend) == {key_of(theirs): encode(theirs)}
    assert (await declare(backend, CLOCK, user(adopt=True))).ready.status


async def test_a_role_that_does_not_exist(backend: MemoryBackend) -> None:
    """The user is in the backend, and not Ready until the role is there, for which it is looked at again."""
    verdict = await declare(backend, CLOCK, user(roles=("dev",)))
    assert said(verdict) == {"Synced": (True, "Reconciled"), "Ready": (False, "RoleNotFound")}
    assert verdict.ready.message == "has the role dev, which does not exist: may do nothing until it does"
    assert verdict.waits
    await declare(backend, CLOCK, ROLE)
    verdict = await declare(backend, CLOCK, user(roles=("dev",)))
    assert (verdict.ready.status, verdict.result, verdict.waits) == (True, "unchanged", False)


async def test_a_token(backend: MemoryBackend) -> None:
    """Good from when its value was first seen; its status has the end and the uses, and says when it is over."""
    verdict = await declare(backend, CLOCK, TOKEN, Given(value=VALUE))
    assert verdict.ready.status
    assert verdict.fields == {"expires": "2027-01-02T03:09:05Z", "uses": 0}
    assert VALUE.encode() not in b"".join((await stored(backend)).values())
    later = ManualClock(CLOCK.now() + timedelta(minutes=5))
    verdict = await declare(backend, later, TOKEN, Given(value=VALUE))
    assert said(verdict) == {"Synced": (True, "Reconciled"), "Ready": (False, "Expired")}
    assert (verdict.result, verdict.waits) == ("unchanged", False)
    assert isinstance(TOKEN, Token)


async def test_a_trusted_cluster_without_its_secret(backend: MemoryBackend) -> None:
    """It is kept, and says of itself what it lacks; with the Secret it is as declared."""
    cluster = document("TrustedCluster", "main", proxy={"tunnelAddr": "main:3024"}, caSecretRef={"name": "ca"})
    missing = Given(trouble=Unready(Reason.SECRET_NOT_FOUND, "there is no Secret ca"))
    verdict = await declare(backend, CLOCK, cluster, missing)
    assert said(verdict) == {"Synced": (True, "Reconciled"), "Ready": (False, "SecretNotFound")}
    assert verdict.again
    verdict = await declare(backend, CLOCK, cluster, Given(value='{"ca": "ssh-ed25519 AAAA"}'))
    assert said(verdict) == {"Synced": (True, "Reconciled"), "Ready": (True, "Reconciled")}


async def test_what_cannot_be_read_is_left_for_a_newer_version(backend: MemoryBackend) -> None:
    """Neither overwritten nor forgotten."""
    await backend.put("resources/User/joe", b"{}")
    assert said(await declare(backend, CLOCK, user()))["Ready"] == (False, "Unreadable")
    with pytest.raises(InvalidResource, match="cannot be read"):
        await forget(backend, CLOCK, "User", "joe", "team")
    assert await stored(backend) == {"resources/User/joe": b"{}"}


async def test_a_thousand_documents_unchanged_write_nothing(backend: MemoryBackend) -> None:
    """A cold start reads."""
    documents = [document("User", f"u{number}", logins=["x"]) for number in range(1000)]
    for each in documents:
        await declare(backend, CLOCK, each)
    before = await backend.range("resources/")
    for each in documents:
        assert (await declare(backend, CLOCK, each)).result == "unchanged"
    assert await backend.range("resources/") == before


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason", "permanent"),
    [
        (InvalidResource("no"), "InvalidDocument", True),
        (Unready(Reason.SECRET_NOT_OPTED_IN, "no"), "SecretNotOptedIn", False),
        (AccessDenied("no"), "PermissionDenied", False),
        (Unavailable("no"), "Unavailable", False),
    ],
)
def test_what_an_error_means(error: TeleportError, reason: str, permanent: bool) -> None:
    """Only a document that is wrong is not tried again until it changes; the conditions say what is wrong."""
    ended = as_kopf_error(error, 0)
    assert isinstance(ended, kopf.PermanentError) is permanent
    if isinstance(ended, kopf.TemporaryError):
        assert ended.delay is not None
        assert 1 < ended.delay < 10
    assert reason_of(error) == reason
    verdict = failed(error)
    assert (verdict.result, verdict.ready.status, verdict.ready.reason) == ("failed", False, reason)


def test_a_hint_is_part_of_the_message() -> None:
    """What happened, and what to do next."""
    assert (
        failed(Unavailable("etcd did not answer", hint="Is it up?")).ready.message == "etcd did not answer. Is it up?"
    )


def body(kind: str = "User", **spec: Any) -> dict[str, Any]:
    """Return an object as the API server and kopf keep it."""
    return {
        "apiVersion": "teleport.internal/v1",
        "kind": kind,
        "metadata": {
            "name": "joe",
            "namespace": "team",
            "uid": "1",
            "generation": 2,
            "finalizers": ["teleport.internal/operator"],
            "annotations": {"kopf.zalando.org/last-handled-configuration": "{}"},
        },
        "spec": spec,
        "status": {"observedGeneration": 1},
    }


def test_a_document_from_the_api_server_is_read() -> None:
    """What Kubernetes and kopf add to a document is not part of it."""
    assert read_document(body(logins=["joe"], roles=[]), "User") == user()


def test_a_document_that_is_wrong_is_refused() -> None:
    """The error names the path within the document; one of another kind is none."""
    with pytest.raises(InvalidResource, match=r"spec\.logins\[0\]"):
        read_document(body(logins=[""]), "User")
    with pytest.raises(InvalidResource, match="of kind User, not Role"):
        read_document(body(logins=["joe"]), "Role")
