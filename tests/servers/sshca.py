"""A certificate authority of tests: signs what it is told to, also what ours never would."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import asyncssh
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)

Key = Ed25519PrivateKey | RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Credential:
    """A private key and its certificate, both as the contents of OpenSSH files."""

    key: bytes
    certificate: bytes

    @property
    def blob(self) -> bytes:
        """The certificate as on the wire."""
        return base64.b64decode(self.certificate.split()[1])

    def write(self, folder: Path, name: str) -> Path:
        """Write NAME and NAME-cert.pub into that folder and return NAME's path, ready for `ssh -i`."""
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(self.key)
        path.with_name(f"{name}-cert.pub").write_bytes(self.certificate + b"\n")
        return path


class Authority:
    """Signs user and host certificates."""

    def __init__(self, key: Key | None = None) -> None:
        self.key = key or Ed25519PrivateKey.generate()

    @property
    def line(self) -> bytes:
        """Its public key, as in authorized_keys."""
        return self.key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)

    def issue(
        self,
        principals: Sequence[str],
        *,
        kind: SSHCertificateType = SSHCertificateType.USER,
        key: Key | None = None,
        key_id: str = "joe@example",
        begins: float = -60,
        lasts: float = 3600,
        critical: Sequence[bytes] = (),
        extensions: Sequence[tuple[bytes, bytes]] = ((b"permit-pty", b""), (b"permit-port-forwarding", b"")),
    ) -> Credential:
        """Return a certificate with its key, a new one unless given; times are seconds from now."""
        key = key or Ed25519PrivateKey.generate()
        now = time.time()
        builder = (
            SSHCertificateBuilder()
            .public_key(key.public_key())
            .serial(7)
            .type(kind)
            .key_id(key_id.encode())
            .valid_after(now + begins)
            .valid_before(now + lasts)
        )
        encoded = [principal.encode() for principal in principals]
        builder = builder.valid_principals(encoded) if encoded else builder.valid_for_all_principals()  # type: ignore[no-untyped-call]  # cryptography's
        for name in critical:
            builder = builder.add_critical_option(name, b"")
        for name, value in extensions:
            builder = builder.add_extension(name, value)
        return Credential(private_bytes(key), builder.sign(self.key).public_bytes())

    def host(self, *names: str) -> Credential:
        """Return a host certificate for those names."""
        return self.issue(names, kind=SSHCertificateType.HOST, key_id="host", extensions=())


def private_bytes(key: Key) -> bytes:
    """Return a private key as the content of an OpenSSH file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


@cache
def rsa_key(bits: int, _which: int = 0) -> RSAPrivateKey:
    """Return an RSA key of that size; made once in a test run, because making one takes a second."""
    return generate_private_key(public_exponent=65537, key_size=bits)


def sha1_certificate(authority: RSAPrivateKey, principals: Sequence[str]) -> Credential:
    """Return a user certificate that an RSA authority signed with SHA-1, as OpenSSH before 8.2 did."""
    key = Ed25519PrivateKey.generate()
    signer = asyncssh.import_private_key(private_bytes(authority))
    certificate = signer.generate_user_certificate(
        asyncssh.import_private_key(private_bytes(key)), "joe", principals=list(principals), sig_alg="ssh-rsa"
    )
    return Credential(private_bytes(key), certificate.export_certificate().strip())
