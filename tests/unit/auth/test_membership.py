"""Joining and staying: whom a token lets in, under which names, and that nobody becomes somebody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from runtime.api import methods
from runtime.api.member_messages import AdminRequest, Heartbeat, Membership, Presence, PresenceQuery, RenewRequest
from runtime.audit.events import EventType
from runtime.auth.attempts import LOCKED_FOR, MAX_JOIN_FAILURES
from runtime.core.callers import Caller, CallerKind
from runtime.core.defaults import CERTIFICATE_TTL
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.pki.certificate import read_certificate
from tests.unit.auth.world import ADMIN, HOUR, KEY, PROXY, STATIC, World, member

ELSEWHERE = "203.0.113.9"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield an auth service without a port."""
    world = World()
    await world.start()
    yield world
    await world.stop()


def names(membership: Membership, number: int = 0) -> set[str]:
    """Return what a member is certified as, beside its id."""
    principals = set(read_certificate(membership.certificates[number].host.encode()).principals)
    return principals - {str(membership.id)}


async def renew(world: World, caller: Caller, name: str, *advertised: str) -> Membership:
    """Ask for new certificates."""
    request = RenewRequest(name=name, advertised=advertised, public_key=KEY)
    return await world.call(caller, methods.RENEW, request)


async def test_a_newcomer_becomes_a_member(world: World) -> None:
    """Its id is chosen by auth, its names are its own, it lives for the default, and the log has it."""
    joined = await world.join(await world.token(labels={"env": "prod"}), "db", advertised=("10.0.0.1",))
    assert names(joined) == {"db", "db.main", "10.0.0.1", "node.teleport.internal"}
    assert joined.labels == {"env": "prod"}
    assert joined.expires == world.clock.now() + CERTIFICATE_TTL
    assert {authority.type for authority in joined.authorities} == {"user", "host"}
    (event,) = world.audit.of(EventType.MEMBER_JOINED)
    assert event == {
        "server_id": str(joined.id),
        "static": False,
        "addr.remote": "198.51.100.1",
        "name": "db",
        "roles": ["node"],
    }
    again = await world.join(await world.token(), "db")
    assert again.id != joined.id


async def test_roles_share_one_id(world: World) -> None:
    """A token for two roles makes one member with certificates for each; a static one too, and says so in the log."""
    joined = await world.join(STATIC.token, roles=(CallerKind.NODE, CallerKind.PROXY))
    assert [each.role for each in joined.certificates] == [CallerKind.NODE, CallerKind.PROXY]
    assert "proxy.teleport.internal" in names(joined, 1)
    (event,) = world.audit.of(EventType.MEMBER_JOINED)
    assert event["static"] is True


@pytest.mark.parametrize("role", [CallerKind.ADMIN, CallerKind.USER, CallerKind.NOBODY])
async def test_no_token_makes_an_administrator(world: World, role: CallerKind) -> None:
    """Whatever the token: what joins is a service."""
    with pytest.raises(AccessDenied, match="nothing else"):
        await world.join(STATIC.token, roles=(role,))
    assert world.audit.of(EventType.JOIN_REFUSED)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b"},
        {"name": ""},
        {"name": "auth.teleport.internal"},
        {"name": "db\x1b"},
        {"name": "*"},
        {"advertised": ("db", "x/y")},
        {"advertised": ("10.0.0.1", "10.0.0.1")},
        {"key": "ssh-ed25519 AAAA"},
        {"key": ""},
    ],
)
async def test_what_cannot_be_certified_uses_no_token_up(world: World, wrong: dict[str, Any]) -> None:
    """A mistake in names or key is told, and the token for one still lets its member in afterwards."""
    token = await world.token(max_uses=1)
    with pytest.raises(InvalidInput):
        await world.join(token, **wrong)
    await world.join(token)


async def test_an_address_that_guesses_tokens_is_locked_out(world: World) -> None:
    """After a hundred wrong tokens the right one is refused from there too, for half an hour; others are let in."""
    token = await world.token(ttl=2 * HOUR)
    for number in range(MAX_JOIN_FAILURES):
        with pytest.raises(AccessDenied, match="the token is not valid"):
            await world.join(f"guess {number}")
    with pytest.raises(AccessDenied, match=r"nobody joins from 198\.51\.100\.1 until 12:30 UTC") as caught:
        await world.join(token)
    assert "--token" in caught.value.hint
    assert len(world.audit.of(EventType.JOIN_REFUSED)) == MAX_JOIN_FAILURES + 1
    await world.join(token, address=ELSEWHERE)
    world.clock.advance(LOCKED_FOR)
    await world.join(token)


