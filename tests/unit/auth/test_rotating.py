"""A rotation from beginning to end as auth carries it out: by command and by itself, once, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from runtime.api import methods
from runtime.api.cluster_messages import Authorities
from runtime.api.member_messages import Heartbeat, Membership, Presence, RenewRequest
from runtime.api.messages import Nothing
from runtime.api.pipe import Pipe
from runtime.api.rotation_messages import AuthorityStates, RotateRequest, RotationStatus
from runtime.api.session import Session
from runtime.api.token_messages import TokenRequest
from runtime.audit.events import EventType
from runtime.auth.authorities import LiveAuthorities, read_authorities
from runtime.auth.authority_record import encode_authority
from runtime.auth.rotating import Rotations
from runtime.core import keys
from runtime.core.access import Rights
from runtime.core.callers import Caller, CallerKind
from runtime.core.cluster_facts import ClusterFacts
from runtime.core.errors import AccessDenied, AlreadyExists, InvalidInput, Unavailable
from runtime.core.resources import decode
from runtime.core.resources.authority import AuthorityType
from runtime.core.rotation import Mode, Phase
from runtime.pki.certificate import read_certificate
from runtime.pki.keys import parse_public_key
from runtime.pki.verify import verify_host, verify_member, verify_user
from runtime.pki.wire import write_line
from runtime.transport.capture import Proved
from runtime.transport.guards import Peer as Address
from tests.unit.auth.world import ADMIN, KEY, PROXY, World, error_of, following_world, member

RIGHTS = Rights(("joe",), ("user:joe",), timedelta(hours=30), forward_agent=True, port_forwarding=False)
USER, HOST = AuthorityType.USER, AuthorityType.HOST
FORWARD = (Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield an auth service that follows its authorities, and takes no steps by itself."""
    async with following_world() as world:
        yield world


@asynccontextmanager
async def running(*rotations: Rotations) -> AsyncIterator[None]:
    """Let these take the steps that are due."""
    tasks = [asyncio.create_task(each.run()) for each in rotations]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def rotate(world: World, phase: Phase | None = None, **more: object) -> dict[AuthorityType, RotationStatus]:
    """Ask for a step as an administrator, wait until auth itself has heard of it, and return how it stands."""
    request = RotateRequest.model_validate({"phase": phase, **more})
    found = await world.call(ADMIN, methods.AUTHORITIES_ROTATE, request)
    await settled(world)
    return {each.type: each for each in found.authorities}


async def by_hand(world: World, *phases: Phase, **more: object) -> None:
    """Take these steps, whoever has followed."""
    for phase in phases:
        await rotate(world, phase, manual=True, force=True, **more)


async def settled(world: World) -> None:
    """Wait until auth works with what the backend has."""
    stored = await read_authorities(world.backend)
    wanted = (stored.user.serial, stored.host.serial)
    async with asyncio.timeout(10), aclosing(world.service.authorities.follow()) as changes:
        async for now in changes:
            if (now.user.serial, now.host.serial) == wanted:
                return


async def until(world: World, condition: Callable[[LiveAuthorities], bool]) -> None:
    """Wait until it holds of auth's authorities."""
    async with asyncio.timeout(20), aclosing(world.service.authorities.follow()) as changes:
        async for _ in changes:
            if condition(world.service.authorities):
                return


def phases_of(world: World) -> tuple[Phase, Phase]:
    """Return where the rotations of the user CA and of the host CA are."""
    live = world.service.authorities
    user, host = (each.rotation.phase if each.rotation else Phase.STANDBY for each in (live.user, live.host))
    return user, host


async def status(world: World) -> dict[AuthorityType, RotationStatus]:
    """Return how it stands with both."""
    found = await world.call(ADMIN, methods.AUTHORITIES_ROTATION, Nothing())
    return {each.type: each for each in found.authorities}


async def beat(world: World, caller: Caller, name: str, **followed: int) -> None:
    """Send a heartbeat of a member that has followed so much."""
    presence = Presence(id=UUID(caller.name), kind=caller.kind, name=name, addr="192.0.2.9:3022")
    await world.call(caller, methods.HEARTBEAT, Heartbeat(presence=presence, followed=followed))


def node(number: int) -> Caller:
    """Return one of several nodes."""
    return Caller(CallerKind.NODE, str(UUID(int=number)), "198.51.100.1")


