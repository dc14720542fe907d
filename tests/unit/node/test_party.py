"""The people in one session's terminal, without any: who sees, types, resizes, and hears of whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtime.core.errors import Unavailable
from runtime.core.joining import Mode
from runtime.node.party import KEYS_SECONDS, MAX_GUESTS, TAIL_BYTES, Keystrokes, Tail, smallest
from runtime.transport.sessions import TerminalSize
from tests.unit.node.room import Later, Room

PEER, OBSERVER = Mode.PEER, Mode.OBSERVER


@pytest.fixture
def room() -> Room:
    """Return a session that nobody has joined."""
    return Room()


def test_everybody_sees_the_same_and_hears_of_everybody(room: Room) -> None:
    """A newcomer sees what was there, then what comes; owner and others are told who comes and goes, and how."""
    room.party.printed(b"before\r\n")
    ann = room.join("ann")
    eve = room.join("eve", OBSERVER)
    room.party.printed(b"after")
    assert ann.shown == eve.shown == b"before\r\nafter"
    room.party.leave(ann)
    room.party.printed(b"!")
    assert (ann.shown[-1:], eve.shown[-1:]) == (b"r", b"!")
    assert room.told == [
        "ann joins this session, from 192.0.2.1",
        "eve watches this session, from 192.0.2.1",
        "ann has left this session",
    ]
    assert ann.told == ["you take part in the session of joe as root; you leave with Enter ~ .", room.told[1]]
    assert eve.told == ["you watch the session of joe as root, and ann joins it; you leave with Ctrl-C", room.told[2]]
    assert room.events == [("join", "ann", PEER), ("join", "eve", OBSERVER), ("leave", "ann", 0, "")]


def test_each_key_is_somebodys(room: Room) -> None:
    """What is typed goes in as it comes, and is counted for who typed it; alone, the owner is not counted."""
    room.party.typed(1000)
    ann = room.join("ann")
    room.party.typed(3)
    room.party.typed(4)
    room.party.typed_by(ann, b"ls\n")
    room.party.typed_by(ann, b"pwd\n")
    assert room.entered == [b"ls\n", b"pwd\n"]
    room.pass_time()
    room.party.typed(1)
    room.party.leave(ann)
    room.party.typed(1000)
    room.pass_time()
    assert room.events[1:] == [("keys", "joe", 7), ("keys", "ann", 7), ("keys", "joe", 1), ("leave", "ann", 7, "")]
    assert not room.timers


def test_keystrokes_of_one_second_are_one_entry() -> None:
    """A timer runs only while something waits, and what waits is told before somebody else's."""
    told: list[tuple[str, int]] = []
    timers: list[Later] = []

    def later(seconds: float, call: Callable[[], None]) -> Later:
        timers.append(Later(seconds, call))
        return timers[-1]

    keys = Keystrokes(lambda user, count: told.append((user, count)), later)
    for _ in range(5):
        keys.add("joe", 2)
    assert (told, [timer.seconds for timer in timers]) == ([], [KEYS_SECONDS])
    timers[0].call()
    keys.flush()
    assert told == [("joe", 10)]
    keys.add("joe", 1)
    keys.add("ann", 1)
    assert told == [("joe", 10), ("joe", 1)]
    assert timers[1].off


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ([(80, 24)], (80, 24)),
        ([(80, 24), (100, 20)], (80, 20)),
        ([(80, 24, 640, 480), (100, 40)], (80, 24, 640, 480)),
        ([(80, 24), (0, 0)], (80, 24)),
        ([(80, 24), (0, 10)], (80, 24)),
        ([(0, 0)], None),
        ([], None),
    ],
)
def test_the_smallest(sizes: list[tuple[int, ...]], size: tuple[int, ...] | None) -> None:
    """The least columns and the least rows; pixels where one terminal is as small as that."""
    assert smallest(TerminalSize(*each) for each in sizes) == (TerminalSize(*size) if size else None)


