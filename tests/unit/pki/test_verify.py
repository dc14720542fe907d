"""Forged, stale and misused certificates are refused, each for its own reason."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import SSHCertificateType

from runtime.core.errors import AccessDenied, InvalidInput
from runtime.core.joining import JOIN_LOGIN
from runtime.core.resources.authority import Authority, AuthorityType, Generation
from runtime.pki.keys import KeyAlgorithm, PublicKey, generate_key
from runtime.pki.signing import sign_host, sign_member, sign_user
from runtime.pki.trust import AuthorityKey, Signer, Trust, keys_of
from runtime.pki.verify import verify_host, verify_member, verify_user
from runtime.pki.wire import read_line, write_line
from tests.unit.pki.forging import sign_raw, signed_with_sha1, with_ca_key
from tests.unit.pki.signers import HOST, HOST_CA, HOST_ID, HOUR, KEY, MEMBER, NOW, SECONDS, TRUST, USER, USER_CA

ROLES = {"roles@teleport.internal": '{"cluster":"main","roles":["dev"]}'}
ROLE = {"role@teleport.internal": '{"cluster":"main","role":"node"}'}
WINDOW = (SECONDS - 60, SECONDS + 3600)
HOST_TYPE = SSHCertificateType.HOST

USER_LINE = sign_user(USER, KEY, signer=USER_CA, now=NOW, serial=1).line
HOST_LINE = sign_host(HOST, KEY, signer=HOST_CA, now=NOW, serial=1).line
MEMBER_LINE = sign_member(MEMBER, KEY, signer=HOST_CA, now=NOW, serial=1).line
OTHER = Signer(AuthorityType.USER, "main", generate_key())
LEAF = Signer(AuthorityType.USER, "leaf", generate_key())
RSA = Signer(AuthorityType.USER, "main", generate_key(KeyAlgorithm.RSA))
RSA_TRUST = Trust([RSA.public])


def refused(line: bytes, reason: str, *, trust: Trust = TRUST) -> None:
    """Assert that no user is made of it, for the reason."""
    with pytest.raises(AccessDenied, match=reason):
        verify_user(line, trust, NOW)


def raw_user(**changes: object) -> bytes:
    """Return a certificate that the user CA signs without asking, good but for the changes."""
    content: dict[str, object] = {"principals": ["joe"], "extensions": ROLES, "valid": WINDOW}
    return sign_raw(USER_CA.key, KEY, **(content | changes))  # type: ignore[arg-type]  # each test names its fields


def test_the_raw_certificate_is_good() -> None:
    """What the forgeries below start from is accepted: they are refused for what they change."""
    assert verify_user(raw_user(), TRUST, NOW).user == "joe"


def test_unknown_authority() -> None:
    """A CA of the same name with another key is not ours; the message names its fingerprint."""
    line = sign_user(USER, KEY, signer=OTHER, now=NOW, serial=1).line
    refused(line, f"not trusted here, {OTHER.key.public.fingerprint}".replace("+", r"\+"))


def test_type_and_authority_are_never_mixed() -> None:
    """Each of the three kinds passes for itself only, wherever it is shown."""
    verify: list[Callable[[bytes], object]] = [
        lambda line: verify_user(line, TRUST, NOW),
        lambda line: verify_member(line, TRUST, NOW),
        lambda line: verify_host(line, "db1", TRUST, NOW, cluster="main"),
    ]
    for at, line in enumerate((USER_LINE, MEMBER_LINE, HOST_LINE)):
        for other, check in enumerate(verify):
            if at == other:
                check(line)
            else:
                with pytest.raises(AccessDenied, match=r"is signed by the|certificate is due"):
                    check(line)


def test_type_host_by_the_user_authority() -> None:
    """A host certificate that the user CA signed is no user's."""
    refused(raw_user(certificate_type=HOST_TYPE), "a host certificate was given where a user certificate is due")


