"""What a node tells auth of its sessions, when, and what it does when auth wants one ended."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.api import methods
from runtime.api.session_messages import MAX_RUNNING_SESSIONS, SessionKill, SessionQuery, SessionReport
from runtime.api.wire import MAX_LINE_BYTES
from runtime.audit.events import EventType
from runtime.audit.queue import EventQueue
from runtime.core.callers import CallerKind
from runtime.core.clock import ManualClock
from runtime.core.errors import InvalidInput, NotFound, Unavailable
from runtime.core.joining import Mode
from runtime.node import registry
from runtime.node.party import MAX_GUESTS
from runtime.node.registry import KILLED, MAX_COMMAND, TOLD_AFTER, Registry, Running
from runtime.service.remote_audit import RemoteAudit
from tests.unit.auth.world import ADMIN, World
from tests.unit.node.room import Room

NODE = "00000000-0000-4000-8000-000000000001"
SECOND = timedelta(seconds=1)


class Node:
    """A node's registry beside a real auth service, and all calls that it makes."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.running = Running(world.clock.now)
        self.client = world.service.local.client(lambda: (CallerKind.NODE, NODE))
        self.audit = RemoteAudit(self.client, world.clock, EventQueue(folder / "node", limit=1024**2))
        self.registry = Registry(self.running, self.client, self.audit, rng=random.Random(1))
        self.ended: list[tuple[str, str]] = []
        self.one_ended = asyncio.Event()
        self.reports: list[SessionReport] = []
        self.call = self.client.call
        self.client.call = self._counted  # type: ignore[method-assign]

    def enter(self, command: str = "", *, interactive: bool = False) -> str:
        """Begin a session and return its id."""
        sid = str(uuid.uuid4())

        def end(why: str) -> None:
            self.ended.append((sid, why))
            self.one_ended.set()

        self.running.enter(sid, user="joe", login="root", command=command, interactive=interactive, end=end)
        if interactive:
            self.audit.emit(EventType.SESSION_START, sid=sid, user="joe", login="root")
        return sid

    async def listed(self) -> list[str]:
        """Return the sessions that an administrator sees."""
        listed = await self.world.call(ADMIN, methods.SESSIONS_LIST, SessionQuery())
        return [str(entry.session.sid) for entry in listed.sessions]

    async def until_listed(self, sid: str) -> None:
        """Wait until an administrator sees a session."""
        for _ in range(3000):
            if sid in await self.listed():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{sid} is not listed")

    async def _counted(self, method: Any, params: Any, **more: Any) -> Any:  # Any: of each method its own
        if isinstance(params, SessionReport):
            self.reports.append(params)
        return await self.call(method, params, **more)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """Run a node's part, which brings its audit events to auth."""
    world = World()
    await world.start()
    node = Node(world, tmp_path)
    bringing = asyncio.create_task(node.audit.run())
    try:
        yield node
    finally:
        bringing.cancel()
        await asyncio.gather(bringing, return_exceptions=True)
        await node.client.close()
        await world.stop()


async def test_an_idle_node_tells_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first report says that nothing is left of a predecessor; then there is nothing to tell."""
    monkeypatch.setattr(registry, "REPORT_SECONDS", 0.0)
    for _ in range(5):
        await node.registry.step()
    assert [report.sessions for report in node.reports] == [()]


async def test_short_commands_are_no_load(node: Node) -> None:
    """A hundred that are over within the second are not told of."""
    await node.registry.step()
    for _ in range(100):
        sid = node.enter("true")
        node.world.clock.advance(SECOND / 100)
        node.running.leave(sid)
        await node.registry.step()
    assert len(node.reports) == 1


async def test_a_session_is_told_of_when_it_begins_and_when_it_ends(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again from time to time while it runs; its command is cut."""
    sid = node.enter("x" * 1000)
    await node.registry.step()
    assert await node.listed() == []
    node.world.clock.advance(TOLD_AFTER)
    await node.registry.step()
    await node.registry.step()
    assert len(node.reports) == 2
    assert await node.listed() == [sid]
    assert node.reports[-1].sessions[0].command == "x" * MAX_COMMAND
    monkeypatch.setattr(registry, "REPORT_SECONDS", 0.0)
    await node.registry.step()
    assert len(node.reports) == 3
    node.running.leave(sid)
    node.running.leave(sid)
    await node.registry.step()
    assert await node.listed() == []


