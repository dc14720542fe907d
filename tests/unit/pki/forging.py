"""Certificates that our signing would never make: built with the library's raw builder, or byte by byte."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType

from runtime.pki.keys import PrivateKey, PublicKey
from runtime.pki.wire import read_line, signature_parts, write_line


def sign_raw(
    ca_key: PrivateKey,
    key: PublicKey,
    *,
    principals: Sequence[str],
    certificate_type: SSHCertificateType = SSHCertificateType.USER,
    key_id: str = "joe",
    options: Mapping[str, str] | None = None,
    extensions: Mapping[str, str] | None = None,
    valid: tuple[int, int] | None = None,
) -> bytes:
    """Return the line of a certificate with exactly that content, for an hour from now unless `valid` is given."""
    after, before = valid or (int(time.time()) - 60, int(time.time()) + 3600)
    builder = SSHCertificateBuilder().public_key(key.crypto).serial(1).type(certificate_type).key_id(key_id.encode())
    builder = builder.valid_after(after).valid_before(before)
    if principals:
        builder = builder.valid_principals([principal.encode() for principal in principals])
    else:
        builder = builder.valid_for_all_principals()  # type: ignore[no-untyped-call]  # the library's omission
    for name, value in (options or {}).items():
        builder = builder.add_critical_option(name.encode(), value.encode())
    for name, value in (extensions or {}).items():
        builder = builder.add_extension(name.encode(), value.encode())
    return builder.sign(ca_key.crypto).public_bytes()


def string(data: bytes) -> bytes:
    """Return the bytes as a string of RFC 4251 §5."""
    return struct.pack(">I", len(data)) + data


def with_ca_key(line: bytes, ca_key: bytes) -> bytes:
    """Return the certificate with another blob in the place of its CA key; its signature stays and is wrong."""
    head, signature = _split(line)
    return write_line(head + string(ca_key) + signature)


def signed_with_sha1(line: bytes, ca_key: PrivateKey) -> bytes:
    """Return the certificate signed anew by an RSA key with ssh-rsa, which is SHA-1."""
    head, _ = _split(line)
    body = head + string(ca_key.public.blob)
    crypto = ca_key.crypto
    assert isinstance(crypto, RSAPrivateKey)
    signature = crypto.sign(body, PKCS1v15(), SHA1())  # noqa: S303 — the point of it
    return write_line(body + string(string(b"ssh-rsa") + string(signature)))


def _split(line: bytes) -> tuple[bytes, bytes]:
    """Return what comes before the CA key, and the signature's field."""
    _, blob = read_line(line)
    ca_key = string(signature_parts(blob).ca_key)
    at = blob.rindex(ca_key)
    return blob[:at], blob[at + len(ca_key) :]