async def test_a_good_token_forgives_wrong_ones(world: World) -> None:
    """Behind one address many machines join: one that comes with an old token now and then keeps nobody out."""
    token = await world.token(ttl=HOUR)
    for _ in range(3):
        for _ in range(MAX_JOIN_FAILURES - 1):
            with pytest.raises(AccessDenied):
                await world.join("old")
        await world.join(token)


async def test_a_refused_token_is_not_in_the_log(world: World) -> None:
    """The audit log has what was refused and why, without the guess: it may be a token with a typing mistake."""
    with pytest.raises(AccessDenied):
        await world.join("24be3e582c3805621658225f8c841d2002")
    (event,) = world.audit.of(EventType.JOIN_REFUSED)
    assert "24be3e" not in str(event)


# --- names of others ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": "edge"},
        {"name": "EDGE"},
        {"name": "edge.main"},
        {"name": "db", "advertised": ("edge",)},
        {"name": "db", "advertised": ("edge.main",)},
        {"name": "db", "advertised": ("ssh.example.com",)},
        {"name": "db", "advertised": ("Web.example.com",)},
    ],
)
async def test_a_node_does_not_take_a_proxys_name(world: World, wanted: dict[str, Any]) -> None:
    """Not by its name nor by what it advertises, in no case and no form that the proxy is certified or known under."""
    await world.beat(PROXY, "edge", "ssh.example.com:3023", web="web.example.com:3080")
    token = await world.token(max_uses=1)
    with pytest.raises(AccessDenied, match="is taken by a proxy of this cluster"):
        await world.join(token, **wanted)
    await world.join(token, "db")


async def test_a_node_beside_a_proxy_has_its_name(world: World) -> None:
    """On the proxy's own machine, by the address that it calls from, the name is shared by right."""
    await world.beat(PROXY, "edge", f"{ELSEWHERE}:3023")
    await world.join(await world.token(), "edge", address=ELSEWHERE)


async def test_a_member_is_renewed_as_what_it_joined(world: World) -> None:
    """A new key, a new life, the same id, names and labels; it may have moved to where it calls from."""
    joined = await world.join(await world.token(labels={"env": "prod"}), "db", advertised=("10.0.0.1", "db.example"))
    world.clock.advance(12 * HOUR)
    renewed = await renew(world, member(joined), "DB", "10.0.0.1", "198.51.100.1")
    assert renewed.id == joined.id
    assert renewed.labels == {"env": "prod"}
    assert renewed.expires == world.clock.now() + CERTIFICATE_TTL
    assert names(renewed) == {"db", "db.main", "10.0.0.1", "198.51.100.1", "node.teleport.internal"}
    assert [each.role for each in renewed.certificates] == [CallerKind.NODE]


async def test_a_member_cannot_be_renewed_as_another(world: World) -> None:
    """A node that was taken over stays what it is: neither its name nor what it advertises becomes another's."""
    joined = await world.join(await world.token(), "db")
    victim = await world.join(await world.token(), "bank", advertised=("bank.example",))
    with pytest.raises(AccessDenied, match="joined as db, not as 'bank'") as caught:
        await renew(world, member(joined), "bank")
    assert "join with a new token" in caught.value.hint
    (event,) = world.audit.of(EventType.CALL_REFUSED)
    assert event["method"] == "members.renew"
    widened = await renew(world, member(joined), "db", "bank", "bank.main", "bank.example", str(victim.id))
    assert names(widened) == {"db", "db.main", "node.teleport.internal"}


async def test_a_member_is_not_listed_as_another(world: World) -> None:
    """Under a name that it did not join with no heartbeat is taken: nobody is sent to the wrong machine."""
    joined = await world.join(await world.token(), "db")
    with pytest.raises(AccessDenied, match="joined as db, not as 'bank'"):
        await world.beat(member(joined), "bank")
    (event,) = world.audit.of(EventType.CALL_REFUSED)
    assert event["method"] == "presence.heartbeat"
    await world.beat(member(joined), "db")
    listed = await world.call(ADMIN, methods.PRESENCE, PresenceQuery(kind=CallerKind.NODE))
    assert [entry.presence.name for entry in listed.members] == ["db"]


