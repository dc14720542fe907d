"""Declared resources and their origins, on the memory backend."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from runtime.auth.declared import Declared
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import AlreadyExists, CompareFailed, InvalidInput, NotFound
from runtime.core.resources import Origin, Resource, User, load_documents

JOE = """
apiVersion: teleport.internal/v1
kind: User
metadata: {name: joe}
spec: {logins: [LOGIN]}
"""
ADOPT = JOE.replace("{name: joe}", '{name: joe, annotations: {teleport.internal/adopt: "true"}}')


def document(login: str, origin: Origin, text: str = JOE) -> Resource:
    """Return the user joe as that origin declares it."""
    (resource,) = load_documents(text.replace("LOGIN", login), source="test")
    return resource.with_origin(origin)


def declared() -> Declared:
    """Return an empty store."""
    return Declared(MemoryBackend(clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC))))


async def test_what_was_written_is_read() -> None:
    """A resource is read as it was written, origin and all; a second creation is refused."""
    store = declared()
    await store.create(document("joe", Origin.TCTL))
    joe = await store.get(User, "joe")
    assert joe.metadata.id
    assert joe.as_kept(None) == document("joe", Origin.TCTL)
    assert [user.name for user in await store.all(User)] == ["joe"]
    with pytest.raises(AlreadyExists, match="user joe exists already"):
        await store.create(document("root", Origin.TCTL))


async def test_a_stale_write_is_refused() -> None:
    """Of two who read the same revision, the second to write is told."""
    store = declared()
    read = await store.create(document("joe", Origin.TCTL))
    await store.write(document("root", Origin.TCTL), revision=read.revision, overwrite=False)
    with pytest.raises(CompareFailed):
        await store.write(document("ann", Origin.TCTL), revision=read.revision, overwrite=False)
    await store.write(document("ann", Origin.TCTL), revision=0, overwrite=True)
    assert (await store.get(User, "joe")).spec.logins == ("ann",)


async def test_one_origin_does_not_overwrite_anothers() -> None:
    """What Kubernetes declares, tctl neither changes nor deletes, until the document says adopt."""
    store = declared()
    await store.create(document("joe", Origin.KUBERNETES))
    with pytest.raises(CompareFailed, match="declared by kubernetes") as caught:
        await store.write(document("root", Origin.TCTL), revision=0, overwrite=True)
    assert "teleport.internal/adopt" in caught.value.hint
    with pytest.raises(CompareFailed):
        await store.remove("User", "joe", Origin.TCTL)
    assert (await store.get(User, "joe")).spec.logins == ("joe",)
    await store.write(document("root", Origin.TCTL, ADOPT), revision=0, overwrite=True)
    assert (await store.remove("User", "joe", Origin.TCTL)).name == "joe"


async def test_what_is_missing_or_unknown_is_told() -> None:
    """A name that is not there and a kind that does not exist are different mistakes."""
    store = declared()
    with pytest.raises(NotFound, match="there is no user joe"):
        await store.get(User, "joe")
    with pytest.raises(NotFound):
        await store.remove("User", "joe", Origin.TCTL)
    for kind in ("Usr", "authority", "../secrets"):
        with pytest.raises(InvalidInput, match="there is no kind"):
            await store.documents(kind)


async def test_changes_are_followed() -> None:
    """A follower sees the present and then each change."""
    store = declared()
    await store.create(document("joe", Origin.TCTL))
    async with aclosing(store.follow("User")) as events:
        first = await anext(events)
        assert first.snapshot is not None
        assert len(first.snapshot) == 1
        await store.write(document("root", Origin.TCTL), revision=0, overwrite=True)
        changed = (await anext(events)).put
        assert changed is not None
        assert '"root"' in changed.document
        await store.remove("User", "joe", Origin.TCTL)
        assert (await anext(events)).deleted == "joe"
