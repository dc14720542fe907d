"""A node that was killed tells itself, when it is back, how its sessions ended: auth logs one end for each."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from runtime.api import methods
from runtime.api.event_messages import AuditEvent, AuditEvents
from runtime.api.session_messages import SessionReport
from runtime.audit.events import EventType
from runtime.auth import sessions
from runtime.auth.sessions import REMEMBERED, RUNNING, SILENCE
from runtime.core.callers import Caller, CallerKind
from tests.unit.auth.test_running_sessions import BOOT, NODE, SID, STEP, Cluster
from tests.unit.auth.world import World

ENDS = [EventType.SESSION_END, EventType.EXEC]


async def start(cluster: Cluster, kind: EventType) -> None:
    """Let a session run that ends with this event."""
    await cluster.pass_by(2 * SILENCE)
    if kind == EventType.SESSION_END:
        await cluster.begin()
    await cluster.report(cluster.session(command="make", interactive=kind == EventType.SESSION_END))


@pytest.mark.parametrize("kind", ENDS)
async def test_a_node_that_is_back_soon_tells_of_the_end(cluster: Cluster, kind: EventType) -> None:
    """What it says counts: its first report, without the session, adds nothing to that."""
    await start(cluster, kind)
    lost = cluster.event(kind, lost=True)
    assert await cluster.servers[1].given_up(NODE, [lost]) == frozenset()
    await cluster.servers[1].end(NODE, [lost])
    await cluster.report(boot=uuid.uuid4())
    await cluster.pass_by(2 * SILENCE)
    assert cluster.audit.events == []
    assert (await cluster.backend.range(RUNNING)).items == ()


@pytest.mark.parametrize("kind", ENDS)
async def test_a_node_that_is_back_late_tells_nothing_new(cluster: Cluster, kind: EventType) -> None:
    """Its session was given up: that it is lost the log has; what else its events say is logged."""
    await start(cluster, kind)
    await cluster.pass_by(SILENCE + STEP)
    assert len(cluster.audit.of(kind)) == 1
    lost, (other,) = cluster.event(kind, lost=True), (each for each in ENDS if each != kind)
    heard = cluster.event(other, lost=True)
    whole = cluster.event(kind)
    assert await cluster.servers[1].given_up(NODE, [lost, heard, whole]) == {lost.uid}
    cluster.clock.advance(REMEMBERED - SILENCE)
    assert await cluster.servers[0].given_up(NODE, [lost]) == {lost.uid}
    cluster.clock.advance(timedelta(days=1))
    assert (await cluster.backend.range(RUNNING)).items == ()


async def test_another_node_knows_nothing_of_it(cluster: Cluster) -> None:
    """Whose session was given up, its own node alone can tell of again."""
    await start(cluster, EventType.SESSION_END)
    await cluster.pass_by(SILENCE + STEP)
    assert await cluster.servers[0].given_up(str(uuid.uuid4()), [cluster.event(EventType.SESSION_END, lost=True)]) == (
        frozenset()
    )


async def test_a_command_that_ended_just_before_its_node_was_killed(cluster: Cluster) -> None:
    """It was reported, then its event came: the next process's report, without it, is no second event."""
    await start(cluster, EventType.EXEC)
    await cluster.servers[0].end(NODE, [cluster.event(EventType.EXEC)])
    assert await cluster.sids() == []
    await cluster.report(boot=uuid.uuid4())
    assert cluster.audit.events == []


async def test_a_command_that_nobody_told_of_leaves_nothing(cluster: Cluster) -> None:
    """A hundred short commands a second are no hundred writes."""
    await cluster.servers[0].end(NODE, [cluster.event(EventType.EXEC, uuid.uuid4()) for _ in range(3)])
    assert (await cluster.backend.range(RUNNING)).items == ()


async def test_over_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the events of a node that was given up, the end that is known is left out, and nothing else."""
    world = World()
    await world.start()
    node = Caller(CallerKind.NODE, NODE, "198.51.100.1")
    try:
        monkeypatch.setattr(sessions, "SILENCE", timedelta())

        def event(kind: EventType, **fields: bool) -> AuditEvent:
            about = {"sid": str(SID), "user": "joe", **fields}
            return AuditEvent(event=kind, uid=uuid.uuid4(), time=world.clock.now(), fields=about)

        await world.call(node, methods.AUDIT, AuditEvents(events=(event(EventType.SESSION_START),)))
        report = SessionReport(boot=BOOT, time=world.clock.now(), sessions=())
        await world.call(node, methods.SESSIONS_REPORT, report)
        assert [end["lost"] for end in world.audit.of(EventType.SESSION_END)] == [True]
        told = (event(EventType.EXEC, lost=True), event(EventType.SESSION_END, lost=True))
        await world.call(node, methods.AUDIT, AuditEvents(events=told))
        assert len(world.audit.of(EventType.SESSION_END)) == 1
        assert len(world.audit.of(EventType.EXEC)) == 1
    finally:
        await world.stop()


@pytest.fixture
def cluster() -> Cluster:
    """Make a cluster of two auth servers."""
    return Cluster()