async def follow(world: World, caller: Caller, name: str) -> None:
    """Let a member report that it has followed all there is."""
    live = world.service.authorities
    await beat(world, caller, name, user=live.user.serial, host=live.host.serial)


def signer(certificate: str) -> str:
    """Return the key that has signed a certificate, as a line."""
    return write_line(read_certificate(certificate.encode()).signature.ca_key).decode()


async def renewed(world: World, membership: Membership) -> Membership:
    """Return what a member has after a renewal."""
    return await world.call(member(membership), methods.RENEW, RenewRequest(name="db", public_key=KEY))


# --- what each phase does --------------------------------------------------------------------------------------------


async def test_a_whole_rotation(world: World) -> None:
    """The new key signs what clients show, then what servers show; then the old one is nowhere any more."""
    membership = await world.join(await world.token())
    live = world.service.authorities
    old_user, old_host = (each.signer.key.public.line for each in (live.user, live.host))
    secrets = [each.signer.key.to_openssh().splitlines()[2] for each in (live.user, live.host)]
    seen = []
    for phase in FORWARD:
        await by_hand(world, phase)
        assert phases_of(world) == (phase, phase)
        renewal = (await renewed(world, membership)).certificates[0]
        person = world.service.issuer.user("joe", RIGHTS, KEY, None)
        verify_user(person.line, live.trust, world.clock.now())
        verify_member(renewal.member.encode(), live.trust, world.clock.now())
        verify_host(renewal.host.encode(), "db", live.trust, world.clock.now(), cluster="main")
        seen.append(
            (
                signer(person.line.decode()) == old_user,
                signer(renewal.member) == old_host,
                signer(renewal.host) == old_host,
            )
        )
    assert seen == [(True, True, True), (False, False, True), (False, False, False), (False, False, False)]
    assert {old_user, old_host}.isdisjoint(await trusted_keys(world))
    stored = b"".join([item.value for item in (await world.backend.range("authority/")).items]).decode()
    assert not any(secret in stored for secret in secrets)
    assert (live.user.active, live.host.active, live.user.rotation) == (2, 2, None)


async def trusted_keys(world: World) -> set[str]:
    """Return the keys that auth tells others to trust."""
    told: Authorities = await world.call(node(1), methods.AUTHORITIES, Nothing())
    return {key for each in told.authorities for key in each.keys}


@pytest.mark.parametrize("through", [FORWARD[:1], FORWARD[:2], FORWARD[:3]])
async def test_back_from_any_phase(world: World, through: tuple[Phase, ...]) -> None:
    """After a return the old key signs everything again, both are trusted, and at the end the new one is gone."""
    live = world.service.authorities
    membership = await world.join(await world.token())
    before = await trusted_keys(world)
    await by_hand(world, *through)
    new = (await renewed(world, membership)).certificates[0]
    await by_hand(world, Phase.ROLLBACK)
    old = (await renewed(world, membership)).certificates[0]
    assert {signer(old.host), signer(old.member)} < before
    for each in (new, old):
        verify_member(each.member.encode(), live.trust, world.clock.now())
        verify_host(each.host.encode(), "db", live.trust, world.clock.now(), cluster="main")
    await by_hand(world, Phase.STANDBY)
    assert await trusted_keys(world) == before
    assert (live.user.active, live.host.active) == (1, 1)


async def test_before_and_after_a_key_is_refused(world: World) -> None:
    """A new key means nothing before init, an old one nothing after the end, to auth's port as to members."""
    old = await world.join(await world.token())
    gate = world.service._gate
    called = old.certificates[0].member.encode()
    login = f"node.{old.id}"
    assert gate.validate(login, called, Peer()).name == str(old.id)
    await by_hand(world, *FORWARD[:2])
    new = (await renewed(world, old)).certificates[0].member.encode()
    assert gate.validate(login, new, Peer()).name == str(old.id)
    await by_hand(world, Phase.UPDATE_SERVERS, Phase.STANDBY)
    assert gate.validate(login, new, Peer()).name == str(old.id)
    with pytest.raises(AccessDenied):
        gate.validate(login, called, Peer())
    with pytest.raises(AccessDenied):
        verify_member(new, world.authorities.trust, world.clock.now())


class Peer:
    """Who is at the other end."""

    host = "198.51.100.1"


