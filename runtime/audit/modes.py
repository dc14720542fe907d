"""What a terminal was told to be like: the modes that output has set, and what sets them again. Pure.

Followed is what changes how later output is drawn (ECMA-48, DEC STD 070, xterm's control sequences): the alternate
screen, the cursor's visibility, wrapping, origin, insertion and reversal, colours and other attributes, the scroll
region, and the character sets. Not followed: what is on the screen, where the cursor is, tab stops, saved cursors, and
modes of input, which are nothing to somebody who only looks.
"""

from __future__ import annotations

import re

HELD_BACK = 4096
"""Bytes of a sequence whose end has not come; a longer one is no sequence."""

UNFINISHED = re.compile(rb"\x1b(?:[\]PX^_][^\x07\x1b]*\x1b?|[()*+]|\[[0-?]*[ -/]*)?\Z")
"""The beginning of a sequence, at the end of output."""

_SETTING = re.compile(
    rb"""\x1b(?:                           # which is looked for by itself: that makes it ten times as fast
      \[ (?: [0-9;:]{0,256}m             # attributes (SGR)
          | \??[0-9;]{1,64}[hl]          # modes (SM, RM)
          | [0-9;]{0,16}r                # the scroll region (DECSTBM)
          | !p )                         # a soft reset (DECSTR)
    | c                                  # a reset (RIS)
    | [()*+][ -/]?[0-~]                  # character sets (SCS)
    )""",
    re.VERBOSE,
)
_SHIFTS = (b"\x0e", b"\x0f")
"""To the other character set, and back (SO, SI)."""
_RESETS = (b"\x1b[!p", b"\x1bc")
_SCREENS = ("47", "1047", "1049")
_SOFT_ON = ("?7", "?25")
"""Modes that are on after a reset (DECAWM, DECTCEM); the others are off."""
_FOLLOWED = frozenset({*_SOFT_ON, "?5", "?6", "4", "20"})
"""Those, and reversal, origin, insertion, and new lines (DECSCNM, DECOM, IRM, LNM)."""
_GROUPS = (("1", "2", "22"), ("3", "23"), ("4", "21", "24"), ("5", "6", "25"), ("7", "27"), ("8", "28"), ("9", "29"))
"""Attributes, and what turns them off, last (ECMA-48 §8.3.117)."""
_OFF = {group[-1]: group[:-1] for group in _GROUPS}


class Modes:
    """The modes of a terminal that is shown some output."""

    def __init__(self) -> None:
        self._held = b""
        self._reset()

    @property
    def settled(self) -> bool:
        """Whether the output so far ends with no half a sequence."""
        return not self._held

    def feed(self, data: bytes) -> None:
        """Follow more output."""
        data = self._held + data
        unfinished = UNFINISHED.search(data, max(0, len(data) - HELD_BACK))
        cut = unfinished.start() if unfinished else len(data)
        self._held = data[cut:]
        # Each of these sets something to a constant, so of equal ones only the last makes a difference.
        found = _SETTING.findall(data, 0, cut)
        for sequence in reversed(dict.fromkeys(reversed(found))):
            self._apply(sequence.decode("ascii"))
        out, back = (data.rfind(shift, 0, cut) for shift in _SHIFTS)
        if max(out, back) > max(data.rfind(reset, 0, cut) for reset in _RESETS):
            self._shifted = out > back

    def restore(self) -> str:
        """Return the sequences that give a terminal that was reset these modes."""
        parts = []
        if self._screen:
            parts.append(f"\x1b[?{self._screen}h")
        if self._region:
            parts.append(f"\x1b[{self._region}r")
        parts += [
            f"\x1b[{mode}{'h' if on else 'l'}" for mode, on in sorted(self._modes.items()) if on != (mode in _SOFT_ON)
        ]
        parts += [f"\x1b{slot}{name}" for slot, name in sorted(self._charsets.items()) if name != "B"]
        if self._shifted:
            parts.append("\x0e")
        shown = [*sorted(self._attributes), *filter(None, (self._foreground, self._background))]
        if shown:
            parts.append(f"\x1b[{';'.join(shown)}m")
        return "".join(parts)

    def _reset(self) -> None:
        self._screen = ""
        self._modes: dict[str, bool] = {}
        self._soft_reset()

    def _soft_reset(self) -> None:
        kept = {mode: on for mode, on in self._modes.items() if mode not in ("?6", "?7", "?25", "4")}
        self._modes = kept
        self._region = ""
        self._charsets: dict[str, str] = {}
        self._shifted = False
        self._plain()

    def _plain(self) -> None:
        self._attributes: dict[str, None] = {}
        self._foreground = self._background = ""

    def _apply(self, sequence: str) -> None:
        match sequence[-1], sequence[1:2]:
            case _, slot if slot in ("(", ")", "*", "+"):
                self._charsets[slot] = sequence[2:]
            case "c", "c":
                self._reset()
            case "p", _:
                self._soft_reset()
            case "r", _:
                self._region = sequence[2:-1]
            case "m", _:
                self._attribute(sequence[2:-1])
            case last, _:
                self._mode(sequence[2:-1], on=last == "h")

    def _mode(self, parameters: str, *, on: bool) -> None:
        private = "?" if parameters.startswith("?") else ""
        for number in parameters.removeprefix("?").split(";"):
            mode = f"{private}{number}"
            if private and number in _SCREENS:
                self._screen = number if on else ""
            elif mode in _FOLLOWED:
                self._modes[mode] = on

    def _attribute(self, parameters: str) -> None:
        numbers = [number.lstrip("0") if len(number) > 1 else number for number in parameters.split(";")]
        while numbers:
            number = numbers.pop(0)
            if number in ("", "0"):
                self._plain()
            elif number in ("38", "48", "58"):
                taken = {"5": 2, "2": 4}.get(numbers[0] if numbers else "", len(numbers))
                self._colour(number, ";".join((number, *numbers[:taken])))
                del numbers[:taken]
            elif ":" in number:
                self._colour(number.partition(":")[0], number)
            elif number in _OFF:
                for each in _OFF[number]:
                    self._attributes.pop(each, None)
            elif any(number in group for group in _GROUPS):
                self._attributes[number] = None
            elif number in ("39", "49"):
                self._colour("38" if number == "39" else "48", "")
            elif len(number) == 2 and number[0] in "34":
                self._colour(f"{number[0]}8", number)
            elif number[:-1] in ("9", "10"):
                self._colour("38" if number[0] == "9" else "48", number)

    def _colour(self, where: str, value: str) -> None:
        if where == "38":
            self._foreground = value
        elif where == "48":
            self._background = value
        elif where == "4":  # 4:3, an underline that is curly
            self._attributes["4"] = None
