"""Events of the log as one value: lines, compressed, behind a summary of whom and what they are about. Pure.

    "S1"        2 bytes
    SIZE        2 bytes, that of the summary
    FROM, TO    20 bytes each: the times of the first and the last of the events, as the log writes them
    SUMMARY     SIZE bytes
    LINES       compressed

The summary is a Bloom filter of those members of the events that are mostly sought: what it does not have is in none of
them, so that a search for one user decompresses one segment of a hundred.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterator, Sequence

from runtime.audit.search import Filter, time_of

_MAGIC = b"S1"
_HEAD = struct.Struct("<2sH20s20s")
_PAIR = struct.Struct("<II")
_SUMMED_UP = re.compile(rb'"(?:event|user|login|sid|server_id)":"(?:[^"\\]|\\.)*"')
"""As `runtime.audit.search` looks for them."""
_BITS, _HASHES = 16, 4
"""For each member: of 400 that are not there one seems to be."""
_MAX_BYTES = 0xFFFF

_COMPRESSION = 2
"""Less than usual: a tenth longer, and read faster by more than that, which is most of what a search does."""
_BLOCK_BYTES = 128 * 1024
"""What a segment usually has, so that room for it is made once."""


def pack(lines: Sequence[bytes]) -> bytes:
    """Return lines, which are without their newlines, as a value."""
    block = b"\n".join(lines)
    members = set(_SUMMED_UP.findall(block))
    summary = bytearray(min(_MAX_BYTES, max(8, len(members) * _BITS // 8)))
    for member in members:
        for bit in _bits(_hashed(member), len(summary) * 8):
            summary[bit >> 3] |= 1 << (bit & 7)
    times = sorted(map(time_of, lines))
    head = _HEAD.pack(_MAGIC, len(summary), times[0] if times else b"", times[-1] if times else b"")
    return head + summary + zlib.compress(block, _COMPRESSION)


def unpack(value: bytes) -> bytes:
    """Return the lines, with newlines between them; nothing of a value that cannot be read: it hides no other."""
    size = _summary(value)
    try:
        return zlib.decompress(memoryview(value)[_HEAD.size + size :], bufsize=_BLOCK_BYTES) if size else b""
    except zlib.error:
        return b""


class Sieve:
    """Tells which values cannot have what is sought."""

    def __init__(self, wanted: Filter) -> None:
        self._since, self._until = wanted.times
        # Of a group one has to be there; one with a member that is not summed up says nothing.
        useful = (group for group in wanted.members if all(map(_SUMMED_UP.fullmatch, group)))
        self._groups = [tuple(map(_hashed, group)) for group in useful]

    def passes(self, value: bytes) -> bool:
        """Tell whether a value may have what is sought."""
        size = _summary(value)
        if not size:
            return False
        _, _, first, last = _HEAD.unpack_from(value)
        if last < self._since or first >= self._until:
            return False
        return all(any(_has(value, size * 8, pair) for pair in group) for group in self._groups)


def _summary(value: bytes) -> int:
    """Return the size of a value's summary; 0 if it is none."""
    if len(value) < _HEAD.size:
        return 0
    magic, size, *_ = _HEAD.unpack_from(value)
    return size if magic == _MAGIC and len(value) > _HEAD.size + size else 0


def _has(value: bytes, bits: int, pair: tuple[int, int]) -> bool:
    return all(value[_HEAD.size + (bit >> 3)] >> (bit & 7) & 1 for bit in _bits(pair, bits))


def _hashed(member: bytes) -> tuple[int, int]:
    one, two = _PAIR.unpack(hashlib.blake2b(member, digest_size=_PAIR.size).digest())
    return one, two | 1


def _bits(pair: tuple[int, int], bits: int) -> Iterator[int]:
    one, two = pair
    return ((one + number * two) % bits for number in range(_HASHES))
