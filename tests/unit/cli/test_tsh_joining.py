"""Which session is meant by an id or its beginning, and how sessions are shown."""

from __future__ import annotations

import pytest

from runtime.cli.tsh_joining import Running, as_table, check_sid, choose
from runtime.core.errors import InvalidInput, NotFound

ONE, TWO = "3f0c8b1e-6f0e-4c7e-9d55-0f3a2f6f1f2a", "3f0c9999-6f0e-4c7e-9d55-0f3a2f6f1f2a"


def running(sid: str, *, joinable: bool = True, command: str = "", **parties: str) -> Running:
    """Return a session of joe."""
    joined = tuple({"user": user, "mode": mode} for user, mode in parties.items())
    return Running(sid, "joe", "root", "node-id", "db1", "2026-11-22T20:01:02Z", command, joinable, joined)


@pytest.mark.parametrize("text", [ONE, ONE.upper(), "3f", "3f0c8b1e-"])
def test_an_id_or_its_beginning(text: str) -> None:
    """In either case of letters."""
    assert check_sid(text) == text.lower()


@pytest.mark.parametrize("text", ["", "-", "g", "../x", "3f/..", ONE + "0", "3f\x1b[31m", "3f*", "3f\n"])
def test_what_is_no_id(text: str) -> None:
    """It is refused as what it is, with nothing in it that a terminal obeys."""
    with pytest.raises(InvalidInput, match="is no session's id") as refused:
        check_sid(text)
    assert "\x1b" not in str(refused.value)


def test_one_is_meant() -> None:
    """The only one that begins so; a whole id is its own beginning."""
    both = [running(ONE), running(TWO)]
    assert choose(both, "3f0c8").sid == ONE
    assert choose(both, TWO).sid == TWO


def test_none_or_several_are_meant() -> None:
    """The ones that could be are named, with whose they are and where."""
    with pytest.raises(NotFound, match="no session aa is running that you may see"):
        choose([running(ONE)], "aa")
    with pytest.raises(InvalidInput, match=r"2 sessions begin with 3f0c:\n  3f0c8b1e.*joe as root on db1\n  3f0c9999"):
        choose([running(ONE), running(TWO)], "3f0c")
    many = [running(f"{number:08x}-6f0e-4c7e-9d55-0f3a2f6f1f2a") for number in range(30)]
    with pytest.raises(InvalidInput, match=r"30 sessions begin with 000000:(\n  .*){10}\n  and 20 more"):
        choose(many, "000000")


def test_one_without_a_terminal() -> None:
    """It cannot be joined; what to do instead is told."""
    with pytest.raises(InvalidInput, match="has no terminal") as refused:
        choose([running(ONE, joinable=False)], "3f")
    assert refused.value.hint == f"What it has printed so far: tsh play {ONE}"


def test_the_table() -> None:
    """Who has joined and how; commands cannot disguise themselves."""
    shown = as_table([running(ONE, ann="peer", eve="observer"), running(TWO, joinable=False, command="make \x1b[31m")])
    head, _, one, two = shown.splitlines()
    assert head.split() == ["Session", "ID", "User", "Login", "Node", "Started", "(UTC)", "Joined", "Command"]
    assert one.endswith("2026-11-22 20:01:02     ann (peer), eve (observer)")
    assert two.endswith("make \\x1b[31m (no terminal)")
