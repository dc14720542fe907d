"""A session's pseudo-terminal, opened by the user's own process so that its name in /dev/pts is the user's."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Mapping
from typing import Any

from runtime.node.spawning.protocol import Terminal

_NO_CHARACTER = 255  # RFC 4254 §8: the character is switched off
_DISABLED = 0  # _POSIX_VDISABLE of Linux
_IUTF8 = 0o40000  # Linux; the termios module does not name it

IFLAG, OFLAG, CFLAG, LFLAG, ISPEED, OSPEED, CC = range(7)
"""What is where in the attributes that termios.tcgetattr returns."""

CHARACTERS = {
    1: termios.VINTR,
    2: termios.VQUIT,
    3: termios.VERASE,
    4: termios.VKILL,
    5: termios.VEOF,
    6: termios.VEOL,
    7: termios.VEOL2,
    8: termios.VSTART,
    9: termios.VSTOP,
    10: termios.VSUSP,
    12: termios.VREPRINT,
    13: termios.VWERASE,
    14: termios.VLNEXT,
    16: termios.VSWTC,
    18: termios.VDISCARD,
}
"""Opcodes whose argument is a character. Those that Linux has not (VDSUSP 11, VFLUSH 15, VSTATUS 17) are left out."""

FLAGS = {
    30: (IFLAG, termios.IGNPAR),
    31: (IFLAG, termios.PARMRK),
    32: (IFLAG, termios.INPCK),
    33: (IFLAG, termios.ISTRIP),
    34: (IFLAG, termios.INLCR),
    35: (IFLAG, termios.IGNCR),
    36: (IFLAG, termios.ICRNL),
    37: (IFLAG, termios.IUCLC),
    38: (IFLAG, termios.IXON),
    39: (IFLAG, termios.IXANY),
    40: (IFLAG, termios.IXOFF),
    41: (IFLAG, termios.IMAXBEL),
    42: (IFLAG, _IUTF8),  # RFC 8160
    50: (LFLAG, termios.ISIG),
    51: (LFLAG, termios.ICANON),
    52: (LFLAG, termios.XCASE),
    53: (LFLAG, termios.ECHO),
    54: (LFLAG, termios.ECHOE),
    55: (LFLAG, termios.ECHOK),
    56: (LFLAG, termios.ECHONL),
    57: (LFLAG, termios.NOFLSH),
    58: (LFLAG, termios.TOSTOP),
    59: (LFLAG, termios.IEXTEN),
    60: (LFLAG, termios.ECHOCTL),
    61: (LFLAG, termios.ECHOKE),
    62: (LFLAG, termios.PENDIN),
    70: (OFLAG, termios.OPOST),
    71: (OFLAG, termios.OLCUC),
    72: (OFLAG, termios.ONLCR),
    73: (OFLAG, termios.OCRNL),
    74: (OFLAG, termios.ONOCR),
    75: (OFLAG, termios.ONLRET),
    92: (CFLAG, termios.PARENB),
    93: (CFLAG, termios.PARODD),
}
"""Opcodes whose argument switches a flag on or off."""

CHARACTER_SIZES = {90: termios.CS7, 91: termios.CS8}
SPEEDS = {128: ISPEED, 129: OSPEED}

_BAUD = {int(name[1:]): getattr(termios, name) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()}
"""The kernel's name for a speed in bits a second: B9600 for 9600."""


def with_modes(attributes: list[Any], modes: Mapping[int, int]) -> list[Any]:
    """Return termios attributes with the modes that a client asked for (RFC 4254 §8); unknown opcodes are ignored."""
    changed = [*attributes[:CC], list(attributes[CC])]
    for opcode, argument in modes.items():
        if opcode in CHARACTERS:
            changed[CC][CHARACTERS[opcode]] = bytes([_DISABLED if argument == _NO_CHARACTER else argument & 0xFF])
        elif opcode in FLAGS:
            field, flag = FLAGS[opcode]
            changed[field] = changed[field] | flag if argument else changed[field] & ~flag
        elif opcode in CHARACTER_SIZES and argument:
            changed[CFLAG] = changed[CFLAG] & ~termios.CSIZE | CHARACTER_SIZES[opcode]
        elif opcode in SPEEDS and argument in _BAUD:
            changed[SPEEDS[opcode]] = _BAUD[argument]
    return changed


def set_size(terminal: int, columns: int, rows: int, pixel_width: int, pixel_height: int) -> None:
    """Set the size of a terminal, by either of its ends. What does not fit into 16 bits becomes the largest size."""
    size = struct.pack("HHHH", *(max(0, min(number, 0xFFFF)) for number in (rows, columns, pixel_width, pixel_height)))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)


def open_terminal(wanted: Terminal) -> tuple[int, int]:
    """Open a pseudo-terminal, make it the controlling one of this session, and return master and slave.

    Raises OSError.
    """
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    termios.tcsetattr(slave, termios.TCSANOW, with_modes(termios.tcgetattr(slave), wanted.modes))
    set_size(slave, wanted.columns, wanted.rows, wanted.pixel_width, wanted.pixel_height)
    return master, slave