async def test_one_authority_alone(world: World) -> None:
    """--type=user leaves the host CA as it is, and the other way round."""
    live = world.service.authorities
    host = live.host.public
    await by_hand(world, *FORWARD, types=["user"])
    assert (live.user.active, live.host.public, live.host.serial) == (2, host, 0)
    user = live.user.public
    await by_hand(world, *FORWARD, types=["host"])
    assert (live.user.public, live.host.active) == (user, 2)


async def test_a_second_rotation(world: World) -> None:
    """One follows the other; how each key came after the one before is kept, in public and without private keys."""
    live = world.service.authorities
    await by_hand(world, *FORWARD)
    await by_hand(world, *FORWARD)
    assert (live.host.active, [each.number for each in live.host.successions]) == (3, [2, 3])
    record = json.loads(encode_authority(live.host))
    assert len(record["generations"]) == 1
    assert "PRIVATE" not in json.dumps(record["successions"])


async def test_an_emergency_leaves_no_way_over(world: World) -> None:
    """What was signed by a key that may be somebody else's leads nobody to the new one."""
    await by_hand(world, *FORWARD)
    await by_hand(world, *FORWARD, grace=0)
    (last,) = world.service.authorities.host.successions
    assert last.number == 2
    assert world.service.authorities.host.signer.key.public.line not in last.endorsement


# --- the gate --------------------------------------------------------------------------------------------------------


async def test_nobody_is_left_behind(world: World) -> None:
    """A phase does not begin while a member that is online has not followed; the error names it and the way out."""
    await follow(world, node(1), "web")
    await beat(world, PROXY, "edge")
    await rotate(world, Phase.INIT, manual=True)
    await follow(world, node(1), "web")
    error = await error_of(
        world, ADMIN, methods.AUTHORITIES_ROTATE, RotateRequest(phase=Phase.UPDATE_CLIENTS, manual=True)
    )
    assert isinstance(error, InvalidInput)
    assert "1 of 2 members have not followed phase init yet: proxy edge" in str(error)
    assert "--force" in error.hint
    assert phases_of(world) == (Phase.INIT, Phase.INIT)
    (straggler,) = (await status(world))[USER].stragglers
    assert (straggler.kind, straggler.name) == (CallerKind.PROXY, "edge")
    await follow(world, PROXY, "edge")
    await rotate(world, Phase.UPDATE_CLIENTS)
    assert phases_of(world) == (Phase.UPDATE_CLIENTS, Phase.UPDATE_CLIENTS)


async def test_who_is_away_is_not_waited_for(world: World) -> None:
    """A member that is not heard for a minute holds nobody up."""
    await beat(world, node(1), "web")
    await rotate(world, Phase.INIT, manual=True)
    world.clock.advance(timedelta(minutes=2))
    await rotate(world, Phase.UPDATE_CLIENTS)
    assert phases_of(world)[0] is Phase.UPDATE_CLIENTS


async def test_a_return_waits_for_nobody(world: World) -> None:
    """But its end does: who still shows what the new key signed would be refused."""
    await beat(world, node(1), "web")
    await by_hand(world, Phase.INIT, Phase.UPDATE_CLIENTS)
    await rotate(world, Phase.ROLLBACK)
    error = await error_of(world, ADMIN, methods.AUTHORITIES_ROTATE, RotateRequest(phase=Phase.STANDBY))
    assert "have not followed phase rollback" in str(error)


async def test_force_overrules(world: World) -> None:
    """Then the phase begins all the same."""
    await beat(world, node(1), "web")
    await rotate(world, Phase.INIT, manual=True)
    await rotate(world, Phase.UPDATE_CLIENTS, force=True)
    assert phases_of(world)[0] is Phase.UPDATE_CLIENTS


# --- commands --------------------------------------------------------------------------------------------------------


async def test_a_rotation_is_running_already(world: World) -> None:
    """A second one is refused with the phases, and changes nothing."""
    await rotate(world)
    before = await world.backend.range("authority/")
    error = await error_of(world, ADMIN, methods.AUTHORITIES_ROTATE, RotateRequest())
    assert isinstance(error, AlreadyExists)
    assert str(error) == ("a rotation is running already: the user CA is in phase init, the host CA is in phase init")
    assert await world.backend.range("authority/") == before


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        (Phase.ROLLBACK, "there is nothing to roll back: no rotation is running"),
        (Phase.STANDBY, "no rotation is running, so phase standby cannot be next"),
        (Phase.UPDATE_SERVERS, "no rotation is running, so phase update_servers cannot be next"),
    ],
)
async def test_no_rotation_is_running(world: World, phase: Phase, reason: str) -> None:
    """Then there is nothing to go on with, or to roll back."""
    error = await error_of(world, ADMIN, methods.AUTHORITIES_ROTATE, RotateRequest(phase=phase))
    assert str(error) == reason


