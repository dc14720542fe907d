"""TLS of the HTTPS port: what is spoken, and the certificate's files.

Sources: RFC 9325 §3.1, §4.2 (TLS 1.3, and 1.2 with forward secrecy and AEAD only).
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from runtime.core.errors import InvalidSettings

logger = logging.getLogger(__name__)

CIPHERS_TLS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
ENDS_SOON = timedelta(days=7)
KEY_SETTING = "proxy_service.https_key_file"
CERT_SETTING = "proxy_service.https_cert_file"


def server_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """Return what serves HTTPS with this certificate (PEM, with its chain) and key (PEM, no passphrase).

    Raises InvalidSettings, naming setting and file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_TLS_1_2)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        # An empty passphrase: without one OpenSSL would ask for it on the terminal.
        context.load_cert_chain(cert_file, key_file, password="")
    except (OSError, ValueError) as error:
        raise _diagnosis(cert_file, key_file) from error
    return context


def warn_of_dates(cert_file: Path, now: datetime) -> None:
    """Say in the log that the certificate in a file has ended, ends within a week, or has not begun."""
    try:
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
    except (OSError, ValueError) as error:  # replaced since TLS took it, or odd in a way that TLS does not mind
        logger.warning("%s: cannot tell how long %s is valid: %s", CERT_SETTING, cert_file, error)
        return
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        logger.warning(
            "%s: %s is not valid before %s; is the clock right?", CERT_SETTING, cert_file, f"{begins:%F %R} UTC"
        )
    elif now >= ends - ENDS_SOON:
        logger.warning(
            "%s: %s is not valid after %s; put a new one there", CERT_SETTING, cert_file, f"{ends:%F %R} UTC"
        )


def fingerprint(certificate: bytes) -> str:
    """Return the name of a DER certificate as tsh shows it: `SHA256:` and pairs of hex digits, as openssl has them."""
    return "SHA256:" + hashlib.sha256(certificate).digest().hex(":").upper()


def served_digest(cert_file: Path) -> str:
    """Return the SHA-256 (hex) of the certificate that a file has first: the server's own. Raises InvalidSettings."""
    try:
        (certificate, *_) = x509.load_pem_x509_certificates(cert_file.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"{CERT_SETTING}: {cert_file} cannot be read: {error}") from error
    return certificate.fingerprint(SHA256()).hex()


def _diagnosis(cert_file: Path, key_file: Path) -> InvalidSettings:
    """Return what is wrong with two files that OpenSSL did not take."""
    contents = []
    for setting, path in ((CERT_SETTING, cert_file), (KEY_SETTING, key_file)):
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            return InvalidSettings(
                f"{setting}: {path} cannot be read: {error.strerror or error}",
                hint="Name a file that exists and that the user who runs teleport may read.",
            )
    try:
        certificates = x509.load_pem_x509_certificates(contents[0])
    except ValueError:
        return InvalidSettings(
            f"{CERT_SETTING}: {cert_file} holds no certificate in PEM",
            hint="It starts with -----BEGIN CERTIFICATE-----, the server's first, then its chain.",
        )
    try:
        key = load_pem_private_key(contents[1], None)
    except TypeError:
        return InvalidSettings(
            f"{KEY_SETTING}: {key_file} has a passphrase, which nobody can type when a service starts",
            hint="Write it without one and protect the file: openssl pkey -in OLD -out NEW.",
        )
    except ValueError:
        return InvalidSettings(
            f"{KEY_SETTING}: {key_file} holds no private key in PEM", hint="It has a line -----BEGIN PRIVATE KEY-----."
        )
    if certificates[0].public_key() != key.public_key():
        return InvalidSettings(
            f"{KEY_SETTING}: the key in {key_file} is not that of the first certificate in {cert_file}",
            hint=f"The server's own certificate comes first in {CERT_SETTING}; its chain follows.",
        )
    return InvalidSettings(
        f"{CERT_SETTING}: TLS cannot use {cert_file} with {key_file}",
        hint="Take an ECDSA P-256 key, or RSA of 2048 bits or more.",
    )