def test_type_user_for_a_host() -> None:
    """A user-type certificate of the host CA serves no host, even with its names and id."""
    line = sign_raw(HOST_CA.key, KEY, principals=["db1"], key_id=HOST_ID, valid=WINDOW)
    with pytest.raises(AccessDenied, match="a user certificate was given where a host certificate is due"):
        verify_host(line, "db1", TRUST, NOW, cluster="main")


def test_no_principals() -> None:
    """A certificate for everybody is for nobody: user, member and host."""
    refused(raw_user(principals=[]), "no principals")
    with pytest.raises(AccessDenied, match="no principals"):
        verify_member(sign_raw(HOST_CA.key, KEY, principals=[], extensions=ROLE, valid=WINDOW), TRUST, NOW)
    line = sign_raw(HOST_CA.key, KEY, principals=[], certificate_type=HOST_TYPE, key_id=HOST_ID, valid=WINDOW)
    with pytest.raises(AccessDenied, match="no principals"):
        verify_host(line, "db1", TRUST, NOW, cluster="main")


def test_the_principal_for_joining_is_no_login() -> None:
    """It is told apart from the logins; alone it makes no certificate of a person, and twice neither."""
    for principals, joins in ((["joe"], False), (["joe", JOIN_LOGIN], True), ([JOIN_LOGIN, "joe"], True)):
        identity = verify_user(raw_user(principals=principals), TRUST, NOW)
        assert (identity.logins, identity.join_sessions) == (("joe",), joins)
    for principals in ([JOIN_LOGIN], ["joe", JOIN_LOGIN, JOIN_LOGIN], ["joe", JOIN_LOGIN.upper()]):
        refused(raw_user(principals=principals), "claims what no user certificate may")


@pytest.mark.parametrize("principals", [["joe,root"], ["*"], ["Joe"], [f"node.{HOST_ID}"], ["joe", "joe"], [""]])
def test_principals_that_are_no_logins(principals: list[str]) -> None:
    """Even an authority of ours cannot make a login of what is none."""
    refused(raw_user(principals=principals), "claims what no user certificate may")


def test_window() -> None:
    """Good from the first second to just before the last, and `skew` widens both ends by as much."""
    signed, second = NOW.replace(microsecond=0), timedelta(seconds=1)
    begin, end = signed - 60 * second, signed + HOUR
    verify_user(USER_LINE, TRUST, begin)
    verify_user(USER_LINE, TRUST, end - second)
    with pytest.raises(AccessDenied, match="not valid before 2027-03-04 05:05:07 UTC"):
        verify_user(USER_LINE, TRUST, begin - second)
    with pytest.raises(AccessDenied, match="expired at 2027-03-04 06:06:07 UTC"):
        verify_user(USER_LINE, TRUST, end)
    verify_user(USER_LINE, TRUST, begin - second, skew=second)
    verify_user(USER_LINE, TRUST, end, skew=second)
    with pytest.raises(AccessDenied, match="expired"):
        verify_user(USER_LINE, TRUST, end + second, skew=second)


@pytest.mark.parametrize("valid", [(0, 2**64 - 1), (SECONDS - 60, SECONDS + 31 * 3600), (2**64 - 9, 2**64 - 1)])
def test_window_without_end(valid: tuple[int, int]) -> None:
    """A certificate that lives longer than any may, or outside of the calendar, is refused."""
    refused(raw_user(valid=valid), "longer than 30 hours|outside of the calendar")


def test_each_changed_byte() -> None:
    """Whichever byte of a certificate is changed, it is refused and nothing else happens."""
    _, blob = read_line(USER_LINE)
    for at in range(len(blob)):
        changed = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
        with pytest.raises(AccessDenied):
            verify_user(changed, TRUST, NOW)


def test_each_cut() -> None:
    """A certificate that ends early, or goes on, is refused, as a line and as a blob."""
    _, blob = read_line(USER_LINE)
    for at in range(len(blob)):
        with pytest.raises(AccessDenied):
            verify_user(blob[:at], TRUST, NOW)
    refused(blob + b"\0", "cannot be read: bytes follow")
    refused(USER_LINE.replace(b" ", b" !"), "not base64")
    refused(b"", "cannot be read")
    refused(b"\0" * (256 * 1024 + 1), "262145 bytes")


