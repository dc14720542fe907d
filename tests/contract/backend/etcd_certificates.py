"""X.509 certificates for tests of TLS towards etcd, on files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, both PEM files."""

    cert: Path
    key: Path


class CertificateAuthority:
    """An authority of a test, with its certificate in `cert`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / name
        self._folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        certificate = (
            _builder(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.cert = _write(self._folder / "ca.pem", certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, file: str | None = None) -> Issued:
        """Return a certificate with that common name, good for 127.0.0.1, to serve and to call with."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _leaf(_builder(_name(name), self._name, key)).sign(self._key, hashes.SHA256())
        return _issued(self._folder / (file or name), certificate, key)


def self_signed(folder: Path, *names: x509.GeneralName) -> Issued:
    """Return a certificate that nobody vouches for, with those alternative names."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("self-signed")
    return _issued(folder / "self", _leaf(_builder(name, name, key), *names).sign(key, hashes.SHA256()), key)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(minutes=1),
        not_valid_after=now + timedelta(hours=1),
    )


def _leaf(builder: x509.CertificateBuilder, *names: x509.GeneralName) -> x509.CertificateBuilder:
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    alternatives = names or (x509.IPAddress(ip_address("127.0.0.1")),)
    return builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False).add_extension(
        x509.SubjectAlternativeName(alternatives), critical=False
    )


def _issued(stem: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(
        cert=_write(stem.with_suffix(".pem"), certificate.public_bytes(Encoding.PEM)),
        key=_write(stem.with_suffix(".key"), private),
    )


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
