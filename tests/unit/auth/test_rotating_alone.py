"""Rotations that go on by themselves, several auth servers that take their steps, and those that die amid one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from runtime.api.member_messages import Presence
from runtime.api.rotation_messages import RotateRequest
from runtime.audit.events import EventType
from runtime.auth.authorities import LiveAuthorities, ensure_authorities, read_authorities
from runtime.auth.authority_record import LocalAuthority
from runtime.auth.presence import PresenceStore
from runtime.auth.rotating import FORCED_WAIT, WARN_AFTER, Rotations
from runtime.backend.base import Item
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import Caller, CallerKind
from runtime.core.clock import ManualClock
from runtime.core.errors import AlreadyExists, Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.core.rotation import DEFAULT_GRACE, Phase
from tests.unit.auth.recorder import Recorder

NODE = Caller(CallerKind.NODE, str(UUID(int=1)), "198.51.100.1")
BY_ITSELF = [Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY]
WAITS = [DEFAULT_GRACE / 30, DEFAULT_GRACE * 4 / 5, DEFAULT_GRACE / 5]
A_MOMENT = timedelta(seconds=1)


class Killed(BaseException):
    """The process is gone."""


class MortalBackend(MemoryBackend):
    """A backend before, or after, whose n-th write of an authority its caller dies."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.writes_left: int | None = None
        self.written = False
        """Whether the last one is carried out."""

    async def compare_and_swap(self, key: str, value: bytes, *, revision: int, expires: datetime | None = None) -> Item:
        """Write, unless the caller dies before."""
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0 and not self.written:
                raise Killed
        item = await super().compare_and_swap(key, value, revision=revision, expires=expires)
        if self.writes_left is not None and self.writes_left < 0:
            raise Killed
        return item


