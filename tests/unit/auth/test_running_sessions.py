"""Every session that started has an end in the log, exactly one, whoever is killed when; and orders reach nodes."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from runtime.api import methods
from runtime.api.event_messages import AuditEvent, AuditEvents
from runtime.api.messages import Nothing
from runtime.api.resource_messages import ResourceDocument
from runtime.api.session_messages import RunningSession, SessionKill, SessionQuery, SessionReport
from runtime.audit.events import EventType
from runtime.audit.log import Field
from runtime.auth import sessions
from runtime.auth.sessions import CLAIM, GAP, ORDER_TTL, RUNNING, SILENCE, RunningSessions
from runtime.backend.base import Snapshot
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import Caller, CallerKind
from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied, NotFound, Unavailable
from tests.unit.auth.recorder import Recorder
from tests.unit.auth.test_signed_reads import People
from tests.unit.auth.world import ADMIN, PROXY, World, error_of

NODE, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
SID = uuid.UUID("10000000-0000-4000-8000-000000000001")
STEP = timedelta(seconds=30)
BOOT = uuid.UUID("20000000-0000-4000-8000-000000000001")


class Away(MemoryBackend):
    """A storage that can be away."""

    def __init__(self, *, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.away = False
        self.asked = asyncio.Event()

    async def range(self, prefix: str) -> Snapshot:
        """Read, if it can be."""
        self.asked.set()
        if self.away:
            raise Unavailable("away")
        found = await super().range(prefix)
        await asyncio.sleep(0)  # as over a network: others read the same meanwhile
        return found


class Killed(Exception):
    """What a process is that does not go on."""


class Cluster:
    """Two auth servers that share a storage, and a log of what both emit."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 11, 22, 20, tzinfo=UTC))
        self.backend = Away(clock=self.clock)
        self.audit = Recorder()
        self.servers = [RunningSessions(self.backend, self.audit, self.clock.now) for _ in range(2)]

    def event(self, kind: EventType, sid: object = SID, **fields: Field) -> AuditEvent:
        """Return an event of a node."""
        told = {"sid": str(sid), "user": "joe", "login": "root", **fields}
        return AuditEvent(event=kind, uid=uuid.uuid4(), time=self.clock.now(), fields=told)

    async def begin(self, *, server: int = 0, sid: object = SID, node: str = NODE) -> None:
        """Let a start arrive, and be logged."""
        event = self.event(EventType.SESSION_START, sid)
        await self.servers[server].begin(node, [event])

    async def end(self, *, server: int = 0, sid: object = SID, node: str = NODE) -> None:
        """Let an end arrive, and be logged."""
        event = self.event(EventType.SESSION_END, sid)
        self.audit.emit(EventType.SESSION_END, sid=str(sid))
        await self.servers[server].end(node, [event])

    def session(self, sid: uuid.UUID = SID, command: str = "", *, interactive: bool = True) -> RunningSession:
        """Return a session as its node tells of it."""
        return RunningSession(
            sid=sid, user="joe", login="root", started=self.clock.now(), command=command, interactive=interactive
        )

    async def report(
        self, *running: RunningSession, server: int = 0, boot: uuid.UUID = BOOT, complete: bool = True
    ) -> None:
        """Let a report arrive of sessions that run."""
        report = SessionReport(boot=boot, time=self.clock.now(), sessions=running, complete=complete)
        await self.servers[server].report(NODE, report)

    async def pass_by(self, time: timedelta, *, sweeping: tuple[int, ...] = (0, 1)) -> None:
        """Let time pass, in which these servers look for lost sessions."""
        until = self.clock.now() + time
        while self.clock.now() < until:
            self.clock.advance(STEP)
            await asyncio.gather(*(self.servers[each].sweep() for each in sweeping))

    async def sids(self, server: int = 1) -> list[uuid.UUID]:
        """Return what a server lists."""
        return [session.sid for _, session in await self.servers[server].all()]

    @property
    def ends(self) -> list[dict[str, Field]]:
        """All ends in the log."""
        return self.audit.of(EventType.SESSION_END)


@pytest.fixture
def cluster() -> Cluster:
    """Make a cluster in which both servers have been looking for a while."""
    return Cluster()