async def test_a_member_speaks_for_itself_only(world: World) -> None:
    """A heartbeat for another id is refused, and audited."""
    first = await world.join(await world.token(), "db")
    second = await world.join(await world.token(), "db")
    presence = Presence(id=second.id, kind=CallerKind.NODE, name="db", addr="198.51.100.1:3022")
    with pytest.raises(AccessDenied, match="sent a heartbeat of node"):
        await world.call(member(first), methods.HEARTBEAT, Heartbeat(presence=presence))
    assert world.audit.of(EventType.CALL_REFUSED)


async def test_what_runs_beside_auth_needs_no_token(world: World) -> None:
    """A role of auth's own process is certified at once, keeps its id if it has one, and can be renewed."""
    local = world.service.members.local(CallerKind.PROXY, "edge", ("10.0.0.1",), KEY)
    assert names(local) == {"edge", "edge.main", "10.0.0.1", "proxy.teleport.internal"}
    again = world.service.members.local(CallerKind.PROXY, "edge", (), KEY, member=str(local.id))
    assert again.id == local.id
    renewed = await renew(world, member(local, CallerKind.PROXY), "edge", "10.0.0.2")
    assert "10.0.0.2" in names(renewed)


# --- administrators ----------------------------------------------------------------------------------------------


async def test_an_administrator_is_signed(world: World) -> None:
    """It has a certificate to call with and none to serve with, for as long as was asked, and the log has it."""
    signed = await world.call(ADMIN, methods.ADMINS_SIGN, AdminRequest(ttl=HOUR, public_key=KEY))
    (certificates,) = signed.certificates
    assert (certificates.role, certificates.host) == (CallerKind.ADMIN, "")
    assert signed.expires == world.clock.now() + HOUR
    assert read_certificate(certificates.member.encode()).principals == (f"admin.{signed.id}",)
    (event,) = world.audit.of(EventType.ADMIN_SIGNED)
    assert event == {"server_id": str(signed.id), "by": str(ADMIN), "expires": "2026-01-01T13:00:00Z"}


@pytest.mark.parametrize("kind", [kind for kind in CallerKind if kind is not CallerKind.ADMIN])
async def test_only_an_administrator_signs_administrators(world: World, kind: CallerKind) -> None:
    """No service, no user and no newcomer; the attempt is in the log."""
    caller = Caller(kind, PROXY.name, ELSEWHERE)
    with pytest.raises(AccessDenied, match=r"may not call admins\.sign"):
        await world.call(caller, methods.ADMINS_SIGN, AdminRequest(public_key=KEY))
    assert world.audit.of(EventType.CALL_REFUSED)
    assert not world.audit.of(EventType.ADMIN_SIGNED)


async def test_a_signed_administrator_signs_no_other(world: World) -> None:
    """Nor does it when its time is nearly over, or is renewed: it ends when it was said to end."""
    signed = await world.call(ADMIN, methods.ADMINS_SIGN, AdminRequest(ttl=HOUR, public_key=KEY))
    caller = member(signed, CallerKind.ADMIN)
    for later in (timedelta(), timedelta(minutes=59), timedelta(minutes=2)):
        world.clock.advance(later)
        with pytest.raises(AccessDenied, match="signs no others"):
            await world.call(caller, methods.ADMINS_SIGN, AdminRequest(public_key=KEY))
    with pytest.raises(AccessDenied, match=r"admin may not call members\.renew"):
        await renew(world, caller, "")


@pytest.mark.parametrize("ttl", [timedelta(), timedelta(seconds=59), timedelta(hours=30, seconds=1), -HOUR])
async def test_an_administrators_life_has_limits(world: World, ttl: timedelta) -> None:
    """One minute to thirty hours, as any certificate."""
    with pytest.raises(InvalidInput, match="lifetime"):
        await world.call(ADMIN, methods.ADMINS_SIGN, AdminRequest(ttl=ttl, public_key=KEY))
    assert not world.audit.of(EventType.ADMIN_SIGNED, EventType.CERTIFICATE_ISSUED)
