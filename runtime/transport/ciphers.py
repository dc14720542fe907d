"""The two AEAD ciphers of SSH with their keys set up once, where asyncssh 2.24.1 sets them up for each packet.

Nothing is computed here: ChaCha20, Poly1305 and AES-GCM are cryptography's (OpenSSL), put together as OpenSSH's
PROTOCOL.chacha20poly1305 and RFC 5647 (with the length in clear, as in PROTOCOL §1.6) say and as asyncssh does it. For
packets of 32 KiB it takes half of asyncssh's time.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, cast

from asyncssh.encryption import ChachaEncryption, Encryption, GCMEncryption
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305

Buffer = bytes | bytearray | memoryview

LENGTH_BYTES = 4
TAG_BYTES = 16


class _Stream(Protocol):
    """A ChaCha20 context, which both encrypts and decrypts."""

    def update(self, data: Buffer, /) -> bytes: ...

    def update_into(self, data: Buffer, buffer: Buffer, /) -> int: ...

    def reset_nonce(self, nonce: bytes, /) -> None: ...


class PacketCipher(Encryption):
    """One direction of a connection. A frame is a whole packet: length, content, tag."""

    opened: bytes | None = None
    """The content of the packet that asyncssh is about to be given: it was decrypted, and its tag verified, already."""

    @abstractmethod
    def seal(self, seq: int, packet: memoryview, frame: memoryview) -> None:
        """Make the frame of a packet: length (4 bytes), padding length, payload, padding.

        `frame` is where to, TAG_BYTES longer than the packet.
        """

    @abstractmethod
    def length(self, seq: int, start: Buffer) -> int:
        """Return the length of the content of the frame whose first four bytes these are."""

    @abstractmethod
    def open(self, seq: int, frame: memoryview) -> bytes | None:
        """Return the content of a frame, or None when its tag is wrong. Each frame is opened once, in order."""

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """Do `seal` for asyncssh, with its length and the rest apart and without a separate MAC."""
        whole = header + packet
        frame = bytearray(len(whole) + TAG_BYTES)
        self.seal(seq, memoryview(whole), memoryview(frame))
        return bytes(frame), b""

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """Do `length` for asyncssh."""
        return first_block, self.length(seq, first_block[:header_len]).to_bytes(LENGTH_BYTES, "big")

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        """Give asyncssh what was `opened`, once; a packet that was not is as one whose tag is wrong."""
        opened, self.opened = self.opened, None
        return opened


class Chacha(PacketCipher):
    """chacha20-poly1305@openssh.com: one key for lengths, one for the rest, the sequence number as nonce."""

    def __init__(self, key: bytes) -> None:
        """`key` is 64 bytes, the main one first."""
        self._main = _chacha20(key[:32])
        self._lengths = _chacha20(key[32:])

    def seal(self, seq: int, packet: memoryview, frame: memoryview) -> None:
        """Encrypt length and content, each with its key, and authenticate both."""
        self._length_stream(seq).update_into(packet[:LENGTH_BYTES], frame)
        one_time_key = self._begin(seq)
        self._main.update_into(packet[LENGTH_BYTES:], frame[LENGTH_BYTES:])
        frame[-TAG_BYTES:] = Poly1305.generate_tag(one_time_key, frame[:-TAG_BYTES])

    def length(self, seq: int, start: Buffer) -> int:
        """Decrypt the length. Nothing vouches for it yet."""
        return int.from_bytes(self._length_stream(seq).update(start[:LENGTH_BYTES]), "big")

    def open(self, seq: int, frame: memoryview) -> bytes | None:
        """Verify the tag, then decrypt."""
        one_time_key = self._begin(seq)
        try:
            Poly1305.verify_tag(one_time_key, frame[:-TAG_BYTES], bytes(frame[-TAG_BYTES:]))
        except InvalidSignature:
            return None
        return self._main.update(frame[LENGTH_BYTES:-TAG_BYTES])

    def _begin(self, seq: int) -> bytes:
        """Return Poly1305's key, the first half of block 0, and leave the main stream at block 1."""
        self._main.reset_nonce(_nonce(seq))
        return self._main.update(_BLOCK)[:32]

    def _length_stream(self, seq: int) -> _Stream:
        self._lengths.reset_nonce(_nonce(seq))
        return self._lengths


class Gcm(PacketCipher):
    """aes128-gcm and aes256-gcm @openssh.com: the length is authenticated and in clear, the nonce counts packets."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        """`iv` is 12 bytes: 4 that stay, 8 that count."""
        self._cipher = AESGCM(key)
        self._fixed, self._counter = iv[:4], int.from_bytes(iv[4:], "big")

    def seal(self, seq: int, packet: memoryview, frame: memoryview) -> None:
        """Encrypt the content, and authenticate it with the length."""
        frame[:LENGTH_BYTES] = packet[:LENGTH_BYTES]
        self._cipher.encrypt_into(
            self._next_nonce(), packet[LENGTH_BYTES:], packet[:LENGTH_BYTES], frame[LENGTH_BYTES:]
        )

    def length(self, seq: int, start: Buffer) -> int:
        """Read the length. Nothing vouches for it yet."""
        return int.from_bytes(start[:LENGTH_BYTES], "big")

    def open(self, seq: int, frame: memoryview) -> bytes | None:
        """Verify and decrypt."""
        try:
            return self._cipher.decrypt(self._next_nonce(), frame[LENGTH_BYTES:], frame[:LENGTH_BYTES])
        except InvalidTag:
            return None

    def _next_nonce(self) -> bytes:
        nonce = self._fixed + self._counter.to_bytes(8, "big")
        self._counter = (self._counter + 1) & 0xFFFFFFFFFFFFFFFF
        return nonce


def kept(encryption: Encryption | None) -> Encryption | None:
    """Return ours with the same keys in place of asyncssh's cipher, or that one itself where we have none."""
    if isinstance(encryption, ChachaEncryption):
        return Chacha(encryption._cipher._key + encryption._cipher._adkey)
    if isinstance(encryption, GCMEncryption):
        return Gcm(encryption._cipher._key, encryption._cipher._iv)
    return encryption


_BLOCK = bytes(64)
_COUNTER_0 = bytes(8)


def _nonce(seq: int) -> bytes:
    return _COUNTER_0 + seq.to_bytes(8, "big")


def _chacha20(key: bytes) -> _Stream:
    return cast("_Stream", Cipher(ChaCha20(key, _nonce(0)), mode=None).encryptor())
