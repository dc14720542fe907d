"""What is signed, by whom, and what is not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from runtime.core.errors import AccessDenied, InvalidInput
from runtime.core.resources.authority import AuthorityType
from runtime.pki.certificate import CertificateType, read_certificate
from runtime.pki.claims import MemberRole, UserClaims
from runtime.pki.keys import KeyAlgorithm, generate_key, parse_public_key
from runtime.pki.signing import MAX_SERIAL, random_serial, sign_host, sign_member, sign_user
from runtime.pki.trust import Signer, Trust
from runtime.pki.verify import verify_host, verify_member, verify_user
from runtime.pki.wire import read_line
from tests.unit.pki.signers import HOST, HOST_CA, HOST_ID, HOUR, KEY, MEMBER, NOW, SECONDS, TRUST, USER, USER_CA
from tests.unit.pki.test_keys import RSA_3072


def test_user_certificate_says_what_was_claimed() -> None:
    """All claims are found again by verification, and no other permission beside them."""
    claims = UserClaims(
        user="joe",
        cluster="main",
        logins=("root", "joe"),
        roles=("dev",),
        ttl=HOUR,
        permit_port_forwarding=True,
        source_addresses=(ip_network("10.0.0.0/8"), ip_network("::1/128")),
        force_command="uptime",
    )
    certificate = sign_user(claims, KEY, signer=USER_CA, now=NOW, serial=42)
    identity = verify_user(certificate.line, TRUST, NOW)
    assert (identity.user, identity.cluster, identity.logins, identity.roles) == (
        "joe",
        "main",
        claims.logins,
        ("dev",),
    )
    assert (identity.permit_pty, identity.permit_port_forwarding, identity.permit_agent_forwarding) == (
        True,
        True,
        False,
    )
    assert (identity.source_addresses, identity.force_command) == (claims.source_addresses, "uptime")
    assert (identity.proof.key, identity.proof.serial, identity.proof.authority) == (KEY, 42, USER_CA.public)
    assert set(certificate.extensions) == {"permit-pty", "permit-port-forwarding", "roles@teleport.internal"}
    assert certificate.type is CertificateType.USER


def test_a_user_certificate_says_who_the_user_is() -> None:
    """Where there is something to say: a later user of that name is another."""
    claims = UserClaims(user="joe", cluster="main", logins=("joe",), roles=(), ttl=HOUR, person="a" * 32)
    certificate = sign_user(claims, KEY, signer=USER_CA, now=NOW, serial=1)
    assert verify_user(certificate.line, TRUST, NOW).person == "a" * 32
    nobody = sign_user(replace(claims, person=""), KEY, signer=USER_CA, now=NOW, serial=1)
    assert verify_user(nobody.line, TRUST, NOW).person == ""


def test_nothing_is_permitted_that_was_not_claimed() -> None:
    """Without permissions the only extension is the roles'; X11 and user rc are never permitted."""
    claims = UserClaims(user="joe", cluster="main", logins=("joe",), roles=(), ttl=HOUR, permit_pty=False)
    certificate = sign_user(claims, KEY, signer=USER_CA, now=NOW, serial=1)
    assert certificate.extensions == {"roles@teleport.internal": '{"cluster":"main","roles":[]}'}
    assert certificate.critical_options == {}


def test_host_and_member_certificates_say_what_was_claimed() -> None:
    """Both are signed by the host CA; the one is of type host, the other of type user."""
    host = sign_host(HOST, KEY, signer=HOST_CA, now=NOW, serial=1)
    member = sign_member(MEMBER, KEY, signer=HOST_CA, now=NOW, serial=2)
    assert (host.type, member.type) == (CertificateType.HOST, CertificateType.USER)
    names = (HOST_ID, "db1", "db1.main", "node.teleport.internal")
    assert (host.key_id, host.principals, host.extensions) == (HOST_ID, names, {})
    assert (member.key_id, member.principals) == (f"node.{HOST_ID}", (f"node.{HOST_ID}",))
    assert member.extensions == {"role@teleport.internal": '{"cluster":"main","role":"node"}'}
    assert verify_host(host.line, "DB1.main", TRUST, NOW, cluster="main").host_id == HOST_ID
    identity = verify_member(member.line, TRUST, NOW)
    assert (identity.host_id, identity.role, identity.cluster) == (HOST_ID, MemberRole.NODE, "main")