def test_who_takes_part_decides_the_size(room: Room) -> None:
    """Peers shrink it, observers do not; who joins without changing it has it drawn anew."""
    room.join("eve", OBSERVER, TerminalSize(10, 5))
    assert (room.sizes, room.repainted) == ([], 1)
    ann = room.join("ann", PEER, TerminalSize(60, 40))
    assert (room.sizes, room.repainted) == ([(60, 24, 0, 0)], 1)
    room.party.resized(ann, TerminalSize(50, 10))
    room.party.resized(None, TerminalSize(40, 40))
    room.join("bot", PEER, None)
    room.party.leave(ann)
    room.party.close("over")
    room.party.resized(None, TerminalSize(1, 1))
    assert room.sizes[1:] == [(50, 10, 0, 0), (40, 10, 0, 0), (40, 40, 0, 0)]
    assert room.repainted == 2


def test_an_owner_without_a_size_takes_that_of_a_peer(room: Room) -> None:
    """`ssh -tt` without a terminal tells 0 by 0."""
    room.party.resized(None, TerminalSize(0, 0))
    ann = room.join("ann", PEER, TerminalSize(60, 40))
    assert room.sizes[-1] == (60, 40, 0, 0)
    room.party.leave(ann)
    assert room.sizes[-1] == (0, 0, 0, 0)


def test_a_program_that_does_not_read_holds_those_who_type(room: Room) -> None:
    """Also who joins meanwhile; an observer, whose keys go nowhere, is not held."""
    ann, eve = room.join("ann"), room.join("eve", OBSERVER)
    room.party.congested(True)
    bob = room.join("bob")
    assert (ann.held, eve.held, bob.held) == (True, False, True)
    room.party.congested(False)
    assert [ann.held, bob.held, room.join("cal").held] == [False, False, False]


def test_one_who_is_too_slow_leaves_while_others_are_shown(room: Room) -> None:
    """The rest see all of it, and are told."""
    slow, ann = room.join("slow"), room.join("ann")
    slow.party, slow.leaves_at = room.party, b"much"
    room.party.printed(b"much")
    room.party.printed(b" more")
    assert (slow.shown, ann.shown) == (b"much", b"much more")
    assert room.told[-1] == ann.told[-1] == "slow has left this session: too slow"


def test_as_many_as_can(room: Room) -> None:
    """One more is told so; when one leaves there is room again."""
    people = [room.join(f"p{number}", OBSERVER) for number in range(MAX_GUESTS)]
    for _ in range(100 - MAX_GUESTS):
        with pytest.raises(Unavailable, match=f"{MAX_GUESTS} people have joined this session"):
            room.join("late")
    assert len(room.party.guests) == MAX_GUESTS
    assert not any("late" in text for text in room.told)
    room.party.leave(people[0])
    room.join("late")


def test_the_end(room: Room) -> None:
    """All are let go with the reason, once; nobody joins any more, and nothing is typed."""
    ann, eve = room.join("ann"), room.join("eve", OBSERVER)
    room.party.typed(5)
    room.party.close("the session has ended")
    room.party.close("again")
    assert ann.over == eve.over == "the session has ended"
    assert room.party.guests == ()
    assert room.events[2:] == [
        ("keys", "joe", 5),
        ("leave", "ann", 0, "the session has ended"),
        ("leave", "eve", 0, "the session has ended"),
    ]
    assert not any("left" in text for text in (*room.told, *ann.told, *eve.told))
    room.party.typed_by(ann, b"x")
    room.party.leave(ann, "twice")
    assert room.entered == []
    assert len(room.events) == 5
    with pytest.raises(Unavailable, match="just ended"):
        room.join("late")


def test_the_tail() -> None:
    """What was printed last, bounded; where its beginning is gone, from a whole line on."""
    tail = Tail(10)
    tail.add(b"abc")
    assert tail.read() == b"abc"
    tail.add(b"\ndefghij")
    assert tail.read() == b"defghij"
    tail.add(b"x" * 30)
    assert tail.read() == b"x" * 10
    for _ in range(1000):
        tail.add(b"1\n3")
        assert len(tail._kept) == 10
    assert tail.read() == b"3" + b"1\n3" * 2
    letters = Tail()
    for number in range(200_000):
        letters.add(b"%d" % (number % 10))
    assert letters.read() == b"".join(b"%d" % (number % 10) for number in range(200_000))[-TAIL_BYTES:]
    assert len(letters._kept) == TAIL_BYTES
    assert TAIL_BYTES == 65536