def test_tampered_principal() -> None:
    """A login that is changed after signing is refused for the signature."""
    _, blob = read_line(USER_LINE)
    refused(blob.replace(b"\0\0\0\x04root", b"\0\0\0\x04toor"), "it was changed, or made up")


def test_authority_key_swapped() -> None:
    """Naming a trusted CA as the signer does not make it so."""
    line = sign_user(USER, KEY, signer=OTHER, now=NOW, serial=1).line
    refused(with_ca_key(line, USER_CA.key.public.blob), "it was changed, or made up")


def test_authority_key_that_is_a_certificate() -> None:
    """A CA key blob that is itself a certificate, of a trusted CA even, is refused for that."""
    _, blob = read_line(sign_raw(USER_CA.key, USER_CA.key.public, principals=["joe"]))
    refused(with_ca_key(USER_LINE, blob), "CA key is itself a certificate")


def test_sha1() -> None:
    """A signature of a trusted RSA CA with ssh-rsa is refused for SHA-1; what the CA itself signs is rsa-sha2-512."""
    certificate = sign_user(USER, KEY, signer=RSA, now=NOW, serial=1)
    assert certificate.signature.algorithm == "rsa-sha2-512"
    assert verify_user(certificate.line, RSA_TRUST, NOW).user == "joe"
    refused(signed_with_sha1(certificate.line, RSA.key), "with 'ssh-rsa', which is not accepted", trust=RSA_TRUST)


def test_critical_options() -> None:
    """An unknown critical option is refused, and any at all on what only members and hosts have."""
    refused(raw_user(options={"verify-required": ""}), "'verify-required', which is not known")
    option = {"force-command": "true"}
    name = f"node.{HOST_ID}"
    member = sign_raw(HOST_CA.key, KEY, principals=[name], key_id=name, extensions=ROLE, options=option, valid=WINDOW)
    with pytest.raises(AccessDenied, match="'force-command', which is not known"):
        verify_member(member, TRUST, NOW)
    host = sign_raw(
        HOST_CA.key, KEY, principals=["db1"], key_id=HOST_ID, certificate_type=HOST_TYPE, options=option, valid=WINDOW
    )
    with pytest.raises(AccessDenied, match="'force-command', which is not known"):
        verify_host(host, "db1", TRUST, NOW, cluster="main")


@pytest.mark.parametrize("source", ["10.0.0.1/8", "anywhere", ","])
def test_source_address_that_cannot_be_read(source: str) -> None:
    """A restriction that is not understood is not dropped."""
    refused(raw_user(options={"source-address": source}), "list of networks")


def test_cluster_of_another() -> None:
    """A trusted cluster's CA cannot speak for this one, nor ours for it."""
    line = sign_raw(LEAF.key, KEY, principals=["joe"], extensions=ROLES, valid=WINDOW)
    refused(line, "user CA of cluster leaf cannot speak for cluster 'main'", trust=Trust([LEAF.public]))
    leaf_roles = {"roles@teleport.internal": '{"cluster":"leaf","roles":[]}'}
    refused(raw_user(extensions=leaf_roles), "cannot speak for cluster 'leaf'")
    with pytest.raises(AccessDenied, match="cannot speak for cluster 'leaf'"):
        verify_host(HOST_LINE, "db1", TRUST, NOW, cluster="leaf")


@pytest.mark.parametrize("value", ["", "{}", "[]", '{"cluster":"main"}', '{"cluster":"main","roles":"admin"}', "{"])
def test_roles_that_cannot_be_read(value: str) -> None:
    """A certificate whose roles are missing or malformed grants none: it is refused."""
    refused(raw_user(extensions={"roles@teleport.internal": value}), "extension roles@teleport.internal cannot be read")
    refused(raw_user(extensions={}), "has no extension roles@teleport.internal")