class Cluster:
    """Auth servers on one backend, as far as they rotate."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, 12, tzinfo=UTC))
        self.backend = MortalBackend(self.clock)
        self.presence = PresenceStore(self.backend, self.clock)
        self.audit = Recorder()
        self._tasks: list[asyncio.Task[None]] = []

    async def server(self) -> Rotations:
        """Return one more auth server, which follows the backend."""
        live = LiveAuthorities(await ensure_authorities(self.backend, "main", clock=self.clock), self.backend)
        self._tasks.append(asyncio.create_task(live.run()))
        return Rotations(self.backend, live, self.presence, self.audit, self.clock.now)

    def let_run(self, *servers: Rotations) -> None:
        """Let these take the steps that are due."""
        self._tasks += [asyncio.create_task(each.run()) for each in servers]

    async def stop(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.backend.close()

    async def phases(self) -> tuple[Phase, Phase]:
        """Return where the backend says that the two rotations are."""
        stored = await read_authorities(self.backend)
        return _phase(stored.user), _phase(stored.host)

    async def reach(self, *phases: Phase) -> None:
        """Wait until both are in one of the phases."""
        await eventually(lambda: self._reached(phases))

    async def _reached(self, phases: tuple[Phase, ...]) -> bool:
        return set(await self.phases()) <= set(phases)

    async def report(self, *, followed: bool = True) -> None:
        """Let the one node tell of itself, for as long as the clock may be moved."""
        stored = await read_authorities(self.backend)
        serials = {"user": stored.user.serial, "host": stored.host.serial} if followed else {}
        presence = Presence(id=UUID(NODE.name), kind=NODE.kind, name="web", addr="192.0.2.9:3022")
        await self.presence.heartbeat(NODE, presence, timedelta(minutes=10), {}, serials)

    def steps(self) -> list[tuple[object, object]]:
        """Return the steps that were told of, the user CA's first."""
        events = self.audit.of(EventType.CA_ROTATED)
        return sorted(((event["type"], event["phase"]) for event in events), key=lambda step: str(step[0]))


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - of several tasks, none of which tells of an event
            await asyncio.sleep(0.01)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Yield a cluster without a server."""
    cluster = Cluster()
    yield cluster
    await cluster.stop()


@asynccontextmanager
async def servers(cluster: Cluster, count: int) -> AsyncIterator[list[Rotations]]:
    """Yield so many auth servers at work."""
    made = [await cluster.server() for _ in range(count)]
    cluster.let_run(*made)
    yield made


def _phase(authority: LocalAuthority) -> Phase:
    return authority.rotation.phase if authority.rotation else Phase.STANDBY


@pytest.mark.parametrize("count", [1, 3])
async def test_by_itself(cluster: Cluster, count: int) -> None:
    """Each phase comes when its time is over and not before, once, however many auth servers there are."""
    async with servers(cluster, count) as made:
        await made[0].rotate(RotateRequest(), "ann")
        at = Phase.INIT
        for phase, wait in zip(BY_ITSELF, WAITS, strict=True):
            cluster.clock.advance(wait - A_MOMENT)
            for each in made:
                await each._look()
            assert await cluster.phases() == (at, at)
            cluster.clock.advance(A_MOMENT)
            for each in made:
                await each._look()
            await cluster.reach(phase)
            at = phase
    phases = ["init", *BY_ITSELF]
    assert [(kind, str(phase)) for kind, phase in cluster.steps()] == [
        (kind, str(phase)) for kind in ("host", "user") for phase in phases
    ]
    assert [event["by"] for event in cluster.audit.of(EventType.CA_ROTATED)] == ["ann"] * 2 + ["auto"] * 6


async def test_all_at_once_take_one_step(cluster: Cluster) -> None:
    """Ten auth servers that find the same step due take it once."""
    made = [await cluster.server() for _ in range(10)]
    await made[0].rotate(RotateRequest(grace=timedelta()), "ann")
    await asyncio.gather(*(each._look() for each in made))
    live = await read_authorities(cluster.backend)
    assert (live.user.serial, live.host.serial) == (2, 2)


async def test_it_waits_for_members(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """What is due waits until all that are online have followed, and says once for whom."""
    async with servers(cluster, 1) as (server,):
        await cluster.report(followed=False)
        await server.rotate(RotateRequest(grace=timedelta()), "ann")
        await eventually(lambda: _as_stored(cluster, server))
        await server._look()
        assert "waits in phase" not in caplog.text
        cluster.clock.advance(WARN_AFTER)
        for _ in range(3):
            await server._look()
        assert await cluster.phases() == (Phase.INIT, Phase.INIT)
        assert caplog.text.count("the user CA waits in phase init: 1 of 1 members have not followed: node web") == 1
        await cluster.report()
        await cluster.reach(Phase.UPDATE_CLIENTS)


async def test_forced_it_does_not_wait_long(cluster: Cluster) -> None:
    """An emergency gives members a few seconds in each phase, and then goes on without them."""
    async with servers(cluster, 1) as (server,):
        await cluster.report(followed=False)
        await server.rotate(RotateRequest(grace=timedelta(), force=True), "ann")
        for before, after in zip([Phase.INIT, *BY_ITSELF], BY_ITSELF, strict=False):
            await eventually(lambda: _as_stored(cluster, server))
            await server._look()
            assert await cluster.phases() == (before, before)
            cluster.clock.advance(FORCED_WAIT)
            await cluster.reach(after)


async def test_without_grace_it_goes_on_as_soon_as_all_have_followed(cluster: Cluster) -> None:
    """Nobody has to move a clock."""
    async with servers(cluster, 2) as (server, _):
        await server.rotate(RotateRequest(grace=timedelta()), "ann")
        await cluster.reach(Phase.STANDBY)
    assert (await read_authorities(cluster.backend)).host.active == 2


async def test_by_hand_nothing_happens_by_itself(cluster: Cluster) -> None:
    """However long it takes."""
    async with servers(cluster, 1) as (server,):
        await server.rotate(RotateRequest(manual=True, grace=timedelta()), "ann")
        await eventually(lambda: _as_stored(cluster, server))
        cluster.clock.advance(timedelta(days=60))
        assert await server._look() is None
        assert await cluster.phases() == (Phase.INIT, Phase.INIT)


async def _as_stored(cluster: Cluster, server: Rotations) -> bool:
    return (await read_authorities(cluster.backend)).host.serial == server.live.host.serial


async def test_two_administrators_at_once(cluster: Cluster) -> None:
    """One rotation begins, of both authorities; the other is told that it runs, or finds it as it wanted it."""
    made = [await cluster.server() for _ in range(5)]
    results = await asyncio.gather(
        *(each.rotate(RotateRequest(), name) for each, name in zip(made, "abcde", strict=True)), return_exceptions=True
    )
    assert any(result is None for result in results)
    assert all(result is None or isinstance(result, AlreadyExists) for result in results)
    stored = await read_authorities(cluster.backend)
    assert stored.user.rotation is not None
    assert stored.host.rotation is not None
    assert stored.user.rotation.id == stored.host.rotation.id
    assert (stored.user.serial, stored.host.serial) == (1, 1)


async def test_two_commands_at_once(cluster: Cluster) -> None:
    """Both go on to the same phase: one step."""
    made = [await cluster.server() for _ in range(5)]
    await made[0].rotate(RotateRequest(manual=True), "ann")
    await asyncio.gather(*(each.rotate(RotateRequest(phase=Phase.UPDATE_CLIENTS), "ann") for each in made))
    stored = await read_authorities(cluster.backend)
    assert (stored.user.serial, stored.host.serial) == (2, 2)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("phase", [None, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.ROLLBACK, Phase.STANDBY])
async def test_auth_dies_amid_a_step(cluster: Cluster, phase: Phase | None, after: int, *, written: bool) -> None:
    """Before or after either of its two writes: the same command, to another auth server, ends what was begun."""
    first = await cluster.server()
    order = [None, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY]
    for each in order[: order.index(phase)] if phase in order else order[:2]:
        await first.rotate(RotateRequest(phase=each, manual=True), "ann")
    cluster.backend.writes_left, cluster.backend.written = after, written
    with pytest.raises(Killed):
        await first.rotate(RotateRequest(phase=phase, manual=True), "ann")
    cluster.backend.writes_left = None
    halfway = await read_authorities(cluster.backend)
    assert halfway.trust is not None
    second = await cluster.server()
    complete = after == 1 and written
    if phase is None and complete:
        with pytest.raises(AlreadyExists):
            await second.rotate(RotateRequest(manual=True), "ann")
    elif not (phase is Phase.STANDBY and complete):
        await second.rotate(RotateRequest(phase=phase, manual=True), "ann")
    to = phase or Phase.INIT
    assert await cluster.phases() == (to, to)
    stored = await read_authorities(cluster.backend)
    assert stored.user.serial == stored.host.serial
    if stored.user.rotation is not None and stored.host.rotation is not None:
        assert stored.user.rotation.id == stored.host.rotation.id


async def test_auth_dies_amid_an_automatic_rotation(cluster: Cluster) -> None:
    """Another auth server goes on where it was."""
    first = await cluster.server()
    await first.rotate(RotateRequest(grace=timedelta()), "ann")
    await eventually(lambda: _as_stored(cluster, first))
    cluster.backend.writes_left = 1
    with pytest.raises(Killed):
        await first._look()
    cluster.backend.writes_left = None
    assert await cluster.phases() == (Phase.UPDATE_CLIENTS, Phase.INIT)
    async with servers(cluster, 1):
        await cluster.reach(Phase.STANDBY)


class SilentBackend(MortalBackend):
    """A backend that does not answer for a while."""

    silent = False

    async def get(self, key: str) -> Item:
        """Read, if it answers."""
        if self.silent:
            raise Unavailable("the backend did not answer")
        return await super().get(key)


async def test_the_backend_is_away(cluster: Cluster) -> None:
    """Then a step comes later; nothing ends."""
    cluster.backend = backend = SilentBackend(cluster.clock)
    cluster.presence = PresenceStore(backend, cluster.clock)
    async with servers(cluster, 1) as (server,):
        await server.rotate(RotateRequest(grace=DEFAULT_GRACE), "ann")
        backend.silent = True
        await eventually(lambda: _heard(server))
        cluster.clock.advance(DEFAULT_GRACE)
        with pytest.raises(Unavailable):
            await server._look()
        backend.silent = False
        await server._look()
        assert (await cluster.phases())[0] is Phase.UPDATE_CLIENTS


async def _heard(server: Rotations) -> bool:
    return server.live.host.serial == 1


@pytest.mark.parametrize("value", [b"", b"{}", b"[]"])
async def test_a_record_that_cannot_be_used_changes_nothing(
    cluster: Cluster, caplog: pytest.LogCaptureFixture, value: bytes
) -> None:
    """Nor does one that is deleted: auth goes on with the keys that it has, and says so."""
    async with servers(cluster, 1) as (server,):
        before = server.live.current
        await cluster.backend.put("authority/local/host", value)
        await eventually(lambda: _says(caplog, "the authorities stay as they were"))
        await cluster.backend.delete("authority/local/user")
        await eventually(lambda: _says(caplog, "authority/local/user was deleted"))
        assert server.live.current is before


async def _says(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


async def test_one_authority_of_two_is_due(cluster: Cluster) -> None:
    """The user CA's rotation does not wait for the host CA's."""
    async with servers(cluster, 1) as (server,):
        await server.rotate(RotateRequest(types=(AuthorityType.USER,), grace=timedelta()), "ann")
        await cluster.reach(Phase.STANDBY)
    stored = await read_authorities(cluster.backend)
    assert (stored.user.active, stored.host.active) == (2, 1)
