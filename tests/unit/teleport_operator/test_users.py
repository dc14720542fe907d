"""What a User document does to the backend, and what it leaves alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import kopf
import pytest

from runtime.backend.base import Item
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied, InvalidResource, NotFound, TeleportError, Unavailable
from runtime.core.resources import Origin, User, decode, encode, key_of
from teleport_operator import users
from teleport_operator.conditions import Reason
from teleport_operator.handlers.users import RETRY_SECONDS, as_kopf_error, read_user, reason_of, report

CLOCK = ManualClock(datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC))


def user(*logins: str, namespace: str = "teleport", adopt: bool = False) -> User:
    """Return the document of user joe."""
    annotations = {"teleport.internal/adopt": "true"} if adopt else {}
    metadata = {"name": "joe", "namespace": namespace, "annotations": annotations}
    return User.model_validate({"metadata": metadata, "spec": {"logins": list(logins)}})


KEY = key_of(user("joe"))


@pytest.fixture
async def backend() -> AsyncIterator[MemoryBackend]:
    """Open an empty backend."""
    opened = MemoryBackend(clock=CLOCK)
    yield opened
    await opened.close()


async def stored(backend: MemoryBackend) -> User:
    """Return user joe as the backend holds him."""
    return decode(User, (await backend.get(KEY)).value)


async def test_a_new_user_is_written_with_its_origin(backend: MemoryBackend) -> None:
    """The backend gets the document, marked as declared by Kubernetes."""
    assert await users.apply(backend, user("joe"))
    assert await stored(backend) == user("joe").with_origin(Origin.KUBERNETES)


async def test_the_same_document_again_writes_nothing(backend: MemoryBackend) -> None:
    """A second look changes no revision, so that nobody who watches is woken."""
    await users.apply(backend, user("joe"))
    before = await backend.get(KEY)
    assert not await users.apply(backend, user("joe"))
    assert await backend.get(KEY) == before


async def test_a_changed_document_is_written(backend: MemoryBackend) -> None:
    """What the document says now replaces what it said."""
    await users.apply(backend, user("joe", "root"))
    assert await users.apply(backend, user("joe"))
    assert (await stored(backend)).spec.logins == ("joe",)


@pytest.mark.parametrize(
    "theirs",
    [user("ann").with_origin(Origin.TCTL), user("ann"), user("ann", namespace="other").with_origin(Origin.KUBERNETES)],
    ids=["of tctl", "of nobody known", "of another namespace"],
)
async def test_what_another_declared_is_left_alone(backend: MemoryBackend, theirs: User) -> None:
    """Neither apply nor remove touches it; with the annotation, apply takes it over."""
    await backend.put(KEY, encode(theirs))
    with pytest.raises(AccessDenied, match="user joe is declared by"):
        await users.apply(backend, user("joe"))
    assert not await users.remove(backend, "joe", "teleport")
    assert await stored(backend) == theirs
    assert await users.apply(backend, user("joe", adopt=True))
    assert (await stored(backend)).metadata.origin is Origin.KUBERNETES


async def test_removing(backend: MemoryBackend) -> None:
    """The user is gone; removing nothing is no error."""
    await users.apply(backend, user("joe"))
    assert await users.remove(backend, "joe", "teleport")
    with pytest.raises(NotFound):
        await backend.get(KEY)
    assert not await users.remove(backend, "joe", "teleport")


class Contended(MemoryBackend):
    """A backend in which somebody else's write comes between each read and what follows it, so many times."""

    crossings = 0

    async def get(self, key: str) -> Item:
        """Return the item, which is changed at once."""
        item = await super().get(key)
        if self.crossings:
            self.crossings -= 1
            await self.put(key, item.value)
        return item


@pytest.fixture
async def contended() -> AsyncIterator[Contended]:
    """Open a backend that holds user joe."""
    opened = Contended(clock=CLOCK)
    await users.apply(opened, user("root"))
    yield opened
    await opened.close()


async def test_a_crossed_write_is_decided_anew(contended: Contended) -> None:
    """One write too few times lost is a write that is made in the end."""
    contended.crossings = users.ATTEMPTS - 1
    assert await users.apply(contended, user("joe"))
    contended.crossings = users.ATTEMPTS - 1
    assert await users.remove(contended, "joe", "teleport")


async def test_a_write_that_is_crossed_for_ever_is_left_for_later(contended: Contended) -> None:
    """Nothing is forced: it ends as Unavailable, which the operator tries again after."""
    contended.crossings = users.ATTEMPTS
    with pytest.raises(Unavailable):
        await users.apply(contended, user("joe"))
    contended.crossings = users.ATTEMPTS
    with pytest.raises(Unavailable):
        await users.remove(contended, "joe", "teleport")
    assert (await stored(contended)).spec.logins == ("root",)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidResource("no"), Reason.INVALID),
        (AccessDenied("no"), Reason.OTHER_OWNER),
    ],
)
def test_what_only_a_person_can_mend_is_permanent(error: TeleportError, reason: Reason) -> None:
    """Kopf does not try a wrong document again until it changes; the condition says what is wrong."""
    assert isinstance(as_kopf_error(error), kopf.PermanentError)
    assert reason_of(error) is reason


def test_a_backend_that_is_away_is_tried_again() -> None:
    """Kopf tries again, after a pause that is ours and not its hard-coded minute."""
    error = as_kopf_error(Unavailable("etcd did not answer", hint="Is it up?"))
    assert isinstance(error, kopf.TemporaryError)
    assert error.delay == RETRY_SECONDS
    assert str(error) == "etcd did not answer. Is it up?"
    assert reason_of(Unavailable("")) is Reason.BACKEND_UNAVAILABLE


def test_a_document_from_the_api_server_is_read() -> None:
    """What Kubernetes and kopf add to a document is not part of the user."""
    body = {
        "apiVersion": "teleport.internal/v1",
        "kind": "User",
        "metadata": {
            "name": "joe",
            "namespace": "teleport",
            "uid": "1",
            "generation": 2,
            "finalizers": ["teleport.internal/operator"],
            "annotations": {"kopf.zalando.org/last-handled-configuration": "{}"},
        },
        "spec": {"logins": ["joe"]},
        "status": {"observedGeneration": 1},
    }
    assert read_user(body) == user("joe")
    assert report(Reason.RECONCILED, "done", body, CLOCK)["observedGeneration"] == 2


def test_a_document_that_is_wrong_is_refused() -> None:
    """The error names the path within the document."""
    body = {"apiVersion": "teleport.internal/v1", "kind": "User", "metadata": {"name": "joe"}, "spec": {"logins": [""]}}
    with pytest.raises(InvalidResource, match=r"spec\.logins\[0\]"):
        read_user(body)
