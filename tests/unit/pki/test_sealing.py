"""Boxes that auth alone opens, and only where they were meant to be."""

from __future__ import annotations

import base64

import pytest

from runtime.core.errors import InvalidInput
from runtime.pki.sealing import SealingKey, seal

SECRET = "correct horse battery staple"


def test_there_and_back() -> None:
    """The key opens what was sealed to its public half, also after it was stored; no two boxes are alike."""
    key = SealingKey.new()
    box, other = (seal(key.public, SECRET.encode(), about="User/joe") for _ in range(2))
    assert box != other
    assert SECRET.encode() not in base64.b64decode(box)
    assert SealingKey.read(key.private).open(box, about="User/joe").decode() == SECRET
    assert SealingKey.read(key.private).public == key.public


@pytest.mark.parametrize("about", ["User/ann", "User/jo", "User/joe/", "", "Token/joe"])
def test_a_box_is_about_one_thing(about: str) -> None:
    """Moved to another user's record it does not open."""
    key = SealingKey.new()
    with pytest.raises(InvalidInput, match="does not open"):
        key.open(seal(key.public, b"x", about="User/joe"), about=about)


def test_what_does_not_open() -> None:
    """Sealed to another key, changed anywhere, cut, or no box at all; the error shows nothing of it."""
    key = SealingKey.new()
    box = base64.b64decode(seal(key.public, SECRET.encode(), about="User/joe"))
    others = [seal(SealingKey.new().public, SECRET.encode(), about="User/joe"), "", "AAAA", "no base64", "ä"]
    changed = [box[:place] + bytes([box[place] ^ 1]) + box[place + 1 :] for place in range(len(box))]
    cut = [box[:-1], box[:32], box + b"\0"]
    for bad in [*others, *(base64.b64encode(each).decode() for each in (*changed, *cut))]:
        with pytest.raises(InvalidInput) as caught:
            key.open(bad, about="User/joe")
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("public", [b"", b"x" * 31, bytes(33)])
def test_what_is_no_key(public: bytes) -> None:
    """Nothing is sealed to it."""
    with pytest.raises(InvalidInput, match="sealing key"):
        seal(public, b"x", about="User/joe")
