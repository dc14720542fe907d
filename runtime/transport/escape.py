"""The escape of ssh(1), "ESCAPE CHARACTERS", as far as it ends a session: `~.` at the beginning of a line. Pure."""

from __future__ import annotations

_TILDE, _DOT = ord("~"), ord(".")
_LINE_ENDS = frozenset(b"\r\n")


class Escape:
    """Looks for it in what is typed in one terminal. `~~` is one `~`, and anything else is what it is."""

    def __init__(self) -> None:
        self.over = False
        """Whether it has been typed."""
        self._begins = True
        self._pending = False

    def feed(self, keys: bytes) -> bytes:
        """Return what is to be sent of these keys; nothing of what follows the escape."""
        if not self._pending and not self._begins and b"~" not in keys:
            self._begins = keys[-1:] in (b"\r", b"\n")
            return keys
        sent = bytearray()
        for key in keys:
            if self._pending:
                self._pending = False
                if key == _DOT:
                    self.over = True
                    return bytes(sent)
                sent += b"~" if key == _TILDE else bytes((_TILDE, key))
            elif self._begins and key == _TILDE:
                self._pending = True
                continue
            else:
                sent.append(key)
            self._begins = key in _LINE_ENDS
        return bytes(sent)
