"""Certificates' and signatures' bytes, which cryptography keeps to itself (PROTOCOL.certkeys, RFC 4251 §5)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

CERTIFICATE_SUFFIX = "-cert-v01@openssh.com"

_KEY_FIELDS = {"ssh-ed25519": 1, "ssh-rsa": 2} | {f"ecdsa-sha2-nistp{bits}": 2 for bits in (256, 384, 521)}
"""How many strings and mpints, which look alike on the wire, the public key of each type has."""


@dataclass(frozen=True, slots=True)
class SignatureParts:
    """Who signed a certificate and how: the CA key's blob, its type, and the algorithm that the signature names."""

    ca_key: bytes
    ca_key_type: str
    algorithm: str

    @property
    def ca_key_fingerprint(self) -> str:
        """The CA key's name, as `fingerprint` gives it."""
        return fingerprint(self.ca_key)


def read_line(line: bytes) -> tuple[str, bytes]:
    """Return type and blob of one `TYPE BASE64 [COMMENT]` line, the type as the blob itself has it.

    Raises ValueError when it is no such line, holds anything that is not base64, or says one type and holds another.
    """
    fields = line.split(maxsplit=2)
    if len(fields) < 2:
        raise ValueError("it is not of the form TYPE BASE64")
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except binascii.Error as error:
        raise ValueError("its second word is not base64") from error
    key_type = blob_type(blob)
    if key_type.encode() != fields[0]:
        raise ValueError("its first word and its content name different types")
    return key_type, blob


def write_line(blob: bytes) -> bytes:
    """Return the `TYPE BASE64` line of a blob. Raises ValueError when the blob names no type."""
    return b" ".join([blob_type(blob).encode(), base64.b64encode(blob)])


def blob_type(blob: bytes) -> str:
    """Return the type that a key's or a certificate's blob starts with. Raises ValueError."""
    return _text(Reader(blob).string())


def fingerprint(blob: bytes) -> str:
    """Return a key's name as `ssh-keygen -l` prints it: SHA256: and unpadded base64."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def signature_parts(blob: bytes) -> SignatureParts:
    """Return who signed the certificate and how. Raises ValueError when the blob is not a certificate of a known type.

    The order of the fields is that of PROTOCOL.certkeys, "New public key formats".
    """
    reader = Reader(blob)
    certificate_type = _text(reader.string())
    key_type = certificate_type.removesuffix(CERTIFICATE_SUFFIX)
    if key_type == certificate_type or key_type not in _KEY_FIELDS:
        raise ValueError(f"{certificate_type[:64]!r} is not a type of certificate that is accepted")
    reader.string()  # nonce
    for _ in range(_KEY_FIELDS[key_type]):
        reader.string()
    reader.skip(8 + 4)  # serial, type
    reader.string()  # key id
    reader.string()  # valid principals
    reader.skip(8 + 8)  # valid after, valid before
    for _ in range(3):
        reader.string()  # critical options, extensions, reserved
    ca_key, signature = reader.string(), reader.string()
    reader.end()
    return SignatureParts(ca_key, blob_type(ca_key), _text(Reader(signature).string()))


def string(data: bytes) -> bytes:
    """Return the bytes as a string: four bytes of length, then as many bytes."""
    return len(data).to_bytes(4, "big") + data


def mpint(number: int) -> bytes:
    """Return a number that is not negative as an mpint: a leading zero byte where its first bit is set."""
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b"")


class Reader:
    """Takes fields off the front of some bytes; raises ValueError when they run out or are left over."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def skip(self, size: int) -> bytes:
        """Take that many bytes."""
        end = self._at + size
        if end > len(self._data):
            raise ValueError("it ends in the middle of a field")
        taken, self._at = self._data[self._at : end], end
        return taken

    def string(self) -> bytes:
        """Take one string: four bytes of length, then as many bytes."""
        return self.skip(int.from_bytes(self.skip(4), "big"))

    def mpint(self) -> int:
        """Take one mpint that is not negative, in its shortest form."""
        data = self.string()
        number = int.from_bytes(data, "big")
        if string(data) != mpint(number):
            raise ValueError("it has a number that is negative, or longer than it need be")
        return number

    def end(self) -> None:
        """Make sure that nothing is left."""
        if self._at != len(self._data):
            raise ValueError("bytes follow its last field")


def _text(data: bytes) -> str:
    return data.decode("ascii")
