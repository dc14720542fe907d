"""The people in one session's terminal: what they see and type, how large it is, and who hears of whom. No I/O.

    owner       opened the session, which ends with the owner's channel
    peer        has joined, types too, and has a say in the size: the terminal is as large as the smallest of theirs
    observer    has joined and watches

Everybody sees the same output. A newcomer sees the end of what there was, and then what comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from runtime.core.errors import Unavailable
from runtime.core.joining import Mode
from runtime.core.session_access import Owned
from runtime.transport.sessions import TerminalSize

MAX_GUESTS = 32
"""People who have joined one session: each is sent all that it prints."""
TAIL_BYTES = 64 * 1024
"""What a newcomer sees of what was printed before: some full screens."""
KEYS_SECONDS = 1.0
"""What one person types within so long is one entry of the recording."""


class Guest(Protocol):
    """Somebody who has joined."""

    user: str
    mode: Mode
    address: str
    """host:port"""
    size: TerminalSize | None
    """None without a terminal."""
    typed: int
    """Bytes that were passed on to the session."""

    def show(self, data: bytes) -> None:
        """Send output."""

    def tell(self, text: str) -> None:
        """Say something beside the output."""

    def hold(self, yes: bool) -> None:
        """Keep input away, or let it come again."""

    def dismiss(self, why: str) -> None:
        """Have it over: the session is."""


class Window(Protocol):
    """The terminal's size."""

    def set(self, size: TerminalSize) -> bool:
        """Let the terminal have that size; return whether it is another."""
        ...

    def repaint(self) -> None:
        """Have the whole screen drawn anew."""


class Log(Protocol):
    """What keeps who was here."""

    def joined(self, guest: Guest) -> None:
        """Log that somebody has joined."""

    def left(self, guest: Guest, reason: str) -> None:
        """Log that somebody has left."""

    def keys(self, user: str, count: int) -> None:
        """Record that somebody typed so many bytes."""


class Timer(Protocol):
    """What can be called off."""

    def cancel(self) -> None:
        """Call it off."""


class Tail:
    """The end of what was printed: a ring, so that a session that prints for weeks takes no more than its limit."""

    def __init__(self, limit: int = TAIL_BYTES) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._oldest = 0

    def add(self, data: bytes) -> None:
        """Print more."""
        data = data[-self._limit :]
        if room := self._limit - len(self._kept):
            self._kept += data[:room]
            data = data[room:]
        while data:
            end = min(self._oldest + len(data), self._limit)
            piece, data = data[: end - self._oldest], data[end - self._oldest :]
            self._kept[self._oldest : end] = piece
            self._oldest = end % self._limit

    def read(self) -> bytes:
        """Return it; where something is missing before it, from the first whole line on."""
        kept = bytes(self._kept[self._oldest :] + self._kept[: self._oldest])
        if len(kept) < self._limit:
            return kept
        return kept.partition(b"\n")[2] or kept


