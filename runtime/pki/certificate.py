"""Reading a certificate: what its bytes say, before anybody asks whether to believe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import SSHCertificate, SSHCertificateType, load_ssh_public_identity

from runtime.core.errors import AccessDenied, InvalidInput
from runtime.pki.keys import PublicKey, accept_key
from runtime.pki.wire import CERTIFICATE_SUFFIX, SignatureParts, read_line, signature_parts, write_line

MAX_CERTIFICATE_BYTES = 256 * 1024
"""No SSH packet is larger (OpenSSH, packet.c), so no certificate that was offered can be."""


class CertificateType(StrEnum):
    """What OpenSSH may use a certificate for (PROTOCOL.certkeys)."""

    USER = "user"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What one certificate says. Nothing is proved by having one: see `runtime.pki.verify`.

    `valid_after` and `valid_before` are seconds since 1970 UTC; the certificate is good from the first to just before
    the second. `line` is the content of a -cert.pub file, without a comment.
    """

    line: bytes = field(repr=False)
    type: CertificateType
    key: PublicKey
    key_id: str
    serial: int
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: Mapping[str, str]
    extensions: Mapping[str, str]
    signature: SignatureParts = field(repr=False)
    _parsed: SSHCertificate = field(repr=False, compare=False)

    def signature_is_good(self) -> bool:
        """Return whether the CA key that the certificate names has signed it."""
        try:
            self._parsed.verify_cert_signature()
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            return False
        return True


def read_certificate(data: bytes) -> Certificate:
    """Return what a certificate says; `data` is its line (`TYPE BASE64 [COMMENT]`) or its blob, as on the wire.

    Raises AccessDenied when it cannot be read, or its public key is not one that `parse_public_key` accepts.
    """
    if len(data) > MAX_CERTIFICATE_BYTES:
        raise AccessDenied(f"the certificate has {len(data)} bytes; {MAX_CERTIFICATE_BYTES} is the most")
    try:
        # A blob starts with the four bytes of a length, the first of which is zero.
        line = write_line(data) if data[:1] == b"\0" else data
        certificate_type, blob = read_line(line)
        if not certificate_type.endswith(CERTIFICATE_SUFFIX):
            raise AccessDenied(
                f"a public key ({certificate_type[:64]}) was given where a certificate is due",
                hint="Log in first: a certificate is what a login gives.",
            )
        signature = signature_parts(blob)
        if signature.ca_key_type.endswith(CERTIFICATE_SUFFIX):
            raise AccessDenied("the certificate's CA key is itself a certificate; only plain keys sign certificates")
        line = write_line(blob)
        parsed = load_ssh_public_identity(line)
        if not isinstance(parsed, SSHCertificate):
            raise ValueError("it is a public key")  # noqa: TRY004 — translated below like any other malformed input
        return Certificate(
            line=line,
            type=CertificateType.USER if parsed.type is SSHCertificateType.USER else CertificateType.HOST,
            key=accept_key(parsed.public_key()),
            key_id=parsed.key_id.decode(),
            serial=parsed.serial,
            principals=tuple(principal.decode() for principal in parsed.valid_principals),
            valid_after=parsed.valid_after,
            valid_before=parsed.valid_before,
            critical_options=_texts(parsed.critical_options),
            extensions=_texts(parsed.extensions),
            signature=signature,
            _parsed=parsed,
        )
    except (ValueError, UnsupportedAlgorithm, NotImplementedError) as error:
        raise AccessDenied(f"the certificate cannot be read: {error}") from error
    except InvalidInput as error:
        raise AccessDenied(f"the certificate is for a key that is not accepted: {error}", hint=error.hint) from error


def _texts(options: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in options.items()}