async def test_the_order_of_phases(world: World) -> None:
    """A phase that is left out is refused, whatever is forced; nothing is changed."""
    await rotate(world, Phase.INIT, manual=True)
    error = await error_of(
        world, ADMIN, methods.AUTHORITIES_ROTATE, RotateRequest(phase=Phase.UPDATE_SERVERS, force=True)
    )
    assert str(error) == "phase update_servers does not follow init"
    assert phases_of(world) == (Phase.INIT, Phase.INIT)


async def test_a_command_twice(world: World) -> None:
    """The phase that is reached already is no error, and no second step."""
    await rotate(world, Phase.INIT, manual=True)
    await rotate(world, Phase.UPDATE_CLIENTS)
    before = await world.backend.range("authority/")
    await rotate(world, Phase.UPDATE_CLIENTS)
    assert await world.backend.range("authority/") == before


async def test_an_automatic_one_is_taken_over(world: World) -> None:
    """--manual on the phase that it is in stops it from going on by itself."""
    await rotate(world)
    found = await rotate(world, Phase.ROLLBACK, manual=True)
    assert {each.mode for each in found.values()} == {Mode.MANUAL}
    await rotate(world, Phase.STANDBY, manual=True)
    await rotate(world)
    assert {each.mode for each in (await status(world)).values()} == {Mode.AUTO}


@pytest.mark.parametrize("caller", [PROXY, node(1), Caller(CallerKind.NOBODY, "", "192.0.2.1")])
@pytest.mark.parametrize("method", [methods.AUTHORITIES_ROTATE, methods.AUTHORITIES_ROTATION])
async def test_administrators_only(world: World, caller: Caller, method: methods.Method[Any, Any]) -> None:
    """Nobody else rotates, or sees who has not followed; the attempt is in the audit log."""
    error = await error_of(world, caller, method, method.params())
    assert isinstance(error, AccessDenied)
    assert [event["method"] for event in world.audit.of(EventType.CALL_REFUSED)] == [method.name]
    assert phases_of(world) == (Phase.STANDBY, Phase.STANDBY)


async def test_each_step_is_audited(world: World) -> None:
    """With the authority, the phase, who did it and which keys are trusted now."""
    await rotate(world, Phase.INIT, manual=True)
    events = world.audit.of(EventType.CA_ROTATED)
    assert [(event["type"], event["phase"], event["mode"]) for event in events] == [
        ("user", "init", "manual"),
        ("host", "init", "manual"),
    ]
    assert {str(event["by"]) for event in events} == {str(ADMIN)}
    assert all(len(event["fingerprints"]) == 2 for event in events if isinstance(event["fingerprints"], list))


async def test_no_answer_holds_a_private_key(world: World) -> None:
    """Neither the status, nor what members follow, nor the public record of the cluster."""
    await by_hand(world, Phase.INIT, Phase.UPDATE_CLIENTS)
    shown = [
        (await world.call(ADMIN, methods.AUTHORITIES_ROTATION, Nothing())).model_dump_json(),
        (await anext(watched(world, node(1)))).model_dump_json(),
        str(world.audit.events),
    ]
    secrets = [
        line
        for authority in (world.service.authorities.user, world.service.authorities.host)
        for generation in authority.generations
        if generation.private is not None
        for line in generation.private.to_openssh().splitlines()[1:3]
    ]
    for text in shown:
        assert "PRIVATE" not in text
        assert not any(secret in text for secret in secrets)


# --- what members follow ---------------------------------------------------------------------------------------------


async def watched(world: World, caller: Caller) -> AsyncGenerator[AuthorityStates, None]:
    """Yield what a member hears."""
    client = world.service.local.client(lambda: (caller.kind, caller.name))
    try:
        async for piece in client.pieces(methods.AUTHORITIES_WATCH, Nothing(), AuthorityStates):
            yield piece
    finally:
        await client.close()


