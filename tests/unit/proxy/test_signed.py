"""Who signed a request: only the holder of a login's key, for this request, here and now."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from runtime.api.proving import Claim, Unauthenticated, prove
from runtime.core.errors import AccessDenied
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import MemberClaims, MemberRole
from runtime.pki.identity import UserIdentity
from runtime.pki.keys import KeyAlgorithm, generate_key
from runtime.pki.signing import random_serial, sign_member
from runtime.pki.sshsig import sign
from runtime.pki.standing import check_source
from runtime.pki.trust import Signer, Trust
from runtime.proxy.signed import AUDITED_PER_SOURCE, MAX_HEADER_BYTES, SignedRequests, read_claim
from tests.unit.proxy.world import NOW, Login, World

TARGET = "/webapi/nodes?label=env%3Dprod"


@pytest.fixture
def world() -> World:
    """Return a cluster with the user joe."""
    world = World()
    world.declare_user("joe", "root")
    return world


def proved(world: World, claim: Claim, target: str = TARGET, method: str = "GET") -> UserIdentity:
    """Prove a claim at the world's proxy."""
    return prove(claim, method, target, cluster="main", trust=Trust(world.trusted), now=world.clock.now())


def refused(world: World, claim: Claim, reason: str, target: str = TARGET, method: str = "GET") -> str:
    """See that a claim is refused for that reason, and return the hint."""
    with pytest.raises(Unauthenticated, match=reason) as caught:
        proved(world, claim, target, method)
    assert caught.value.hint
    return caught.value.hint


def request(headers: Mapping[str, str], target: str = TARGET) -> web.Request:
    """Return a request as the proxy gets it."""
    return make_mocked_request("GET", target, headers=CIMultiDict(headers))


# --- what is proved --------------------------------------------------------------------------------------------------


def test_a_login_is_proved(world: World) -> None:
    """The person is who the certificate says."""
    identity = proved(world, world.login().claim(TARGET))
    assert (identity.user, identity.cluster, identity.logins) == ("joe", "main", ("root",))


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ECDSA_P256, KeyAlgorithm.ECDSA_P384, KeyAlgorithm.RSA])
def test_authorities_of_each_algorithm_are_believed(world: World, algorithm: KeyAlgorithm) -> None:
    """What the user CA is made with does not matter."""
    signer = Signer(AuthorityType.USER, "main", generate_key(algorithm))
    world.trusted.append(signer.public)
    assert proved(world, world.login(signer=signer).claim(TARGET)).user == "joe"


@pytest.mark.parametrize(
    ("target", "method"),
    [
        ("/webapi/clusters", "GET"),
        ("/webapi/nodes", "GET"),
        ("/webapi/nodes?label=env=prod", "GET"),
        (TARGET + "&search=x", "GET"),
        (TARGET, "POST"),
        (TARGET, "HEAD"),
        (TARGET, "get"),
    ],
)
def test_a_signature_is_for_one_request(world: World, target: str, method: str) -> None:
    """For another path, query or method it is worth nothing, be it spelt in another way only."""
    refused(world, world.login().claim(TARGET), "does not fit", target, method)


def test_a_signature_is_for_one_cluster(world: World) -> None:
    """What was signed for the proxy of another cluster is nothing here."""
    refused(world, world.login().claim(TARGET, cluster="other"), "does not fit")


def test_a_signature_is_for_one_time(world: World) -> None:
    """The time that is told is the one that was signed."""
    claim = world.login().claim(TARGET, seconds=-50)
    proved(world, claim)
    refused(world, replace(claim, time=f"{NOW:%Y-%m-%dT%H:%M:%SZ}"), "does not fit")


@pytest.mark.parametrize(("seconds", "taken"), [(-61, False), (-60, True), (0, True), (60, True), (61, False)])
def test_a_minute_is_the_most_that_clocks_may_differ(world: World, seconds: int, taken: bool) -> None:
    """A request of more than a minute ago, or from the future, is refused; both times are told."""
    claim = world.login().claim(TARGET, seconds=seconds)
    if taken:
        assert proved(world, claim)
    else:
        hint = refused(
            world, claim, r"signed at 2026-11-22 20:1\d:\d\d UTC; by the proxy's clock it is 2026-11-22 20:15"
        )
        assert "timedatectl" in hint