async def test_events_come_before_the_report(node: Node, tmp_path: Path) -> None:
    """A session whose end still waits here is not reported as missing: auth would call it lost."""
    sid = node.enter(interactive=True)
    node.world.clock.advance(2 * SECOND)
    await node.registry.step()
    assert await node.listed() == [sid]
    waiting = RemoteAudit(node.client, node.world.clock, EventQueue(tmp_path / "waiting", limit=1024**2))
    waiting.emit(EventType.SESSION_END, sid=sid, user="joe", login="root")
    node.running.leave(sid)
    telling = asyncio.create_task(Registry(node.running, node.client, waiting).step())
    assert not (await asyncio.wait([telling], timeout=0.1))[0]
    assert len(node.reports) == 1
    bringing = asyncio.create_task(waiting.run())
    async with asyncio.timeout(30):
        await telling
    bringing.cancel()
    await asyncio.gather(bringing, return_exceptions=True)
    (end,) = node.world.audit.of(EventType.SESSION_END)
    assert "lost" not in end
    assert await node.listed() == []


async def test_events_that_were_lost_hold_no_report_up(node: Node, tmp_path: Path) -> None:
    """Of too many that wait the oldest are dropped; what they would have told, auth finds out by the report."""
    waiting = RemoteAudit(node.client, node.world.clock, EventQueue(tmp_path / "waiting", limit=4096))
    for number in range(100):
        waiting.emit(EventType.EXEC, command=str(number))
    bringing = asyncio.create_task(waiting.run())
    async with asyncio.timeout(30):
        await waiting.brought()
    bringing.cancel()
    await asyncio.gather(bringing, return_exceptions=True)
    commands = [event["command"] for event in node.world.audit.of(EventType.EXEC)]
    assert commands == [str(number) for number in range(100 - len(commands), 100)]
    assert 0 < len(commands) < 100
    assert node.world.audit.of(EventType.AUDIT_LOST)


async def test_the_successor_of_a_killed_node(node: Node) -> None:
    """Its first report ends what was left: a terminal with session.end, a command with exec."""
    sids = [node.enter(interactive=True), node.enter("sleep 60")]
    node.world.clock.advance(2 * SECOND)
    await node.registry.step()
    assert sorted(await node.listed()) == sorted(sids)
    successor = Registry(Running(node.world.clock.now), node.client, node.audit)
    await successor.step()
    (end,), (command,) = node.world.audit.of(EventType.SESSION_END), node.world.audit.of(EventType.EXEC)
    assert (end["sid"], end["lost"]) == (sids[0], True)
    assert (command["sid"], command["lost"], command["command"]) == (sids[1], True, "sleep 60")
    assert await node.listed() == []


async def test_an_order_ends_a_session(node: Node) -> None:
    """The person is told why; one that does not run here is none of ours."""
    sid, other = node.enter("sleep 60"), node.enter("sleep 60")
    node.world.clock.advance(2 * SECOND)
    obeying = asyncio.create_task(node.registry.run())
    try:
        async with asyncio.timeout(30):
            await node.until_listed(sid)
            await node.world.call(ADMIN, methods.SESSIONS_KILL, SessionKill(sid=uuid.UUID(sid)))
            await node.one_ended.wait()
        assert node.ended == [(sid, KILLED)]
        node.running.leave(other)
        node.running.end(other, "too late")
        assert node.ended == [(sid, KILLED)]
    finally:
        obeying.cancel()
        await asyncio.gather(obeying, return_exceptions=True)