async def test_a_session_that_ends_by_itself(cluster: Cluster) -> None:
    """It is listed while it runs, by either server, and its end is the only one for ever."""
    await cluster.pass_by(2 * SILENCE)
    await cluster.begin()
    assert await cluster.sids() == [SID]
    await cluster.report(cluster.session())
    await cluster.end(server=1)
    assert await cluster.sids() == []
    await cluster.report()
    await cluster.pass_by(3 * SILENCE)
    assert cluster.ends == [{"sid": str(SID)}]
    assert (await cluster.backend.range(RUNNING)).items == ()


@pytest.mark.parametrize("reported", [False, True], ids=["before the first report", "after a report"])
async def test_a_node_that_is_killed_for_ever(cluster: Cluster, reported: bool) -> None:
    """Within five minutes there is one end, which says lost, whose it was and where; of two servers one logs it."""
    await cluster.pass_by(2 * SILENCE)
    await cluster.begin()
    if reported:
        cluster.clock.advance(timedelta(seconds=1))
        await cluster.report(cluster.session())
    await cluster.pass_by(SILENCE - 2 * STEP)
    assert cluster.ends == []
    await cluster.pass_by(3 * STEP)
    (end,) = cluster.ends
    assert {name: end[name] for name in ("sid", "user", "login", "server_id", "lost")} == {
        "sid": str(SID),
        "user": "joe",
        "login": "root",
        "server_id": NODE,
        "lost": True,
    }
    assert end["reason"] == "its node has not been heard of for 2m"
    await cluster.pass_by(2 * SILENCE)
    assert len(cluster.ends) == 1
    assert await cluster.sids() == []


async def test_a_node_that_goes_on_telling_keeps_its_sessions(cluster: Cluster) -> None:
    """However long it runs, and whichever server is told."""
    await cluster.pass_by(2 * SILENCE)
    await cluster.begin()
    session = cluster.session()
    for number in range(20):
        await cluster.report(session, server=number % 2)
        await cluster.pass_by(STEP)
    assert cluster.ends == []
    assert await cluster.sids() == [SID]


@pytest.mark.parametrize("reported", [False, True], ids=["before the first report", "after a report"])
async def test_a_node_that_is_killed_and_started_again(cluster: Cluster, reported: bool) -> None:
    """Its first report, without the session, ends it at once."""
    await cluster.begin()
    if reported:
        await cluster.report(cluster.session())
    cluster.clock.advance(timedelta(seconds=5))
    await asyncio.gather(*(cluster.report(server=each, boot=uuid.uuid4()) for each in range(2)))
    (end,) = cluster.ends
    assert (end["lost"], end["reason"]) == (True, "its node was restarted, or lost it")
    assert await cluster.sids() == []


async def test_a_session_that_starts_while_a_report_is_under_way(cluster: Cluster) -> None:
    """What is newer than the report is not lost by being missing in it."""
    report = SessionReport(boot=BOOT, time=cluster.clock.now(), sessions=())
    cluster.clock.advance(timedelta(milliseconds=1))
    await cluster.begin()
    await cluster.servers[1].report(NODE, report)
    assert cluster.ends == []
    assert await cluster.sids() == [SID]


async def test_what_arrives_after_the_end_brings_nothing_back(cluster: Cluster) -> None:
    """A report that was under way, and a start that a server took twice."""
    await cluster.pass_by(2 * SILENCE)
    await cluster.begin()
    session = cluster.session()
    cluster.clock.advance(timedelta(seconds=1))
    await cluster.end()
    await cluster.report(session, server=1)
    await cluster.begin(server=1)
    assert await cluster.sids() == []
    await cluster.report()
    await cluster.pass_by(2 * SILENCE)
    assert cluster.ends == [{"sid": str(SID)}]


async def test_a_report_that_does_not_tell_of_all(cluster: Cluster) -> None:
    """Nothing follows from what is missing in it."""
    await cluster.begin()
    await cluster.report(complete=False)
    assert cluster.ends == []
    await cluster.report()
    assert len(cluster.ends) == 1


async def test_a_command_that_has_ended(cluster: Cluster) -> None:
    """Of one without session.start the log has `exec` from the node; it only disappears."""
    await cluster.report(cluster.session(command="make", interactive=False))
    assert await cluster.sids() == [SID]
    await cluster.report()
    assert await cluster.sids() == []
    assert cluster.audit.events == []


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_command_that_is_lost(cluster: Cluster, restarted: bool) -> None:
    """Its event says what it was, and that it is lost: else nothing would tell of it."""
    await cluster.pass_by(2 * SILENCE)
    await cluster.report(cluster.session(command="make", interactive=False))
    if restarted:
        await cluster.report(boot=uuid.uuid4())
    else:
        await cluster.pass_by(SILENCE + STEP)
    (event,) = cluster.audit.of(EventType.EXEC)
    assert (event["command"], event["lost"], event["exitCode"]) == ("make", True, 255)
    assert cluster.ends == []


