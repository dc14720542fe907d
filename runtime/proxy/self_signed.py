"""The certificate that the proxy makes itself where none is configured: one PEM file with its key in data_dir."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.core.errors import InvalidSettings
from runtime.proxy.tls import CERT_SETTING, fingerprint
from runtime.service.identity import DataDir

logger = logging.getLogger(__name__)

FILE = "web.pem"
LIFE = timedelta(days=825)
"""The longest that Apple's systems take of a certificate that a person chose to trust."""
RENEW_BEFORE = timedelta(days=30)
BACKDATED = timedelta(hours=1)
"""For clients whose clock is behind."""
ALWAYS = ("localhost", "127.0.0.1", "::1")


def ensure_self_signed(data_dir: DataDir, names: Iterable[str], now: datetime) -> Path:
    """Return the file with certificate and key for these names, made anew when it is missing, ends soon or lacks one.

    Says the fingerprint loudly when it makes one: that is what people compare with what `tsh` shows them. Raises
    InvalidSettings when data_dir cannot be written.
    """
    wanted = tuple(dict.fromkeys((*names, *ALWAYS)))
    path = data_dir.path / FILE
    if (content := data_dir.read(FILE)) is not None and _is_good(content, wanted, now):
        return path
    certificate, key = make_self_signed(wanted, now)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    try:
        data_dir.write(FILE, pem)
    except OSError as error:
        raise InvalidSettings(
            f"{path} cannot be written: {error.strerror or error}", hint="Make room, or correct teleport.data_dir."
        ) from error
    logger.warning(
        "made a self-signed certificate for HTTPS, %s until %s: browsers and tsh ask whether to trust it; compare its "
        "fingerprint, %s, or set %s",
        path,
        f"{certificate.not_valid_after_utc:%Y-%m-%d}",
        fingerprint(certificate.public_bytes(serialization.Encoding.DER)),
        CERT_SETTING,
    )
    return path


def make_self_signed(names: Iterable[str], now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return a new ECDSA P-256 key and its certificate for these host names and IP addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Teleport proxy (self-signed)")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), key


_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _is_good(content: bytes, wanted: Iterable[str], now: datetime) -> bool:
    """Tell whether a file still serves: readable, of these names, and not about to end."""
    try:
        certificate = x509.load_pem_x509_certificate(content)
        key = serialization.load_pem_private_key(content, None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        logger.warning("%s in data_dir holds no certificate with its key; another takes its place", FILE)
        return False
    return (
        certificate.public_key() == key.public_key()
        and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE
        and {_general_name(name) for name in wanted} <= set(names)
    )