async def test_members_hear_of_each_step(world: World) -> None:
    """At once what holds, then each change, with the keys that are to have signed their certificates."""
    live = world.service.authorities
    old = live.host.signer.key.public.fingerprint
    async with asyncio.timeout(20), aclosing(watched(world, node(1))) as pieces:
        first = await anext(pieces)
        assert (first.serials, first.host_signer, first.member_signer) == ({"user": 0, "host": 0}, old, old)
        told = []
        for serial, phase in enumerate(FORWARD, 1):
            await by_hand(world, phase)
            piece = await anext(pieces)
            while piece.serials != {"user": serial, "host": serial}:
                piece = await anext(pieces)
            told.append((piece.member_signer == old, piece.host_signer == old, len(piece.authorities[1].keys)))
            assert {each.phase for each in piece.authorities} == {phase}
            assert parse_public_key(piece.authorities[1].keys[0]).fingerprint == piece.host_signer
    assert told == [(True, True, 2), (False, True, 2), (False, False, 2), (False, False, 1)]


async def test_the_more_members_the_slower_they_renew(world: World) -> None:
    """So that thousands are no herd, and three do not wait."""
    async with asyncio.timeout(20), aclosing(watched(world, node(1))) as one, aclosing(watched(world, node(2))) as two:
        alone = await anext(one)
        both = await anext(two)
        assert 0 < alone.spread < both.spread < 1


async def test_the_public_record_names_all_pins(world: World) -> None:
    """The signing key's first, as soon as it changes."""
    publishing = asyncio.create_task(world.service._publisher.run())
    try:
        await by_hand(world, *FORWARD[:3])
        live = world.service.authorities
        wanted = tuple(live.host.signer_of(number).public.key.fingerprint for number in (2, 1))
        async with asyncio.timeout(10), aclosing(world.backend.watch("public/")) as events:
            async for _ in events:
                if decode(ClusterFacts, (await world.backend.get(keys.CLUSTER_FACTS)).value).ca_pins == wanted:
                    break
    finally:
        publishing.cancel()
        await asyncio.wait([publishing])
    token = await world.call(ADMIN, methods.TOKENS_CREATE, TokenRequest(roles=("node",)))
    assert token.ca_pin == wanted[0]


@asynccontextmanager
async def conversation(world: World, membership: Membership, who: Caller) -> AsyncIterator[Session]:
    """Yield a conversation on a connection that was opened with a member's certificate."""
    line = membership.certificates[0].member.encode()
    peer = Address("198.51.100.1", 1)
    proved = Proved(f"{who.kind}.{who.name}", line, read_certificate(line)._parsed, who, peer, peer)
    ours, theirs = Pipe.pair()
    asking = Session(ours)
    handler = world.service._conversations.connected(proved, None)
    tasks = [asyncio.create_task(handler.serve(theirs)), asyncio.create_task(asking.run())]  # type: ignore[attr-defined]  # of auth's own kind
    try:
        yield asking
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def is_heard(conversation: Session) -> bool:
    """Tell whether a conversation goes on."""
    try:
        await conversation.call(methods.PING.name, {})
    except Unavailable:
        return False
    return True


async def test_a_connection_outlives_a_rotation_its_rights_do_not(world: World) -> None:
    """A conversation ends once the key is gone that let the caller in, one that only listens, too; none begins anew."""
    membership = await world.join(await world.token())
    caller = member(membership)
    nobody = Caller(CallerKind.NOBODY, "", "198.51.100.1")
    ending = asyncio.create_task(world.service._conversations.run())
    async with AsyncExitStack() as stack, asyncio.timeout(20):
        old, newcomer = [
            await stack.enter_async_context(conversation(world, membership, who)) for who in (caller, nobody)
        ]
        listening = old.stream(methods.AUTHORITIES_WATCH.name, {})
        await anext(listening)
        await by_hand(world, *FORWARD[:3])
        after = await renewed(world, membership)
        new = await stack.enter_async_context(conversation(world, after, caller))
        assert [await is_heard(each) for each in (old, new, newcomer)] == [True] * 3
        await by_hand(world, Phase.STANDBY)
        with pytest.raises(Unavailable):
            async for _ in listening:
                pass
        assert [await is_heard(each) for each in (old, new, newcomer)] == [False, True, True]
        late = await stack.enter_async_context(conversation(world, membership, caller))
        assert not await is_heard(late)
    ending.cancel()
    await asyncio.wait([ending])
