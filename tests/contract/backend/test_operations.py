"""What each method does, returns and raises."""

from __future__ import annotations

import asyncio

import pytest

from runtime.backend.base import Backend, Item
from runtime.core.errors import AlreadyExists, CompareFailed, NotFound, TeleportError, Unavailable
from tests.contract.backend.harness import Store, heavy

KEY = "resources/User/joe"
MANY = 10_000


async def test_get_returns_what_put_wrote(backend: Backend) -> None:
    """With the revision that put returned."""
    item = await backend.put(KEY, b"one")
    assert item == Item(KEY, b"one", item.revision)
    assert await backend.get(KEY) == item


async def test_get_of_an_absent_key_is_not_found(backend: Backend) -> None:
    """Also when longer and shorter keys are there."""
    await backend.put(f"{KEY}/x", b"")
    await backend.put("resources/User/jo", b"")
    with pytest.raises(NotFound, match="resources/User/joe"):
        await backend.get(KEY)


async def test_put_overwrites_with_a_higher_revision(backend: Backend) -> None:
    """Also when the value is the same."""
    first = await backend.put(KEY, b"one")
    second = await backend.put(KEY, b"one")
    assert second.revision > first.revision
    assert await backend.get(KEY) == second


async def test_create_refuses_a_key_that_is_there(backend: Backend) -> None:
    """AlreadyExists, the item is as it was; after delete it can be created again, with a higher revision."""
    first = await backend.create(KEY, b"one")
    with pytest.raises(AlreadyExists, match="resources/User/joe"):
        await backend.create(KEY, b"two")
    assert await backend.get(KEY) == first
    await backend.delete(KEY)
    assert (await backend.create(KEY, b"two")).revision > first.revision


async def test_compare_and_swap_replaces_only_the_revision_it_was_given(backend: Backend) -> None:
    """The stale one, one that never was and an absent key are CompareFailed and change nothing."""
    first = await backend.create(KEY, b"one")
    second = await backend.compare_and_swap(KEY, b"two", revision=first.revision)
    assert second.revision > first.revision
    for revision in (first.revision, second.revision + 1000, 0, -1):
        with pytest.raises(CompareFailed, match="resources/User/joe"):
            await backend.compare_and_swap(KEY, b"three", revision=revision)
    assert await backend.get(KEY) == second
    for revision in (second.revision, 0):
        with pytest.raises(CompareFailed):
            await backend.compare_and_swap("resources/User/absent", b"", revision=revision)
    with pytest.raises(NotFound):
        await backend.get("resources/User/absent")


async def test_compare_and_swap_fails_once_the_item_was_deleted_and_made_again(backend: Backend) -> None:
    """The same value at another revision is another version."""
    first = await backend.create(KEY, b"one")
    await backend.delete(KEY)
    with pytest.raises(CompareFailed):
        await backend.compare_and_swap(KEY, b"two", revision=first.revision)
    await backend.create(KEY, b"one")
    with pytest.raises(CompareFailed):
        await backend.compare_and_swap(KEY, b"two", revision=first.revision)


async def test_delete_removes_the_item(backend: Backend) -> None:
    """A second time it is NotFound."""
    await backend.put(KEY, b"one")
    await backend.delete(KEY)
    with pytest.raises(NotFound):
        await backend.get(KEY)
    with pytest.raises(NotFound, match="resources/User/joe"):
        await backend.delete(KEY)


async def test_delete_with_a_revision_removes_only_that_one(backend: Backend) -> None:
    """A stale revision and an absent key are CompareFailed; the current one goes."""
    first = await backend.put(KEY, b"one")
    second = await backend.put(KEY, b"two")
    with pytest.raises(CompareFailed, match="resources/User/joe"):
        await backend.delete(KEY, revision=first.revision)
    assert await backend.get(KEY) == second
    await backend.delete(KEY, revision=second.revision)
    with pytest.raises(CompareFailed):
        await backend.delete(KEY, revision=second.revision)


async def test_revisions_of_a_space_rise_with_every_write(backend: Backend) -> None:
    """Whatever the key and the method; a Snapshot's revision is at least that of all it holds, and includes deletes."""
    one = await backend.put("resources/a", b"")
    two = await backend.create("resources/b", b"")
    three = await backend.compare_and_swap("resources/a", b"", revision=one.revision)
    four = await backend.put("resources/c", b"")
    before = await backend.range("resources/")
    await backend.delete("resources/c")
    after = await backend.range("resources/")
    assert one.revision < two.revision < three.revision < four.revision <= before.revision < after.revision
    assert before.items == (three, two, four)
    assert after.items == (three, two)


async def test_range_of_an_empty_prefix_is_empty(backend: Backend) -> None:
    """Before the first write of a space, too."""
    assert (await backend.range("resources/User/")).items == ()


@heavy
async def test_range_gives_all_of_many_items(backend: Backend) -> None:
    """10,000 items, complete and in order: no page is lost."""
    numbers = iter(range(MANY))

    async def fill() -> None:
        for number in numbers:
            await backend.put(f"resources/Node/{number:05}", str(number).encode())

    await asyncio.gather(*(fill() for _ in range(50)))
    items = (await backend.range("resources/Node/")).items
    assert [(item.key, item.value) for item in items] == [
        (f"resources/Node/{number:05}", str(number).encode()) for number in range(MANY)
    ]


async def test_every_backend_on_a_store_sees_the_same(store: Store) -> None:
    """What one wrote, the other reads at once."""
    one, other = await store.open(), await store.open()
    item = await one.put(KEY, b"one")
    assert await other.get(KEY) == item
    swapped = await other.compare_and_swap(KEY, b"two", revision=item.revision)
    assert (await one.range("resources/")).items == (swapped,)


async def test_what_was_written_outlives_the_backend(store: Store) -> None:
    """Closing twice is fine, and the next backend finds the item."""
    backend = await store.open()
    item = await backend.put(KEY, b"one")
    await backend.close()
    await backend.close()
    assert await (await store.open()).get(KEY) == item


async def test_a_closed_backend_says_so(store: Store) -> None:
    """Unavailable, not a hang nor a library's error."""
    backend = await store.open()
    await backend.close()
    with pytest.raises(Unavailable, match=store.name):
        await backend.get(KEY)
    with pytest.raises(Unavailable, match=store.name):
        await backend.put(KEY, b"")
    with pytest.raises(Unavailable, match=store.name):
        await backend.range("resources/")


async def test_errors_below_secrets_do_not_show_the_key(backend: Backend) -> None:
    """The name of a secret can be the secret itself, as a token's."""
    key = "secrets/token/s3cr3t"
    errors: list[TeleportError] = []
    for call in (
        backend.get(key),
        backend.delete(key),
        backend.delete(key, revision=1),
        backend.compare_and_swap(key, b"", revision=1),
    ):
        with pytest.raises(TeleportError) as caught:
            await call
        errors.append(caught.value)
    await backend.create(key, b"")
    with pytest.raises(AlreadyExists) as caught:
        await backend.create(key, b"")
    errors.append(caught.value)
    assert not [error for error in errors if "s3cr3t" in f"{error} {error.hint} {error.__cause__!r}"]