async def test_an_auth_server_killed_before_it_logged_the_end(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another takes over once the claim is old; both, had they logged it, by the same uid."""
    await cluster.pass_by(2 * SILENCE)
    await cluster.begin()
    cluster.clock.advance(timedelta(seconds=1))

    async def killed() -> None:
        raise Killed

    monkeypatch.setattr(cluster.audit, "durable", killed)
    with pytest.raises(Killed):
        await cluster.report(boot=uuid.uuid4())
    monkeypatch.undo()
    assert len(cluster.ends) == 1  # it was killed right after it had logged it
    await cluster.servers[1].sweep()
    await cluster.report(server=1, boot=uuid.uuid4())
    assert len(cluster.ends) == 1  # the claim is young
    await cluster.pass_by(CLAIM, sweeping=(1,))
    one, two = cluster.ends
    assert one == two
    await cluster.pass_by(SILENCE)
    assert len(cluster.ends) == 2


async def test_auth_that_was_away_waits_for_nodes_to_tell(cluster: Cluster) -> None:
    """Servers that start after an hour do not give up what goes on running; what is lost is found 2 minutes later."""
    await cluster.begin()
    await cluster.begin(sid=(lost := uuid.uuid4()), node=OTHER)
    session = cluster.session()
    cluster.clock.advance(timedelta(hours=1))
    await asyncio.gather(*(server.sweep() for server in cluster.servers))
    assert cluster.ends == []
    await cluster.report(session)
    await cluster.pass_by(STEP)
    await cluster.report(session)
    await cluster.pass_by(SILENCE - STEP)
    assert [end["sid"] for end in cluster.ends] == [str(lost)]


@pytest.mark.parametrize("slept", [False, True])
async def test_a_server_that_could_not_hear_does_not_judge(cluster: Cluster, slept: bool) -> None:
    """The storage was away for ten minutes, or the machine asleep: nodes get two minutes to tell again."""
    await cluster.pass_by(2 * SILENCE)
    await cluster.begin()
    session = cluster.session()
    await cluster.report(session)
    if slept:
        cluster.clock.advance(timedelta(minutes=10))
    else:
        cluster.backend.away = True
        for _ in range(20):
            cluster.clock.advance(STEP)
            for server in cluster.servers:
                with pytest.raises(Unavailable):
                    await server.sweep()
        cluster.backend.away = False
    await cluster.servers[0].sweep()
    assert cluster.ends == []
    await cluster.report(session)
    await cluster.pass_by(STEP)
    assert cluster.ends == []
    await cluster.pass_by(SILENCE + GAP)
    assert len(cluster.ends) == 1


async def test_a_node_that_was_cut_off_comes_back(cluster: Cluster) -> None:
    """Given up after two minutes; then its session is listed again, and the end that it has is logged too."""
    await cluster.pass_by(2 * SILENCE)
    await cluster.begin()
    session = cluster.session()
    await cluster.report(session)
    await cluster.pass_by(2 * SILENCE)
    assert [end.get("lost") for end in cluster.ends] == [True]
    await cluster.report(session)
    assert await cluster.sids() == [SID]
    await cluster.end()
    await cluster.pass_by(2 * SILENCE)
    assert [end.get("lost") for end in cluster.ends] == [True, None]


async def test_looking_goes_on_when_the_storage_is_back(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says once that nobody looks."""
    monkeypatch.setattr(sessions, "SWEEP_SECONDS", 0.001)
    cluster.backend.away = True
    looking = asyncio.create_task(cluster.servers[0].run())
    for _ in range(2):
        cluster.backend.asked.clear()
        await asyncio.wait_for(cluster.backend.asked.wait(), 30)
    cluster.backend.away = False
    await cluster.begin()
    while cluster.ends == []:
        cluster.clock.advance(STEP)
        cluster.backend.asked.clear()
        await asyncio.wait_for(cluster.backend.asked.wait(), 30)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert caplog.text.count("nobody looks for lost sessions") == 1


async def test_an_end_that_the_storage_did_not_take(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node has told it and forgets it; auth tells the storage when it is back, before it judges."""
    await cluster.pass_by(2 * SILENCE)
    await cluster.begin()

    async def away(*_: object, **__: object) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(cluster.backend, "put", away)
    await cluster.end()
    assert await cluster.sids() == [SID]
    monkeypatch.undo()
    await cluster.report()
    assert await cluster.sids() == []
    await cluster.pass_by(2 * SILENCE)
    assert len(cluster.ends) == 1


async def test_a_node_touches_its_own_sessions_only(cluster: Cluster) -> None:
    """Neither an end nor a report of one node changes what another runs; an id that is none is no key."""
    await cluster.begin()
    await cluster.end(node=OTHER)
    report = SessionReport(boot=BOOT, time=cluster.clock.now() + STEP, sessions=())
    await cluster.servers[0].report(OTHER, report)
    await cluster.begin(sid=f"../{OTHER}/x")
    await cluster.begin(sid="")
    assert await cluster.sids() == [SID]


async def test_a_record_that_cannot_be_read(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out, and hides no other."""
    await cluster.backend.put(f"{RUNNING}{NODE}/x", b"garbage")
    await cluster.begin()
    assert await cluster.sids() == [SID]
    assert "is no session" in caplog.text


async def test_an_order_through_the_other_server(cluster: Cluster) -> None:
    """It reaches the node that listens or comes later, and no other, for a day; the log has who gave it."""
    await cluster.begin()
    async with asyncio.timeout(10), aclosing(cluster.servers[0].orders(NODE)) as orders:
        assert await anext(orders) == ()
        await cluster.servers[1].kill(SID, "admin")
        assert await anext(orders) == (SID,)
    async with asyncio.timeout(10), aclosing(cluster.servers[0].orders(NODE)) as again:
        assert await anext(again) == (SID,)
    async with asyncio.timeout(10), aclosing(cluster.servers[0].orders(OTHER)) as others:
        assert await anext(others) == ()
    (event,) = cluster.audit.of(EventType.SESSION_KILLED)
    assert event == {
        "sid": str(SID),
        "user": "joe",
        "login": "root",
        "server_id": NODE,
        "namespace": "default",
        "by": "admin",
    }
    cluster.clock.advance(ORDER_TTL)
    async with asyncio.timeout(10), aclosing(cluster.servers[0].orders(NODE)) as late:
        assert await anext(late) == ()


async def test_an_order_for_what_does_not_run(cluster: Cluster) -> None:
    """It is said; nothing is logged or stored, also for a session that is over."""
    await cluster.begin()
    await cluster.end()
    for sid in (SID, uuid.uuid4()):
        with pytest.raises(NotFound, match=f"no session {sid} is running") as caught:
            await cluster.servers[0].kill(sid, "admin")
        assert "tctl sessions ls" in caught.value.hint
    assert cluster.audit.of(EventType.SESSION_KILLED) == []
    assert (await cluster.backend.range(sessions.ORDERS)).items == ()


# --- over the API ------------------------------------------------------------------------------------------------


async def test_the_log_leads_to_the_list() -> None:
    """A node's events make and end a session; a report adds the command; only an administrator lists and kills."""
    world = World()
    await world.start()
    node = Caller(CallerKind.NODE, NODE, "198.51.100.1")
    try:
        start, end = (
            AuditEvent(event=kind, uid=uuid.uuid4(), time=world.clock.now(), fields={"sid": str(SID), "user": "joe"})
            for kind in (EventType.SESSION_START, EventType.SESSION_END)
        )
        await world.beat(node, "luna")
        await world.call(node, methods.AUDIT, AuditEvents(events=(start,)))
        other = start.model_copy(update={"fields": {"sid": str(uuid.uuid4())}})
        await world.call(PROXY, methods.AUDIT, AuditEvents(events=(end, other)))  # it runs none
        session = RunningSession(
            sid=SID, user="joe", login="root", started=world.clock.now(), command="top", interactive=True
        )
        report = SessionReport(boot=BOOT, time=world.clock.now(), sessions=(session,))
        await world.call(node, methods.SESSIONS_REPORT, report)
        (entry,) = (await world.call(ADMIN, methods.SESSIONS_LIST, SessionQuery())).sessions
        assert (entry.session, entry.node, entry.hostname) == (session, NODE, "luna")
        await world.call(ADMIN, methods.SESSIONS_KILL, SessionKill(sid=SID))
        assert [event["by"] for event in world.audit.of(EventType.SESSION_KILLED)] == [str(ADMIN)]
        await world.call(node, methods.AUDIT, AuditEvents(events=(end,)))
        assert (await world.call(ADMIN, methods.SESSIONS_LIST, SessionQuery())).sessions == ()
        for caller in (node, PROXY, Caller(CallerKind.USER, "joe", "192.0.2.1")):
            for error in (
                await error_of(world, caller, methods.SESSIONS_LIST, SessionQuery()),
                await error_of(world, caller, methods.SESSIONS_KILL, SessionKill(sid=SID)),
            ):
                assert isinstance(error, AccessDenied)
        for caller in (ADMIN, PROXY):
            assert isinstance(await error_of(world, caller, methods.SESSIONS_REPORT, report), AccessDenied)
            assert isinstance(await error_of(world, caller, methods.SESSIONS_ORDERS, Nothing()), AccessDenied)
    finally:
        await world.stop()


async def test_a_start_that_cannot_be_kept_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the storage is away the node keeps its event: a start in the log is one whose end is certain."""
    world = World()
    await world.start()
    node = Caller(CallerKind.NODE, NODE, "198.51.100.1")

    async def away(*_: object, **__: object) -> None:
        raise Unavailable("away")

    try:
        event = AuditEvent(
            event=EventType.SESSION_START, uid=uuid.uuid4(), time=world.clock.now(), fields={"sid": str(SID)}
        )
        with monkeypatch.context() as patch:
            patch.setattr(world.backend, "create", away)
            error = await error_of(world, node, methods.AUDIT, AuditEvents(events=(event,)))
            assert isinstance(error, Unavailable)
            assert world.audit.of(EventType.SESSION_START) == []
        await world.call(node, methods.AUDIT, AuditEvents(events=(event,)))
        assert len(world.audit.of(EventType.SESSION_START)) == 1
    finally:
        await world.stop()


async def test_a_proxy_is_told_what_its_user_may_know() -> None:
    """One's own sessions; those of others with the verb list; one by its id with read or join; and never more."""
    world = World()
    await world.start()
    people = People(world)
    try:
        node = Caller(CallerKind.NODE, NODE, "198.51.100.1")
        other = uuid.UUID(int=SID.int + 1)
        for sid, user in ((SID, "joe"), (other, "ann")):
            event = AuditEvent(
                event=EventType.SESSION_START,
                uid=uuid.uuid4(),
                time=world.clock.now(),
                fields={"sid": str(sid), "user": user, "login": "root", "size": "80:24"},
            )
            await world.call(node, methods.AUDIT, AuditEvents(events=(event,)))
        for verb in ("list", "read", "join"):
            rules = [{"resources": ["session"], "verbs": [verb]}]
            await declare(world, "Role", verb, {"allow": {"rules": rules}})
        for name, roles in (("joe", []), ("lister", ["list"]), ("reader", ["read"]), ("joiner", ["join"])):
            await declare(world, "User", name, {"logins": ["root"] if not roles else [], "roles": roles})

        async def told(reader: str, sid: uuid.UUID | None = None) -> set[uuid.UUID]:
            target = f"/webapi/sessions?sid={sid}" if sid else "/webapi/sessions"
            query = SessionQuery(signed=people.signed(reader, target), sid=sid)
            listed = await world.call(PROXY, methods.SESSIONS_LIST, query)
            assert all(entry.session.joinable for entry in listed.sessions)
            return {entry.session.sid for entry in listed.sessions}

        assert await told("joe") == {SID}
        assert await told("lister") == {SID, other}
        assert await told("reader") == await told("joiner") == set()
        for reader in ("lister", "reader", "joiner"):
            assert await told(reader, other) == {other}
            assert await told(reader, uuid.uuid4()) == set()
        with pytest.raises(AccessDenied, match="there is no user 'nobody'"):
            await told("nobody")
    finally:
        await world.stop()


async def declare(world: World, kind: str, name: str, spec: dict[str, object]) -> None:
    """Create a resource."""
    document = {"apiVersion": "teleport.internal/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    await world.call(ADMIN, methods.RESOURCES_WRITE, ResourceDocument(document=json.dumps(document)))
