"""What every backend stores verbatim, and what every backend refuses before it sends anything."""

from __future__ import annotations

import pytest

from runtime.backend.base import MAX_VALUE_BYTES, Backend
from runtime.core.errors import InvalidKey, InvalidValue
from runtime.core.keys import MAX_KEY_BYTES
from tests.contract.backend.harness import values

LONGEST_KEY = "resources/" + "k" * (MAX_KEY_BYTES - len("resources/"))

NASTY_KEYS = [
    "resources/a",
    "resources/a/b",
    "resources/ab",
    "resources/a.b",
    "resources/A",
    "resources/..",
    "resources/../..",
    "resources/.",
    "resources/%2F",
    "resources/%00%s{}$(id)`id`",
    "resources/'; DROP TABLE items; --",
    'resources/"quoted"\\back',
    "resources/ leading and trailing ",
    "resources/*?[a-z]_%",
    "resources/#:=&+|,;<>!~^",
    "resources/\u00fcn\u00efc\u00f6d\u00e9",
    "resources/u\u0308",  # the same letter as the next to an eye, not to a store
    "resources/\u00fc",
    "resources/\u65e5\u672c\u8a9e",
    "resources/\U0001f511\U0010ffff",
    "resources/\uffff",
    "resources/\u202eright to left",
    LONGEST_KEY,
    "resources/" + "\U0001f511" * ((MAX_KEY_BYTES - len("resources/")) // 4),
]

REFUSED_KEYS = [
    "",
    "resources",
    "/",
    "/resources/a",
    "resources/",
    "resources//a",
    "resources/a/",
    "Resources/a",
    "re sources/a",
    "../a",
    "\u00fc/a",
    "resources/a\x00b",
    "resources/a\nb",
    "resources/a\x7f",
    "resources/a\x85",
    "resources/\ud800",
    LONGEST_KEY + "k",
    "resources/" + "\U0001f511" * 250,
]

REFUSED_PREFIXES = ["", "/", "resources", "resources/a", "resources//", "//", "resources/a\x00/", "resources/\udfff/"]

NASTY_VALUES = [b"", b"\x00", bytes(range(256)), b"\xff\xfe invalid UTF-8", b"x" * 300_000, b"\x00" * MAX_VALUE_BYTES]


@pytest.mark.parametrize("key", REFUSED_KEYS, ids=ascii)
async def test_a_key_outside_the_rules_is_refused_by_every_method(backend: Backend, key: str) -> None:
    """InvalidKey, and nothing was stored."""
    with pytest.raises(InvalidKey):
        await backend.get(key)
    with pytest.raises(InvalidKey):
        await backend.put(key, b"")
    with pytest.raises(InvalidKey):
        await backend.create(key, b"")
    with pytest.raises(InvalidKey):
        await backend.compare_and_swap(key, b"", revision=1)
    with pytest.raises(InvalidKey):
        await backend.delete(key)
    assert (await backend.range("resources/")).items == ()


@pytest.mark.parametrize("prefix", REFUSED_PREFIXES, ids=ascii)
async def test_a_prefix_outside_the_rules_is_refused(backend: Backend, prefix: str) -> None:
    """InvalidKey from range, and from the first step of watch."""
    with pytest.raises(InvalidKey):
        await backend.range(prefix)
    with pytest.raises(InvalidKey):
        await anext(backend.watch(prefix))


async def test_every_accepted_key_is_stored_verbatim(backend: Backend) -> None:
    """No two keys meet, whatever they look like, and range gives them in the order of their UTF-8 bytes."""
    expected = {key: f"value of {number}".encode() for number, key in enumerate(NASTY_KEYS)}
    for key, value in expected.items():
        await backend.create(key, value)
    for key, value in expected.items():
        item = await backend.get(key)
        assert (item.key, item.value) == (key, value)
    items = (await backend.range("resources/")).items
    assert [item.key for item in items] == sorted(NASTY_KEYS, key=str.encode)
    assert values(items) == expected


@pytest.mark.parametrize("value", NASTY_VALUES, ids=lambda value: f"{len(value)} bytes")
async def test_every_value_up_to_the_limit_comes_back_as_it_was(backend: Backend, value: bytes) -> None:
    """By create, put, compare-and-swap, get and range alike."""
    created = await backend.create("resources/a", value)
    assert created.value == value
    assert (await backend.get("resources/a")).value == value
    other = await backend.put("resources/a", b"other")
    swapped = await backend.compare_and_swap("resources/a", value, revision=other.revision)
    assert swapped.value == value
    assert (await backend.range("resources/")).items == (swapped,)


async def test_a_value_above_the_limit_is_refused(backend: Backend) -> None:
    """InvalidValue from all that write, and what was there stays."""
    item = await backend.put("resources/a", b"small")
    value = b"x" * (MAX_VALUE_BYTES + 1)
    with pytest.raises(InvalidValue, match=str(MAX_VALUE_BYTES)):
        await backend.put("resources/a", value)
    with pytest.raises(InvalidValue):
        await backend.create("resources/b", value)
    with pytest.raises(InvalidValue):
        await backend.compare_and_swap("resources/a", value, revision=item.revision)
    assert (await backend.range("resources/")).items == (item,)


async def test_the_longest_key_holds_the_largest_value(backend: Backend) -> None:
    """Both limits at once."""
    item = await backend.put(LONGEST_KEY, b"x" * MAX_VALUE_BYTES)
    assert await backend.get(LONGEST_KEY) == item


async def test_a_prefix_ends_at_its_slash(backend: Backend) -> None:
    """resources/a/ does not see resources/a, resources/ab nor another space."""
    for key in ["resources/a", "resources/a/b", "resources/a/b/c", "resources/ab/c", "resources/a0", "presence/a/b"]:
        await backend.put(key, b"")
    assert list(values((await backend.range("resources/a/")).items)) == ["resources/a/b", "resources/a/b/c"]
    assert list(values((await backend.range("resources/a/b/")).items)) == ["resources/a/b/c"]
    assert list(values((await backend.range("presence/")).items)) == ["presence/a/b"]
    assert list(values((await backend.range("authority/")).items)) == []
