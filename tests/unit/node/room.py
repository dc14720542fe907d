"""One session's terminal without any, and the people in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.core.joining import Mode
from runtime.core.session_access import Owned
from runtime.node.party import Guest, Party
from runtime.transport.sessions import TerminalSize

SIZE = TerminalSize(80, 24, 640, 480)


@dataclass(eq=False)
class Person:
    """Somebody who has joined, and what has reached them."""

    user: str
    mode: Mode = Mode.PEER
    address: str = "192.0.2.1:50000"
    size: TerminalSize | None = SIZE
    typed: int = 0
    shown: bytes = b""
    told: list[str] = field(default_factory=list)
    held: bool = False
    over: str = ""
    leaves_at: bytes = b"\xff"
    party: Party | None = None

    def show(self, data: bytes) -> None:
        """See output; leave in the middle of it, as one who is too slow does."""
        self.shown += data
        if self.leaves_at in data and self.party is not None:
            self.party.leave(self, "too slow")

    def tell(self, text: str) -> None:
        """Hear something."""
        self.told.append(text)

    def hold(self, yes: bool) -> None:
        """Type no more for now."""
        self.held = yes

    def dismiss(self, why: str) -> None:
        """Go."""
        self.over = why


@dataclass
class Later:
    """Something to be called, unless it is called off."""

    seconds: float
    call: Callable[[], None]
    off: bool = False

    def cancel(self) -> None:
        """Call it off."""
        self.off = True


class Room:
    """A session of joe as root in a terminal of 80 by 24, and all that its party does to it."""

    def __init__(self) -> None:
        self.sizes: list[TerminalSize] = []
        self.repainted = 0
        self.told: list[str] = []
        self.entered: list[bytes] = []
        self.events: list[tuple[object, ...]] = []
        self.timers: list[Later] = []
        self.party = Party(
            Owned("joe", "root"),
            SIZE,
            window=self,
            log=self,
            tell=self.told.append,
            enter=self.entered.append,
            later=self.later,
        )

    def set(self, size: TerminalSize) -> bool:
        """Resize."""
        changed = size != (self.sizes[-1] if self.sizes else SIZE)
        if changed:
            self.sizes.append(size)
        return changed

    def repaint(self) -> None:
        """Count it."""
        self.repainted += 1

    def joined(self, guest: Guest) -> None:
        """Log it."""
        self.events.append(("join", guest.user, guest.mode))

    def left(self, guest: Guest, reason: str) -> None:
        """Log it."""
        self.events.append(("leave", guest.user, guest.typed, reason))

    def keys(self, user: str, count: int) -> None:
        """Log it."""
        self.events.append(("keys", user, count))

    def later(self, seconds: float, call: Callable[[], None]) -> Later:
        """Keep a timer."""
        self.timers.append(Later(seconds, call))
        return self.timers[-1]

    def pass_time(self) -> None:
        """Let all timers come."""
        timers, self.timers = self.timers, []
        for timer in timers:
            if not timer.off:
                timer.call()

    def join(self, name: str, mode: Mode = Mode.PEER, size: TerminalSize | None = SIZE) -> Person:
        """Have somebody join."""
        person = Person(name, mode, size=size)
        self.party.join(person)
        return person
