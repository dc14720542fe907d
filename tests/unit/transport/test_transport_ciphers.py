"""Our ciphers beside asyncssh's: the same bytes, and nothing that was not verified."""

from __future__ import annotations

import pytest
from asyncssh.encryption import Encryption, get_encryption

from runtime.transport.ciphers import LENGTH_BYTES, TAG_BYTES, Gcm, PacketCipher, kept

SIZES = [
    ("chacha20-poly1305@openssh.com", 64, 0),
    ("aes128-gcm@openssh.com", 16, 12),
    ("aes256-gcm@openssh.com", 32, 12),
]
"""Each cipher with the bytes of its key and its initialisation vector."""

LENGTHS = [8, 16, 32, 1000, 32_784, 262_144]


def _bytes(size: int, seed: int) -> bytes:
    return bytes((seed + index * 7) & 0xFF for index in range(size))


def stock(name: str, key: int, iv: int) -> Encryption:
    """Return asyncssh's cipher."""
    return get_encryption(name.encode(), _bytes(key, 1), _bytes(iv, 2))


def ours(name: str, key: int, iv: int) -> PacketCipher:
    """Return ours with the same keys."""
    cipher = kept(stock(name, key, iv))
    assert isinstance(cipher, PacketCipher)
    return cipher


def sealed(cipher: PacketCipher, seq: int, content: bytes) -> bytes:
    """Return the frame of a packet's content."""
    packet = len(content).to_bytes(LENGTH_BYTES, "big") + content
    frame = bytearray(len(packet) + TAG_BYTES)
    cipher.seal(seq, memoryview(packet), memoryview(frame))
    return bytes(frame)


@pytest.mark.parametrize(("name", "key", "iv"), SIZES)
def test_what_is_sealed_is_what_asyncssh_would_send(name: str, key: int, iv: int) -> None:
    """Byte by byte, packet after packet, up to the last sequence number and from 0 again."""
    theirs, cipher, again = stock(name, key, iv), ours(name, key, iv), ours(name, key, iv)
    for seq, length in zip([0, 1, 2, 3, 2**32 - 1, 0], LENGTHS, strict=True):
        content = _bytes(length, seq)
        header = length.to_bytes(LENGTH_BYTES, "big")
        expected = b"".join(theirs.encrypt_packet(seq, header, content))
        assert sealed(cipher, seq, content) == expected
        assert b"".join(again.encrypt_packet(seq, header, content)) == expected


@pytest.mark.parametrize(("name", "key", "iv"), SIZES)
def test_what_asyncssh_sends_is_opened(name: str, key: int, iv: int) -> None:
    """Its length before anything else is there, then its content."""
    theirs, cipher = stock(name, key, iv), ours(name, key, iv)
    for seq, length in enumerate(LENGTHS):
        content = _bytes(length, seq)
        frame = b"".join(theirs.encrypt_packet(seq, length.to_bytes(LENGTH_BYTES, "big"), content))
        assert cipher.length(seq, frame[:LENGTH_BYTES]) == length
        assert cipher.open(seq, memoryview(frame)) == content


@pytest.mark.parametrize("at", [0, LENGTH_BYTES, 20, -TAG_BYTES, -1])
@pytest.mark.parametrize(("name", "key", "iv"), SIZES)
def test_a_changed_byte_is_noticed(name: str, key: int, iv: int, at: int) -> None:
    """In the length, the content or the tag: nothing of the packet is given away."""
    frame = bytearray(sealed(ours(name, key, iv), 7, bytes(32)))
    frame[at] ^= 1
    assert ours(name, key, iv).open(7, memoryview(frame)) is None


@pytest.mark.parametrize(("name", "key", "iv"), SIZES)
def test_a_packet_out_of_order_is_noticed(name: str, key: int, iv: int) -> None:
    """The second packet in place of the first is as good as a forged one."""
    cipher = ours(name, key, iv)
    _, second = sealed(cipher, 0, bytes(32)), sealed(cipher, 1, bytes(32))
    assert ours(name, key, iv).open(0, memoryview(second)) is None


@pytest.mark.parametrize(("name", "key", "iv"), SIZES)
def test_asyncssh_is_given_only_what_was_opened_and_once(name: str, key: int, iv: int) -> None:
    """Its own way to decrypt finds nothing, which it takes for a wrong tag, unless we have put the content there."""
    cipher = ours(name, key, iv)
    assert cipher.decrypt_packet(0, b"", bytes(64), LENGTH_BYTES, bytes(TAG_BYTES)) is None
    cipher.opened = b"content"
    assert cipher.decrypt_packet(0, b"", bytes(64), LENGTH_BYTES, bytes(TAG_BYTES)) == b"content"
    assert cipher.decrypt_packet(0, b"", bytes(64), LENGTH_BYTES, bytes(TAG_BYTES)) is None


def test_the_counter_of_gcm_goes_round() -> None:
    """Its 64 bits overflow to 0 and leave the fixed four bytes alone (RFC 5647 §7.1)."""
    key, iv = bytes(16), b"abcd" + b"\xff" * 8
    theirs, cipher = get_encryption(b"aes128-gcm@openssh.com", key, iv), Gcm(key, iv)
    for seq in range(3):
        expected = b"".join(theirs.encrypt_packet(seq, (16).to_bytes(LENGTH_BYTES, "big"), bytes(16)))
        assert sealed(cipher, seq, bytes(16)) == expected


def test_other_ciphers_stay_asyncsshs() -> None:
    """We have none for aes256-ctr with a MAC, nor for a connection that is not encrypted yet."""
    theirs = get_encryption(b"aes256-ctr", bytes(32), bytes(16), b"hmac-sha2-256-etm@openssh.com", bytes(32), etm=True)
    assert kept(theirs) is theirs
    assert kept(None) is None