def test_window_is_backdated_by_a_minute() -> None:
    """A certificate is good from 60 s before its signing until its lifetime after, in whole seconds."""
    certificate = sign_user(USER, KEY, signer=USER_CA, now=NOW, serial=1)
    assert (certificate.valid_after, certificate.valid_before) == (SECONDS - 60, SECONDS + 3600)


def test_a_blob_and_a_line_are_the_same_certificate() -> None:
    """What the wire carries and what a file holds read alike, a comment ignored."""
    certificate = sign_user(USER, KEY, signer=USER_CA, now=NOW, serial=1)
    _, blob = read_line(certificate.line)
    assert read_certificate(blob) == read_certificate(certificate.line + b" joe's\n") == certificate


@pytest.mark.parametrize("subject", [KEY, parse_public_key(RSA_3072), generate_key(KeyAlgorithm.ECDSA_P384).public])
@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ED25519, KeyAlgorithm.ECDSA_P256, KeyAlgorithm.ECDSA_P384])
def test_each_algorithm_signs_each_key(subject: object, algorithm: KeyAlgorithm) -> None:
    """Any accepted key is certified by an authority of any algorithm."""
    assert isinstance(subject, type(KEY))
    authority = Signer(AuthorityType.USER, "main", generate_key(algorithm))
    certificate = sign_user(USER, subject, signer=authority, now=NOW, serial=1)
    assert verify_user(certificate.line, Trust([authority.public]), NOW).proof.key == subject


def test_authorities_sign_only_their_own_kind() -> None:
    """A host CA signs no user, a user CA no host and no member."""
    with pytest.raises(InvalidInput, match="host CA of cluster main must not sign UserClaims"):
        sign_user(USER, KEY, signer=HOST_CA, now=NOW, serial=1)
    with pytest.raises(InvalidInput, match="user CA of cluster main must not sign HostClaims"):
        sign_host(HOST, KEY, signer=USER_CA, now=NOW, serial=1)
    with pytest.raises(InvalidInput, match="user CA of cluster main must not sign MemberClaims"):
        sign_member(MEMBER, KEY, signer=USER_CA, now=NOW, serial=1)


def test_authorities_sign_only_for_their_own_cluster() -> None:
    """The root's CA never signs for the leaf."""
    leaf_user = Signer(AuthorityType.USER, "leaf", USER_CA.key)
    leaf_host = Signer(AuthorityType.HOST, "leaf", HOST_CA.key)
    with pytest.raises(InvalidInput, match="must not sign for cluster main"):
        sign_user(USER, KEY, signer=leaf_user, now=NOW, serial=1)
    with pytest.raises(InvalidInput, match="must not sign for cluster main"):
        sign_host(HOST, KEY, signer=leaf_host, now=NOW, serial=1)
    with pytest.raises(InvalidInput, match="must not sign for cluster main"):
        sign_member(MEMBER, KEY, signer=leaf_host, now=NOW, serial=1)


@pytest.mark.parametrize("serial", [0, -1, 2**64])
def test_serial_out_of_range(serial: int) -> None:
    """A serial that OpenSSH could not revoke, or that has more than 64 bits, is refused."""
    with pytest.raises(InvalidInput, match="serial"):
        sign_user(USER, KEY, signer=USER_CA, now=NOW, serial=serial)


def test_random_serials_are_within_range_and_differ() -> None:
    """Of a thousand serials no two are equal, and each can be signed."""
    serials = {random_serial() for _ in range(1000)}
    assert len(serials) == 1000
    assert all(1 <= serial <= MAX_SERIAL for serial in serials)
    assert max(serials) > 2**60


def test_a_naive_time_is_refused() -> None:
    """The time is aware, or the window would depend on the machine's time zone."""
    with pytest.raises(ValueError, match="aware"):
        sign_user(USER, KEY, signer=USER_CA, now=NOW.replace(tzinfo=None), serial=1)


def test_what_verification_refuses_is_not_given_out() -> None:
    """A claim changed behind its own checks does not get past the last one."""
    claims = UserClaims(user="joe", cluster="main", logins=("joe",), roles=(), ttl=HOUR)
    object.__setattr__(claims, "logins", ("joe,root",))
    with pytest.raises(AccessDenied, match="expected a login"):
        sign_user(claims, KEY, signer=USER_CA, now=NOW, serial=1)
