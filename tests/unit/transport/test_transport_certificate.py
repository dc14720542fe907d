"""The rules that every certificate meets, byte by byte."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.errors import AccessDenied
from runtime.transport.certificate import check_certificate, signature_algorithm
from tests.servers.sshca import Authority, Credential, rsa_key, sha1_certificate

USER = SSHCertificateType.USER
GOOD = Authority().issue(["joe"])


def test_a_good_certificate_is_shown_as_it_is() -> None:
    """The line is byte for byte the file's, and what it says can be read."""
    shown = check_certificate(GOOD.blob, USER)
    assert shown.line == GOOD.certificate
    assert (shown.parsed.valid_principals, shown.parsed.serial) == ([b"joe"], 7)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_every_accepted_type_of_key(curve: ec.EllipticCurve) -> None:
    """ECDSA keys and authorities on the three curves are read to their last field, too."""
    builder = SSHCertificateBuilder().public_key(ec.generate_private_key(curve).public_key()).serial(1).key_id(b"joe")
    builder = builder.type(USER).valid_principals([b"joe"]).valid_after(0).valid_before(2**63)
    line = builder.sign(ec.generate_private_key(curve)).public_bytes()
    assert check_certificate(Credential(b"", line).blob, USER).line == line


def test_rsa_of_3072_bits_and_sha2() -> None:
    """RSA counts when it is long enough and signs with SHA-2, for a holder as for an authority."""
    issued = Authority(rsa_key(3072)).issue(["joe"], key=rsa_key(3072))
    assert check_certificate(issued.blob, USER).line == issued.certificate


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (sha1_certificate(rsa_key(3072), ["joe"]).blob, "signed with ssh-rsa"),
        (Authority(rsa_key(2048)).issue(["joe"]).blob, "authority's RSA key has 2048 bits"),
        (Authority().issue(["joe"], key=rsa_key(2048)).blob, "certificate's RSA key has 2048 bits"),
        (Authority().issue([]).blob, "no principals"),
        (Authority().issue(["joe"], critical=[b"verify-required"]).blob, "verify-required"),
        (Authority().host("joe").blob, "a host certificate; a user one is due"),
        (GOOD.blob[:-1] + bytes([GOOD.blob[-1] ^ 1]), "cannot be read or verified"),
        (GOOD.blob + b"\0", "cannot be read or verified"),
        (b"", "neither a key nor a certificate"),
    ],
)
def test_each_rule_says_that_it_was_broken(blob: bytes, message: str) -> None:
    """The reason names the rule, for whoever reads the log."""
    with pytest.raises(AccessDenied, match=message):
        check_certificate(blob, USER)


def test_force_command_is_known_for_users_and_not_for_hosts() -> None:
    """What a critical option means depends on the kind of certificate."""
    authority = Authority()
    assert check_certificate(authority.issue(["joe"], critical=[b"source-address"]).blob, USER)
    host = authority.issue(["h"], kind=SSHCertificateType.HOST, critical=[b"source-address"], extensions=())
    with pytest.raises(AccessDenied, match="source-address"):
        check_certificate(host.blob, SSHCertificateType.HOST)


@given(st.integers(0, len(GOOD.blob)))
def test_a_certificate_cut_short_is_refused(length: int) -> None:
    """No prefix of a certificate is one, and no cut raises anything but AccessDenied."""
    if length < len(GOOD.blob):
        with pytest.raises(AccessDenied):
            check_certificate(GOOD.blob[:length], USER)
    else:
        check_certificate(GOOD.blob, USER)


@given(st.binary(max_size=64))
def test_garbage_is_refused(garbage: bytes) -> None:
    """Bytes that are no key are AccessDenied and nothing else, also behind a certificate's name."""
    for blob in (garbage, b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com" + garbage):
        with pytest.raises(AccessDenied):
            check_certificate(blob, USER)


def test_signature_algorithm() -> None:
    """It is what the signature itself says, not what the request around it claims."""
    assert signature_algorithm(b"\0\0\0\x07ssh-rsa\0\0\0\x01x") == "ssh-rsa"
    for broken in (b"", b"\0\0\0\x08ssh-rsa", b"\0\0\0\x01\xff"):
        with pytest.raises(AccessDenied):
            signature_algorithm(broken)
