"""Before there is a membership: certificates for nobody, and a pinned authority."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from runtime.core.errors import AccessDenied
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import HostClaims, MemberRole, service_principal
from runtime.pki.keys import generate_key
from runtime.pki.newcomer import believe_newly, is_newcomer, self_signed
from runtime.pki.signing import sign_host
from runtime.pki.trust import Signer, Trust
from runtime.pki.verify import verify_member, verify_user

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = generate_key()
HOST_CA = Signer(AuthorityType.HOST, "main", generate_key())
AUTH = service_principal("auth")


def host_certificate(role: MemberRole, signer: Signer = HOST_CA) -> bytes:
    """Return the host certificate of a server of that role."""
    claims = HostClaims(
        host_id="8f14e45f-ceea-467f-a8d2-0123456789ab", role=role, name="a", cluster="main", ttl=timedelta(hours=1)
    )
    return sign_host(claims, KEY.public, signer=signer, now=NOW, serial=1).line


def test_a_newcomer_is_nobody() -> None:
    """A certificate signed by its own key is a newcomer's, and neither a user nor a member to anybody."""
    certificate = self_signed(KEY, "nobody")
    assert is_newcomer(certificate, "nobody")
    assert not is_newcomer(certificate, "root")
    for verify in (verify_user, verify_member):
        with pytest.raises(AccessDenied):
            verify(certificate, Trust([HOST_CA.public]), NOW)


def test_a_certificate_that_another_key_signed_is_no_newcomers() -> None:
    """Nobody can hand out certificates for nobody to others, and a changed one is noticed."""
    signed = self_signed(KEY, "nobody")
    assert not is_newcomer(host_certificate(MemberRole.NODE), "nobody")
    forged = self_signed(generate_key(), "nobody")
    assert is_newcomer(forged, "nobody")
    assert signed != forged


def test_a_pinned_authority_is_believed_and_another_is_not() -> None:
    """With the right pin, or none, the server is believed; with another pin it is not, and both fingerprints show."""
    certificate = host_certificate(MemberRole.AUTH)
    fingerprint = HOST_CA.public.key.fingerprint
    assert believe_newly(certificate, AUTH, fingerprint, NOW) == fingerprint
    assert believe_newly(certificate, AUTH, None, NOW) == fingerprint
    other = generate_key().public.fingerprint
    with pytest.raises(AccessDenied, match="not the pinned") as caught:
        believe_newly(certificate, AUTH, other, NOW)
    assert fingerprint in str(caught.value)
    assert other in str(caught.value)


@pytest.mark.parametrize("role", [MemberRole.NODE, MemberRole.PROXY])
def test_another_member_does_not_pass_for_auth(role: MemberRole) -> None:
    """A node's or proxy's host certificate of the right cluster does not make it an auth server."""
    with pytest.raises(AccessDenied, match="not for"):
        believe_newly(host_certificate(role), AUTH, HOST_CA.public.key.fingerprint, NOW)


def test_an_expired_server_is_not_believed_even_unpinned() -> None:
    """Without a pin everything but the authority is still checked."""
    with pytest.raises(AccessDenied):
        believe_newly(host_certificate(MemberRole.AUTH), AUTH, None, NOW + timedelta(hours=2))