class Keystrokes:
    """Who typed how much: one entry for what one person types without a break."""

    def __init__(self, record: Callable[[str, int], None], later: Callable[[float, Callable[[], None]], Timer]) -> None:
        self._record = record
        self._later = later
        self._user = ""
        self._count = 0
        self._timer: Timer | None = None

    def add(self, user: str, count: int) -> None:
        """Count what somebody typed."""
        if user != self._user:
            self.flush()
            self._user = user
        self._count += count
        if self._timer is None:
            self._timer = self._later(KEYS_SECONDS, self.flush)

    def flush(self) -> None:
        """Record what was not yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        count, self._count = self._count, 0
        if count:
            self._record(self._user, count)


def smallest(sizes: Iterable[TerminalSize]) -> TerminalSize | None:
    """Return the size that fits on all terminals; None where no size is known. An unknown measure (0) counts not.

    Pixels are told only where they are those of the whole.
    """
    known = [size for size in sizes if size.columns and size.rows]
    if not known:
        return None
    columns, rows = min(size.columns for size in known), min(size.rows for size in known)
    return next((size for size in known if size[:2] == (columns, rows)), TerminalSize(columns, rows))


class Party:
    """One session's. Until somebody joins, all that it does is to keep the end of what is printed."""

    def __init__(
        self,
        owned: Owned,
        size: TerminalSize,
        *,
        window: Window,
        log: Log,
        tell: Callable[[str], None],
        enter: Callable[[bytes], None],
        later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        """Take whose session it is, and the owner's terminal.

        `tell` says something to the owner, `enter` passes input to the session, `later` calls something after so many
        seconds.
        """
        self.owned = owned
        self._own_size = size
        self._window = window
        self._log = log
        self._tell = tell
        self._enter = enter
        self._guests: list[Guest] = []
        self._tail = Tail()
        self._keys = Keystrokes(log.keys, later)
        self._held = False
        self._over = False

    @property
    def guests(self) -> tuple[Guest, ...]:
        """Those who have joined, in their order."""
        return tuple(self._guests)

    # --- what passes -----------------------------------------------------------------------------------------------

    def printed(self, data: bytes) -> None:
        """Show output to those who have joined."""
        self._tail.add(data)
        if self._guests:
            for guest in self.guests:  # one who is too slow leaves meanwhile
                guest.show(data)

    def typed(self, count: int) -> None:
        """Learn that the owner typed so many bytes. While nobody else can type, whose they are is known."""
        if self._guests:
            self._keys.add(self.owned.user, count)

    def typed_by(self, guest: Guest, data: bytes) -> None:
        """Pass on what a peer typed."""
        if self._over:
            return
        guest.typed += len(data)
        self._keys.add(guest.user, len(data))
        self._enter(data)

    def congested(self, yes: bool) -> None:
        """Hold what peers type, or let it come again: the program does not read."""
        self._held = yes
        for guest in self._guests:
            if guest.mode is Mode.PEER:
                guest.hold(yes)

    # --- who is here -----------------------------------------------------------------------------------------------

    def join(self, guest: Guest) -> None:
        """Let somebody in. Raises Unavailable when the session is over, or full."""
        if self._over:
            raise Unavailable("the session has just ended", hint="What runs shows: tsh sessions ls")
        if len(self._guests) >= MAX_GUESTS:
            raise Unavailable(
                f"{MAX_GUESTS} people have joined this session, which is as many as can",
                hint="Wait until one leaves. What was shown can be seen with: tsh play",
            )
        self._tell_all(f"{guest.user} {_DOES[guest.mode]} this session, from {guest.address.rpartition(':')[0]}")
        guest.tell(self._welcome(guest))
        guest.show(self._tail.read())
        self._keys.flush()
        self._guests.append(guest)
        if self._held and guest.mode is Mode.PEER:
            guest.hold(True)
        self._log.joined(guest)
        if not self._settle():
            self._window.repaint()

    def leave(self, guest: Guest, reason: str = "") -> None:
        """Let somebody go, with the reason if it was not by themselves. Safe for one who is not here."""
        if guest not in self._guests:
            return
        self._guests.remove(guest)
        self._keys.flush()
        self._log.left(guest, reason)
        if not self._over:
            self._tell_all(f"{guest.user} has left this session" + (f": {reason}" if reason else ""))
            self._settle()

    def resized(self, guest: Guest | None, size: TerminalSize) -> None:
        """Learn that somebody's terminal, the owner's if nobody is named, has another size."""
        if guest is None:
            self._own_size = size
        else:
            guest.size = size
        if not self._over:
            self._settle()

    def tell_guests(self, text: str) -> None:
        """Say something to all who have joined."""
        for guest in self.guests:
            guest.tell(text)

    def close(self, why: str) -> None:
        """Let all go, and nobody in any more. Safe to call twice."""
        self._over = True
        for guest in self.guests:
            guest.dismiss(why)
            self.leave(guest, why)
        self._keys.flush()

    def _settle(self) -> bool:
        """Give the terminal the size that fits all who take part; return whether it is another."""
        peers = [guest.size for guest in self._guests if guest.mode is Mode.PEER and guest.size is not None]
        return self._window.set(smallest([self._own_size, *peers]) or self._own_size)

    def _tell_all(self, text: str) -> None:
        self._tell(text)
        self.tell_guests(text)

    def _welcome(self, guest: Guest) -> str:
        others = "".join(f", and {other.user} {_DOES[other.mode]} it" for other in self._guests)
        how = "you watch the session" if guest.mode is Mode.OBSERVER else "you take part in the session"
        return f"{how} of {self.owned.user} as {self.owned.login}{others}; you leave with {_LEAVE[guest.mode]}"


_DOES = {Mode.PEER: "joins", Mode.OBSERVER: "watches"}
_LEAVE = {Mode.PEER: "Enter ~ .", Mode.OBSERVER: "Ctrl-C"}