@pytest.mark.parametrize(
    "time",
    [
        "",
        "now",
        "2026-11-22T20:15:00",
        "2026-11-22 20:15:00Z",
        "2026-11-22T20:15:0Z",
        "2026-11-22T20:15:00+00:00",
        "\uff12026-11-22T20:15:00Z",
    ],
)
def test_a_time_has_one_form(world: World, time: str) -> None:
    """Another way to write the same time is refused, though it was signed."""
    login = world.login()
    message = f"GET {TARGET}\nmain\n{time}\n".encode()
    signature = sign(login.key, message, namespace="web@teleport.internal")
    refused(world, Claim(login.claim(TARGET).certificate, signature, time), "is no time such as")


def test_the_key_is_the_certificate_s(world: World) -> None:
    """A stolen certificate is nothing without its key."""
    thief, joe = world.login("ann"), world.login()
    refused(world, replace(thief.claim(TARGET), certificate=joe.claim(TARGET).certificate), "by another key")


def test_a_signature_for_another_purpose_is_nothing(world: World) -> None:
    """What `ssh-keygen -Y sign` made for a file is no request."""
    login = world.login()
    claim = login.claim(TARGET)
    message = f"GET {TARGET}\nmain\n{claim.time}\n".encode()
    refused(world, replace(claim, signature=sign(login.key, message, namespace="file")), "is for b'file'")


def test_an_expired_certificate_is_refused(world: World) -> None:
    """An hour and no longer."""
    login = world.login()
    world.clock.advance(timedelta(minutes=59))
    assert proved(world, login.claim(TARGET))
    world.clock.advance(timedelta(minutes=1))
    refused(world, login.claim(TARGET), "expired at 2026-11-22 21:15:00 UTC")


def test_another_cluster_s_user_is_refused(world: World) -> None:
    """Not trusted, it is unknown; trusted for its own people, it is not for this proxy's lists."""
    other = Signer(AuthorityType.USER, "other", generate_key())
    login = world.login(signer=other)
    refused(world, login.claim(TARGET), "a CA that is not trusted here")
    world.trusted.append(other.public)
    refused(world, login.claim(TARGET), "the certificate is one of cluster other; this is cluster main")


def test_a_member_is_no_user(world: World) -> None:
    """A certificate of a node, signed by the host CA, lists nothing; one that the host CA made for a user neither."""
    key = generate_key()
    claims = MemberClaims(
        host_id="6c5f1a52-3a5e-4d6a-9d0b-2b8d4b0f7a11", role=MemberRole.NODE, cluster="main", ttl=timedelta(hours=1)
    )
    line = sign_member(claims, key.public, signer=world.hosts, now=NOW, serial=random_serial()).line
    refused(world, Login(world, key, line).claim(TARGET), "signed by the host CA .* a user CA is due")


def test_an_authority_that_is_gone_is_not_believed(world: World) -> None:
    """After a rotation what the old key signed is refused at once."""
    claim = world.login().claim(TARGET)
    proved(world, claim)
    world.trusted.remove(world.users.public)
    refused(world, claim, "not trusted here")


def test_a_certificate_for_one_command_lists_nothing(world: World) -> None:
    """Who may run one command may not look around."""
    refused(world, world.login(force_command="uptime").claim(TARGET), "for running one command")


@pytest.mark.parametrize("certificate", [b"", b"rubbish", b"\0\0\0\x04abcd", b"\0" * 20_000])
def test_what_is_no_certificate_is_refused(world: World, certificate: bytes) -> None:
    """A plain key, rubbish and nothing at all are refused, each with a reason."""
    login = world.login()
    refused(world, replace(login.claim(TARGET), certificate=certificate), "certificate")
    refused(world, replace(login.claim(TARGET), certificate=login.key.public.blob), "public key .* was given")


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("192.0.3.7", False),
        ("2001:db8::1", True),
        ("fe80::1%eth0", False),
        ("", False),
        ("proxy", False),
    ],
)
def test_a_certificate_may_be_for_some_networks_only(world: World, address: str, taken: bool) -> None:
    """With the option source-address it is good from there and from nowhere else; without it from anywhere."""
    networks = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    identity = proved(world, world.login(source_addresses=networks).claim(TARGET))
    check_source(proved(world, world.login().claim(TARGET)), address)
    if taken:
        check_source(identity, address)
    else:
        with pytest.raises(AccessDenied, match="only, not from"):
            check_source(identity, address)


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Authorization", "X-Teleport-Certificate", "X-Teleport-Time"])
def test_each_header_is_there_once(world: World, name: str) -> None:
    """One that is missing, empty, twice or endless is told by its name."""
    headers = CIMultiDict(world.login().headers(TARGET))
    assert read_claim(request(headers)).time == "2026-11-22T20:15:00Z"
    for values, reason in (
        ((), "is missing"),
        (("",), "is missing"),
        ((headers[name], headers[name]), "more than once"),
        (("A" * (MAX_HEADER_BYTES + 1),), f"longer than {MAX_HEADER_BYTES}"),
    ):
        changed = CIMultiDict({key: value for key, value in headers.items() if key != name})
        changed.extend((name, value) for value in values)
        with pytest.raises(Unauthenticated, match=f"{name} .*{reason}") as caught:
            read_claim(request(changed))
        assert "tsh" in caught.value.hint


