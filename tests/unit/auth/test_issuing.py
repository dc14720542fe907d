"""The one place that issues certificates: lifetimes, principals, and the entry in the audit log for each."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from runtime.audit.events import EventType
from runtime.audit.log import Field
from runtime.auth.authorities import LocalAuthorities, ensure_authorities
from runtime.auth.issuing import Issuer
from runtime.backend.memory import MemoryBackend
from runtime.core.access import Rights
from runtime.core.clock import ManualClock
from runtime.core.defaults import CERTIFICATE_TTL
from runtime.core.errors import InvalidInput
from runtime.pki.certificate import Certificate, read_certificate
from runtime.pki.claims import MemberRole
from runtime.pki.keys import generate_key
from runtime.pki.verify import verify_host, verify_member, verify_user
from tests.unit.auth.recorder import Recorder

CLOCK = ManualClock(datetime(2026, 1, 1, 12, tzinfo=UTC))
KEY = generate_key().public
ID = "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f"
RIGHTS = Rights(("joe", "root"), ("user:joe", "dev"), timedelta(hours=30), forward_agent=True, port_forwarding=False)


@pytest.fixture
async def authorities() -> LocalAuthorities:
    """Return the authorities of a new cluster."""
    return await ensure_authorities(MemoryBackend(clock=CLOCK), "main", clock=CLOCK)


@pytest.fixture
def audit() -> Recorder:
    """Return an audit log."""
    return Recorder()


@pytest.fixture
def issuer(authorities: LocalAuthorities, audit: Recorder) -> Issuer:
    """Return an issuer with serial numbers from 7 on."""
    numbers = iter(range(7, 100))
    return Issuer(authorities, CLOCK, audit, serial=lambda: next(numbers))


def life(certificate: Certificate) -> timedelta:
    """Return how long a certificate holds from now on."""
    return datetime.fromtimestamp(certificate.valid_before, UTC) - CLOCK.now()


def test_a_users_certificate(issuer: Issuer, authorities: LocalAuthorities, audit: Recorder) -> None:
    """It is the user's with its logins and roles, proved by the user CA, and in the audit log with its serial."""
    certificate = issuer.user("joe", RIGHTS, KEY.line, None)
    identity = verify_user(certificate.line, authorities.trust, CLOCK.now())
    assert (identity.user, identity.cluster, identity.logins) == ("joe", "main", ("joe", "root"))
    assert identity.roles == ("user:joe", "dev")
    assert life(certificate) == CERTIFICATE_TTL
    (event,) = audit.of(EventType.CERTIFICATE_ISSUED)
    expected: dict[str, Field] = {
        "user": "joe",
        "kind": "user",
        "subject": "joe",
        "principals": ["joe", "root", "join:teleport.internal"],
        "serial": "7",
        "expires": "2026-01-02T11:00:00Z",
    }
    assert event == expected


@pytest.mark.parametrize(
    ("asked", "allowed", "given"),
    [
        (None, timedelta(hours=30), CERTIFICATE_TTL),
        (None, timedelta(hours=8), timedelta(hours=8)),
        (timedelta(hours=1), timedelta(hours=8), timedelta(hours=1)),
        (timedelta(hours=12), timedelta(hours=8), timedelta(hours=8)),
        (timedelta(hours=30), timedelta(hours=30), timedelta(hours=30)),
        (timedelta(days=365), timedelta(hours=30), timedelta(hours=30)),
        (timedelta(minutes=1), timedelta(hours=8), timedelta(minutes=1)),
    ],
)
def test_a_life_is_what_was_asked_for_and_no_more_than_roles_allow(
    issuer: Issuer, asked: timedelta | None, allowed: timedelta, given: timedelta
) -> None:
    """Asking for more than the roles allow gives what they allow."""
    assert life(issuer.user("joe", replace(RIGHTS, max_ttl=allowed), KEY.line, asked)) == given


@pytest.mark.parametrize("ttl", [timedelta(), timedelta(seconds=59), timedelta(hours=-1)])
def test_too_short_a_life_is_refused(issuer: Issuer, audit: Recorder, ttl: timedelta) -> None:
    """Below a minute nothing is issued, and nothing is said to have been."""
    with pytest.raises(InvalidInput, match="lifetime"):
        issuer.user("joe", RIGHTS, KEY.line, ttl)
    assert audit.events == []


@pytest.mark.parametrize("key", ["", "ssh-dss AAAAB3NzaC1kc3M=", "ssh-ed25519 AAAA", "x" * 10_000])
def test_a_key_that_is_none(issuer: Issuer, audit: Recorder, key: str) -> None:
    """What is not an accepted public key is certified by no method."""
    with pytest.raises(InvalidInput):
        issuer.user("joe", RIGHTS, key, None)
    with pytest.raises(InvalidInput):
        issuer.host(ID, MemberRole.NODE, "db", (), key, CERTIFICATE_TTL)
    with pytest.raises(InvalidInput):
        issuer.member(ID, MemberRole.NODE, key, CERTIFICATE_TTL)
    assert audit.events == []


def test_a_certificate_is_not_certified_again(issuer: Issuer) -> None:
    """A certificate in place of a key would be a chain: refused."""
    with pytest.raises(InvalidInput):
        issuer.user("joe", RIGHTS, issuer.user("joe", RIGHTS, KEY.line, None).line.decode(), None)


def test_a_members_two_certificates(issuer: Issuer, authorities: LocalAuthorities, audit: Recorder) -> None:
    """One to serve with, under its names; one to call with, under its role and id; both by the host CA."""
    served = issuer.host(ID, MemberRole.NODE, "db", ("10.0.0.1",), KEY.line, CERTIFICATE_TTL)
    called = issuer.member(ID, MemberRole.NODE, KEY.line, CERTIFICATE_TTL)
    for name in ("db", "db.main", "10.0.0.1", ID, "node.teleport.internal"):
        verify_host(served.line, name, authorities.trust, CLOCK.now(), cluster="main")
    assert verify_member(called.line, authorities.trust, CLOCK.now()).host_id == ID
    assert [(event["kind"], event["subject"]) for event in audit.of(EventType.CERTIFICATE_ISSUED)] == [
        ("host", ID),
        ("member", ID),
    ]
    assert {read_certificate(each.line).serial for each in (served, called)} == {7, 8}


def test_a_member_cannot_have_a_services_name(issuer: Issuer) -> None:
    """No node can be called auth.teleport.internal, by its name or by what it advertises."""
    for name, advertised in (("auth.teleport.internal", ()), ("db", ("AUTH.Teleport.Internal",)), ("a b", ())):
        with pytest.raises(InvalidInput):
            issuer.host(ID, MemberRole.NODE, name, advertised, KEY.line, CERTIFICATE_TTL)