async def test_it_goes_on_when_auth_is_back(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports and orders both; the log says once that auth does not know."""
    monkeypatch.setattr(registry, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(registry, "MAX_PAUSE_SECONDS", 0.05)
    failing = asyncio.Event()

    async def away(_: str) -> Any:
        failing.set()
        raise Unavailable("away")

    dial, node.client._dial = node.client._dial, away
    sid = node.enter("sleep 60")
    node.world.clock.advance(2 * SECOND)
    obeying = asyncio.create_task(node.registry.run())
    try:
        async with asyncio.timeout(30):
            await failing.wait()
            node.client._dial = dial
            await node.until_listed(sid)
            await node.world.call(ADMIN, methods.SESSIONS_KILL, SessionKill(sid=uuid.UUID(sid)))
            await node.one_ended.wait()
    finally:
        obeying.cancel()
        await asyncio.gather(obeying, return_exceptions=True)


def test_a_node_with_more_sessions_than_a_report_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report says that it does not tell of all."""
    monkeypatch.setattr(registry, "MAX_RUNNING_SESSIONS", 3)
    clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
    running = Running(clock.now)
    complete = []
    for _ in range(4):
        running.enter(str(uuid.uuid4()), user="joe", login="joe", command="", interactive=True, end=print)
        clock.advance(TOLD_AFTER)
        report = running.report()
        complete.append((len(report.sessions), report.complete))
    assert complete == [(1, True), (2, True), (3, True), (3, False)]


def test_the_largest_report_is_a_message() -> None:
    """As many sessions as one may have, with the worst of commands and full parties, are below what the wire takes."""
    room = Room()
    for _ in range(MAX_GUESTS):
        room.join("u" * 63, Mode.OBSERVER)
    clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
    running = Running(clock.now)
    for _ in range(MAX_RUNNING_SESSIONS):
        sid = str(uuid.uuid4())
        running.enter(
            sid, user="u" * 63, login="l" * 32, command="\x01" * 9999, interactive=True, end=print, party=room.party
        )
    clock.advance(TOLD_AFTER)
    report = running.report()
    assert report.complete
    assert len(json.dumps(report.model_dump(mode="json"))) < MAX_LINE_BYTES


def test_what_can_be_joined() -> None:
    """A session with a terminal leads to those in it; a command has none, and one that is over is not there."""
    clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
    running, room = Running(clock.now), Room()
    shell, command = str(uuid.uuid4()), str(uuid.uuid4())
    about: dict[str, Any] = {"user": "joe", "login": "root", "command": "", "interactive": True, "end": print}
    running.enter(shell, **about, party=room.party)
    running.enter(command, **about)
    assert running.party(shell) is room.party
    with pytest.raises(InvalidInput, match="a command without a terminal"):
        running.party(command)
    running.leave(shell)
    for sid in (shell, str(uuid.uuid4()), "../x"):
        with pytest.raises(NotFound, match="runs on this node"):
            running.party(sid)


async def test_who_joins_is_told_to_auth(node: Node) -> None:
    """A report goes out when somebody comes or goes, and has who takes part; not while nothing changes."""
    room, sid = Room(), str(uuid.uuid4())
    node.running.enter(sid, user="joe", login="root", command="", interactive=False, end=print, party=room.party)
    node.world.clock.advance(TOLD_AFTER)
    await node.registry.step()
    ann = room.join("ann")
    await node.registry.step()
    await node.registry.step()
    room.join("eve", Mode.OBSERVER)
    await node.registry.step()
    room.party.leave(ann)
    await node.registry.step()
    told = [[(one.user, one.mode) for one in report.sessions[0].parties] for report in node.reports]
    assert told == [[], [("ann", "peer")], [("ann", "peer"), ("eve", "observer")], [("eve", "observer")]]
    (entry,) = (await node.world.call(ADMIN, methods.SESSIONS_LIST, SessionQuery())).sessions
    assert entry.session.joinable
    assert [one.user for one in entry.session.parties] == ["eve"]