def test_unknown_extensions_are_skipped() -> None:
    """What a later version adds does not lock an older one out."""
    later = {"new@teleport.internal": "x", "roles@teleport.internal": '{"cluster":"main","roles":[],"traits":{}}'}
    assert verify_user(raw_user(extensions=later), TRUST, NOW).roles == ()


@pytest.mark.parametrize(
    ("principals", "key_id"),
    [
        ([f"proxy.{HOST_ID}"], f"proxy.{HOST_ID}"),
        ([f"node.{HOST_ID}", "root"], f"node.{HOST_ID}"),
        ([f"node.{HOST_ID}"], "joe"),
        (["node.joe"], "node.joe"),
        (["root"], "root"),
    ],
)
def test_member_principals(principals: list[str], key_id: str) -> None:
    """A member has one principal, and it agrees with its role and key id."""
    line = sign_raw(HOST_CA.key, KEY, principals=principals, key_id=key_id, extensions=ROLE, valid=WINDOW)
    with pytest.raises(AccessDenied, match="principal"):
        verify_member(line, TRUST, NOW)


@pytest.mark.parametrize("name", ["db2", "db1.main.example.com", "*", "", "db", f"{HOST_ID}.main"])
def test_host_of_another_name(name: str) -> None:
    """A host certificate is good for its names as a whole and for no other."""
    with pytest.raises(AccessDenied, match="the host certificate is not for"):
        verify_host(HOST_LINE, name, TRUST, NOW, cluster="main")


@pytest.mark.parametrize("principal", ["*", "*.main", "db1,db2"])
def test_host_wildcards(principal: str) -> None:
    """A wildcard in a certificate matches nothing: the certificate is refused."""
    line = sign_raw(
        HOST_CA.key, KEY, principals=["db1", principal], key_id=HOST_ID, certificate_type=HOST_TYPE, valid=WINDOW
    )
    with pytest.raises(AccessDenied, match="claims what no host certificate may"):
        verify_host(line, "db1", TRUST, NOW, cluster="main")


def test_plain_key_in_place_of_a_certificate() -> None:
    """A public key alone says nothing about anybody."""
    refused(KEY.line.encode(), "a public key .* was given where a certificate is due")
    refused(KEY.blob, "a public key .* was given where a certificate is due")


def test_weak_subject_key() -> None:
    """A certificate for an RSA key that is too short is refused, though a CA of ours signed it."""
    weak = PublicKey(b"", "ssh-rsa", rsa.generate_private_key(65537, 2048).public_key())
    line = sign_raw(USER_CA.key, weak, principals=["joe"], extensions=ROLES, valid=WINDOW)
    refused(line, "for a key that is not accepted: .* 2048 bits")


def test_one_key_for_two_authorities() -> None:
    """A key that would be two authorities is refused before anything is verified with it."""
    same = USER_CA.key.public
    for other in (AuthorityKey(AuthorityType.HOST, "main", same), AuthorityKey(AuthorityType.USER, "leaf", same)):
        with pytest.raises(InvalidInput, match="the same key"):
            Trust([USER_CA.public, other])
    assert Trust([USER_CA.public, USER_CA.public]).find(same.blob) == USER_CA.public


def test_each_generation_is_trusted() -> None:
    """During a rotation certificates of the old key and of the new one are good."""
    keys = [generate_key(), generate_key()]
    generations = tuple(
        Generation(number=number, public_key=key.public.line, created=NOW) for number, key in enumerate(keys, start=1)
    )
    trust = Trust(keys_of(Authority(cluster="main", type=AuthorityType.USER, generations=generations)))
    for key in keys:
        line = sign_user(USER, KEY, signer=Signer(AuthorityType.USER, "main", key), now=NOW, serial=1).line
        assert verify_user(line, trust, NOW).proof.authority.key == key.public


def test_base64_of_another_type() -> None:
    """The first word of a line does not decide what the blob is."""
    refused(b"ssh-rsa-cert-v01@openssh.com " + base64.b64encode(read_line(USER_LINE)[1]), "different types")
    assert write_line(read_line(USER_LINE)[1]) == USER_LINE
