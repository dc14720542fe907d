"""Proofs before there is trust: the root's proxy and its HTTPS certificate, and the leaf that holds its host CA."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from runtime.core.errors import AccessDenied
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import HostClaims, MemberRole
from runtime.pki.introduction import Introduction, check_introduction, check_vouched, introduce, vouch
from runtime.pki.keys import generate_key
from runtime.pki.signing import sign_host
from runtime.pki.trust import Signer

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)
NONCE = "0123456789abcdef" * 2
HOSTS = Signer(AuthorityType.HOST, "main", generate_key())
PIN = HOSTS.key.public.fingerprint
KEY = generate_key()
ID = "f84f7386-5e22-45ff-8f7d-b8079742e63f"


def certificate(role: MemberRole = MemberRole.PROXY, signer: Signer = HOSTS) -> str:
    """Return a host certificate of KEY."""
    claims = HostClaims(host_id=ID, role=role, name="proxy1", cluster="main", advertised=(), ttl=timedelta(hours=1))
    return sign_host(claims, KEY.public, signer=signer, now=NOW, serial=1).line.decode().strip()


GIVEN = introduce(KEY, certificate(), nonce=NONCE, cluster="main", tls="ab" * 32)


def test_a_proxy_proves_which_certificate_is_its_own() -> None:
    """To who has the pin of its host CA, for the nonce that was asked with."""
    check_introduction(GIVEN, nonce=NONCE, ca_pin=PIN, now=NOW)


@pytest.mark.parametrize(
    ("given", "nonce", "pin", "says"),
    [
        (GIVEN, "f" * 32, PIN, "the signature does not fit"),
        (replace(GIVEN, tls="cd" * 32), NONCE, PIN, "the signature does not fit"),
        (replace(GIVEN, cluster="other"), NONCE, PIN, "the signature does not fit"),
        (replace(GIVEN, signature="@@"), NONCE, PIN, "not base64"),
        (replace(GIVEN, signature="AAAA"), NONCE, PIN, "the signature cannot be read"),
        (GIVEN, NONCE, generate_key().public.fingerprint, "not the pinned"),
        (replace(GIVEN, certificate=certificate(MemberRole.NODE)), NONCE, PIN, "is not for 'proxy.teleport.internal'"),
        (replace(GIVEN, certificate="ssh-ed25519 AAAA"), NONCE, PIN, "certificate"),
        (introduce(generate_key(), certificate(), nonce=NONCE, cluster="main", tls="ab"), NONCE, PIN, "another key"),
    ],
    ids=count(),
)
def test_who_is_no_proxy_of_the_pinned_ca(given: Introduction, nonce: str, pin: str, says: str) -> None:
    """Replayed, changed, of another CA, of a node, or signed by whoever has seen the certificate."""
    with pytest.raises(AccessDenied, match=says):
        check_introduction(given, nonce=nonce, ca_pin=pin, now=NOW)


def test_an_old_certificate_proves_nothing() -> None:
    """A proxy's host certificate ends."""
    with pytest.raises(AccessDenied, match="expired"):
        check_introduction(GIVEN, nonce=NONCE, ca_pin=PIN, now=NOW + timedelta(hours=2))


def test_a_leaf_holds_the_ca_that_it_is_to_be_known_by() -> None:
    """The signature is for this token, this name and these keys, and by this CA."""
    keys = [HOSTS.key.public.line, generate_key().public.line]
    said = {"cluster": "leaf", "host_keys": keys, "token": "secret"}
    proof = vouch(HOSTS.key, **said)  # type: ignore[arg-type]  # the types of a dict's values are mixed
    check_vouched(proof, HOSTS.key.public, **said)  # type: ignore[arg-type]  # as above
    for other in (
        {**said, "cluster": "leaf2"},
        {**said, "token": "another"},
        {**said, "host_keys": keys[:1]},
        {**said, "host_keys": keys[::-1]},
    ):
        with pytest.raises(AccessDenied, match="does not fit"):
            check_vouched(proof, HOSTS.key.public, **other)  # type: ignore[arg-type]  # as above
    with pytest.raises(AccessDenied, match="by another key"):
        check_vouched(proof, KEY.public, **said)  # type: ignore[arg-type]  # as above


def test_the_two_proofs_are_not_each_other() -> None:
    """What a proxy signs is worth nothing as a leaf's word, whatever is in it."""
    proof = vouch(KEY, cluster="main", host_keys=[], token="x")
    with pytest.raises(AccessDenied, match="trust-leaf"):
        check_introduction(replace(GIVEN, signature=proof), nonce=NONCE, ca_pin=PIN, now=NOW)
