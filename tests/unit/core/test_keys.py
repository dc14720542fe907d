"""Keys and prefixes that every backend can hold, and those that are refused."""

from __future__ import annotations

import pytest

from runtime.core import keys
from runtime.core.errors import InvalidKey


@pytest.mark.parametrize(
    "key",
    [
        "resources/User/joe",
        "a/b",
        "a/.",
        "a/..",
        "a/../b",
        "presence/n/\u00e9\U0001f600",
        "s-1/ ",
        "a/" + "x" * 998,
        "a/user:joe",
    ],
)
def test_good_keys(key: str) -> None:
    """Any text without control characters is a name, dots and blanks included, up to the limit."""
    assert keys.check_key(key) == key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "no slash"),
        ("resources", "no slash"),
        ("resources/", "empty segment"),
        ("/resources/x", "empty segment"),
        ("a//b", "empty segment"),
        ("A/b", "does not start with a space"),
        ("1/b", "does not start with a space"),
        ("a\n/b", "does not start with a space"),
        ("a" * 64 + "/b", "does not start with a space"),
        ("a/b\x00", "control character"),
        ("a/b\x7f", "control character"),
        ("a/\x9b", "control character"),
        ("a/\ud800", "not valid Unicode"),
        ("a/" + "x" * 999, "1001 bytes"),
        ("a/" + "\u00e9" * 500, "1002 bytes"),
    ],
)
def test_bad_keys(key: str, why: str) -> None:
    """A key that some backend could not hold, or would hold as another one, is refused with the reason."""
    with pytest.raises(InvalidKey, match=why) as caught:
        keys.check_key(key)
    assert str(caught.value).isascii() or "…" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("prefix", ["resources/", "resources/User/", "a/b/c/"])
def test_good_prefixes(prefix: str) -> None:
    """A prefix is a folder of keys."""
    assert keys.check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["", "/", "resources", "resources/User", "a//", "A/", "a/\x00/"])
def test_bad_prefixes(prefix: str) -> None:
    """Without the slash `node` would also be `node-old`; the whole store is no prefix either."""
    with pytest.raises(InvalidKey):
        keys.check_prefix(prefix)


def test_a_secret_stays_out_of_errors() -> None:
    """An error about a key below `secrets/` does not tell the name, which may be a token."""
    with pytest.raises(InvalidKey) as caught:
        keys.check_key("secrets/token/hunter2\n")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidKey, match="joe"):
        keys.check_key("resources/joe\n")


def test_the_parts() -> None:
    """A resource's key holds kind and name; the space is the first segment."""
    assert keys.resource("User", "joe") == "resources/User/joe"
    assert keys.space("resources/User/joe") == "resources"
    assert keys.space("resources/") == "resources"