@pytest.mark.parametrize("value", ["Bearer abc", "Basic am9lOmpvZQ==", "SSHSIGabc", "abc"])
def test_another_scheme_is_refused(world: World, value: str) -> None:
    """Only SSHSIG is one here."""
    with pytest.raises(Unauthenticated, match="is not SSHSIG"):
        read_claim(request({**world.login().headers(TARGET), "Authorization": value}))


def test_what_is_no_base64_is_refused(world: World) -> None:
    """Neither stray characters nor a missing pad are overlooked."""
    headers = world.login().headers(TARGET)
    for name, value in (
        ("Authorization", "SSHSIG ab*cd"),
        ("Authorization", "SSHSIG abc"),
        ("X-Teleport-Certificate", "\xe4"),
    ):
        with pytest.raises(Unauthenticated, match="is not base64"):
            read_claim(request({**headers, name: value}))


# --- as a whole ------------------------------------------------------------------------------------------------------


def test_the_person_has_the_rights_of_now(world: World) -> None:
    """User and roles are those of the moment, whatever the certificate says; without a user there is nobody."""
    signed, login = SignedRequests(world.view, world.clock), world.login()
    world.declare_role("dev", "dev", env="prod")
    world.declare_user("joe", roles=("dev",))
    person = signed.person(request(login.headers(TARGET)))
    assert (person.identity.user, person.user.spec.roles, set(person.roles)) == ("joe", ("dev",), {"dev"})
    assert world.audit.events == []
    del world.people.users["joe"]
    with pytest.raises(AccessDenied, match="there is no user joe") as caught:
        signed.person(request(login.headers(TARGET)))
    assert not isinstance(caught.value, Unauthenticated)
    assert world.audit.events[0]["user"] == "joe"


def test_a_certificate_of_who_had_the_name_before(world: World) -> None:
    """A user that is declared anew is somebody else."""
    signed, login = SignedRequests(world.view, world.clock), world.login(person="a" * 32)
    joe = world.people.users["joe"]
    world.people.users["joe"] = joe.with_id("a" * 32)
    assert signed.person(request(login.headers(TARGET))).user.name == "joe"
    world.people.users["joe"] = joe.with_id("b" * 32)
    with pytest.raises(AccessDenied, match="issued to who was user joe before"):
        signed.person(request(login.headers(TARGET)))


def test_a_refusal_is_audited(world: World) -> None:
    """With path and reason; the name only where it was proved. Who showed nothing is none of it."""
    signed = SignedRequests(world.view, world.clock)
    headers = world.login().headers("/webapi/clusters")
    with pytest.raises(Unauthenticated):
        signed.person(request(headers))
    (event,) = world.audit.events
    assert (event["event"], event["user"], event["path"]) == ("web.rejected", "", "/webapi/nodes")
    assert "does not fit" in event["error"]
    with pytest.raises(Unauthenticated):
        signed.person(request({}))
    assert len(world.audit.events) == 1


def test_strangers_do_not_fill_the_audit_log(world: World) -> None:
    """So many refusals in a minute are audited for one source; in the next minute there are some again."""
    signed = SignedRequests(world.view, world.clock)
    wrong = {**world.login().headers(TARGET), "Authorization": "SSHSIG " + base64.b64encode(b"x").decode()}

    def knock() -> None:
        for _ in range(AUDITED_PER_SOURCE + 5):
            with pytest.raises(Unauthenticated):
                signed.person(request(wrong))

    knock()
    assert len(world.audit.events) == AUDITED_PER_SOURCE
    world.clock.advance(timedelta(minutes=1))
    knock()
    assert len(world.audit.events) == 2 * AUDITED_PER_SOURCE
