"""A member beside a real auth service, called within the process: heartbeats, renewal, farewell, auth servers."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.api import methods
from runtime.api.member_messages import Presence, PresenceQuery
from runtime.audit.log import EventLog
from runtime.auth.server import AuthOptions, AuthService, open_authorities
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import CallerKind
from runtime.core.clock import ManualClock
from runtime.core.errors import Unavailable
from runtime.pki.certificate import read_certificate
from runtime.pki.keys import generate_key
from runtime.service.identity import DataDir, StoredIdentity, identities_of
from runtime.service.member import AUTH_SERVERS_FILE, GOODBYES, AuthServers, Member
from runtime.service.metrics import CountedBackend, Metrics

NOW = datetime(2026, 11, 22, 18, tzinfo=UTC)


class World:
    """An auth service without a port, a clock that moves by hand, and one node beside it."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        self.backend = MemoryBackend(clock=self.clock)
        self.log = EventLog(folder / "log", self.clock)
        self.data_dir = DataDir(folder)
        self.name = "luna"
        self.told: list[StoredIdentity] = []

    async def start(self) -> None:
        """Make auth and the node's identity."""
        options = AuthOptions(address="127.0.0.1", port=0, cluster_name="main")
        self.service = AuthService(
            options,
            backend=self.backend,
            authorities=await open_authorities(self.backend, options, self.clock),
            clock=self.clock,
            audit=self.log,
            auth_servers=lambda: ("127.0.0.1:3025",),
        )
        key = generate_key()
        membership = self.service.members.local(CallerKind.NODE, "luna", ("127.0.0.1",), key.public.line)
        self.identity = identities_of(membership, key.to_openssh(), "main")[CallerKind.NODE]

    async def _renewed(self, identity: StoredIdentity) -> None:
        self.told.append(identity)

    def member(self, clock: ManualClock | None = None) -> Member:
        """Return the node as a member that is not running yet."""
        presence = Presence(id=self.identity.id, kind=CallerKind.NODE, name=self.name, addr="127.0.0.1:3022")
        return Member(
            self.identity,
            data_dir=self.data_dir,
            servers=AuthServers(self.data_dir, []),
            presence=lambda: presence.model_copy(update={"name": self.name}),
            advertised=("127.0.0.1",),
            clock=clock or self.clock,
            renewed=self._renewed,
            auth=self.service.local.client(lambda: (CallerKind.NODE, str(self.identity.id))),
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Yield auth and a node."""
    world = World(tmp_path)
    await world.start()
    yield world
    await world.service.stop()
    await world.backend.close()
    world.log.close()


async def beat(member: Member) -> None:
    """Run a member until auth has taken a heartbeat."""
    member.heard.clear()
    running = asyncio.create_task(member.run())
    await asyncio.wait_for(member.heard.wait(), 10)
    running.cancel()
    await asyncio.wait([running])


async def test_a_fresh_identity_is_left_as_it_is(world: World) -> None:
    """A heartbeat is taken and counted, nothing is renewed, and the servers that it told are kept."""
    member = world.member()
    await beat(member)
    assert (member.heartbeats, member.failures, member.last_heartbeat) == (1, 0, NOW)
    assert member.identity == world.identity
    assert json.loads((world.data_dir.path / AUTH_SERVERS_FILE).read_text()) == ["127.0.0.1:3025"]
    await member.leave()


async def test_renewal_when_a_third_of_life_is_left(world: World) -> None:
    """Before, the certificates stay; then new ones with a new key come, are kept, and told to who serves with them."""
    member = world.member()
    world.clock.advance(world.identity.expires - NOW - world.identity.life / 3)
    await beat(member)
    assert world.told == []
    world.clock.advance(timedelta(seconds=1))
    await beat(member)
    assert world.told == [member.identity]
    assert world.data_dir.identity(CallerKind.NODE) == member.identity
    assert member.identity.expires > world.identity.expires
    assert member.identity.key != world.identity.key
    assert member.identity.id == world.identity.id
    await member.leave()


async def test_another_name_renews_at_once(world: World) -> None:
    """A node that was started under another name has a certificate for it before it is listed by it."""
    world.name = "sol"
    member = world.member()
    await beat(member)
    assert "sol" in read_certificate(member.identity.host_certificate.encode()).principals
    await member.leave()


async def test_a_clock_that_is_off_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A member whose clock is hours off goes on, and the log says which way."""
    member = world.member(ManualClock(NOW - timedelta(hours=5)))
    await beat(member)
    assert "the clock of this machine is 18000 s behind that of the auth server" in caplog.text
    await member.leave()


async def test_leaving_takes_it_off_the_list(world: World) -> None:
    """A member that says goodbye is listed no longer."""
    member = world.member()
    await beat(member)
    listed = await member.auth.call(methods.PRESENCE, PresenceQuery(kind=CallerKind.NODE))
    assert [entry.presence.name for entry in listed.members] == ["luna"]
    await member.say_goodbye()
    assert (await member.auth.call(methods.PRESENCE, PresenceQuery(kind=CallerKind.NODE))).members == ()
    await member.leave()


async def test_leaving_is_said_again(world: World) -> None:
    """A goodbye that got no answer is said again: it may have gone to an auth server that had just gone itself."""
    member = world.member()
    await beat(member)
    real, tries = member.auth.call, 0

    async def lost(*args: Any, **kwargs: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < GOODBYES:
            raise Unavailable("nobody answers")
        return await real(*args, **kwargs)

    member.auth.call = lost  # type: ignore[method-assign]  # stands in for a server that is gone
    await member.say_goodbye()
    assert (await real(methods.PRESENCE, PresenceQuery(kind=CallerKind.NODE))).members == ()
    member.auth.call = real  # type: ignore[method-assign]  # and back
    await member.leave()


async def test_trouble_is_told_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """While auth is away each try is counted and only the first is logged; that it is back is logged too."""
    member = world.member()
    await beat(member)
    real, tries = member.auth.call, 0

    async def away(*args: Any, **kwargs: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries > 3:
            return await real(*args, **kwargs)
        raise Unavailable("nobody answers")

    member.auth.call = away  # type: ignore[method-assign]
    member._pause = lambda in_vain: 0  # type: ignore[method-assign]  # the pauses are tested with the client
    await beat(member)
    assert member.failures == 3
    assert caplog.text.count("no heartbeat: nobody answers") == 1
    assert caplog.text.count("auth takes heartbeats again") == 1
    member.auth.call = real  # type: ignore[method-assign]
    await member.leave()


def test_servers_that_were_heard_of_come_first(tmp_path: Path) -> None:
    """The list on disk comes before the configured one, each in random order; what is in both is asked once."""
    data_dir = DataDir(tmp_path)
    configured = ["c1:3025", "c2:3025", "h1:3025"]
    assert set(AuthServers(data_dir, configured)()) == set(configured)
    AuthServers(data_dir, configured).heard(["h1:3025", "h2:3025"])
    servers = AuthServers(data_dir, configured, rng=random.Random(1))
    orders = {servers() for _ in range(50)}
    assert {frozenset(order[:2]) for order in orders} == {frozenset({"h1:3025", "h2:3025"})}
    assert {frozenset(order[2:]) for order in orders} == {frozenset({"c1:3025", "c2:3025"})}
    assert len(orders) == 4


@pytest.mark.parametrize("content", ["", "{", '"a:1"', "[1]", '{"a": 1}'])
def test_a_broken_list_is_ignored(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is no list of addresses leaves the configured ones, and the log says so."""
    (tmp_path / AUTH_SERVERS_FILE).write_text(content)
    assert AuthServers(DataDir(tmp_path), ["c:3025"])() == ("c:3025",)
    assert "is not a list of addresses" in caplog.text


async def test_metrics_tell_of_members_and_backend(world: World) -> None:
    """Heartbeats by role, when certificates end, and requests that the backend did not answer."""
    metrics = Metrics()
    member = world.member()
    metrics.watch(member)
    await beat(member)
    backend = CountedBackend(world.backend, metrics)
    await backend.put("presence/x", b"")
    await world.backend.close()
    with pytest.raises(Unavailable):
        await backend.get("presence/x")
    await member.auth.close()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    assert value("teleport_heartbeats_total", role="node", result="success") == 1
    assert value("teleport_heartbeats_total", role="node", result="failure") == 0
    assert value("teleport_last_heartbeat_timestamp_seconds", role="node") == NOW.timestamp()
    assert value("teleport_certificate_expiry_timestamp_seconds", role="node") == world.identity.expires.timestamp()
    assert value("teleport_backend_requests_total", operation="put") == 1
    assert value("teleport_backend_errors_total", operation="put") is None
    assert value("teleport_backend_errors_total", operation="get") == 1
