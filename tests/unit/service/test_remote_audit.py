"""Events of a member on their way to a real auth service: in order, whoever is away or killed; what is lost is told."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.event_messages import AuditEvent, AuditEvents
from runtime.audit.events import EventType
from runtime.audit.queue import DAMAGED, FULL, EventQueue
from runtime.core.callers import CallerKind
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.service import remote_audit
from runtime.service.remote_audit import RemoteAudit
from tests.servers.full_disk import full_disk
from tests.unit.service.test_following import CLOCK, NODE, World, away, until

MIB = 1024**2
Queue = Callable[..., EventQueue]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Yield an auth service, and end it."""
    world = World(tmp_path)
    await world.start()
    yield world
    await world.service.stop()
    world.log.close()


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Return what opens the member's queue, as a new process does: whoever had it was killed."""
    opened: list[EventQueue] = []

    def reopened(limit: int = MIB) -> EventQueue:
        for each in opened:
            os.close(each._owned)
            each._owned = -1
        opened.append(EventQueue(tmp_path / "queue", limit=limit))
        return opened[-1]

    return reopened


@asynccontextmanager
async def running(audit: RemoteAudit) -> AsyncIterator[None]:
    """Let it bring events beside the body."""
    task = asyncio.create_task(audit.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told(world: World) -> list[dict[str, Any]]:
    """Return what auth has logged."""
    return [json.loads(line) for line in world.events().splitlines()]


def commands(world: World) -> list[str]:
    """Return the commands that auth has logged."""
    return [event["command"] for event in told(world) if event["event"] == "exec"]


def run(audit: RemoteAudit, *numbers: int) -> None:
    """Tell of commands."""
    for number in numbers:
        audit.emit(EventType.EXEC, command=str(number), exitCode=0)


def numbers(*span: int) -> list[str]:
    """Return commands of a range."""
    return [str(number) for number in range(*span)]


async def test_events_of_a_member_arrive_in_order_with_its_own_id(world: World, queue: Queue) -> None:
    """What it says of who it is does not count; time and uid are those of when it happened."""
    async with world.client() as auth:
        audit = RemoteAudit(auth, CLOCK, queue())
        for number in range(600):
            audit.emit(EventType.EXEC, command=f"echo {number}", exitCode=0, server_id="another", user="joe")
        async with running(audit):
            await audit.flush(10)
    lines = told(world)
    assert [line["command"] for line in lines] == [f"echo {number}" for number in range(600)]
    assert {line["server_id"] for line in lines} == {NODE}
    assert len({line["uid"] for line in lines}) == 600


async def test_a_member_cannot_tell_of_what_only_auth_knows(world: World) -> None:
    """A node that claims a certificate was issued is refused, and nothing of its batch is logged."""
    events = [
        AuditEvent(event=name, uid=uuid.uuid4(), time=CLOCK.now(), fields={"user": "joe"})
        for name in ("exec", "cert.issued", "nonsense")
    ]
    async with world.client() as auth:
        for some in (events[:2], events[2:]):
            with pytest.raises(InvalidInput, match="cannot tell of"):
                await auth.call(methods.AUDIT, AuditEvents(events=tuple(some)))
    assert world.events() == ""
    for kind in (CallerKind.USER, CallerKind.ADMIN, CallerKind.NOBODY):
        with pytest.raises(AccessDenied):
            async with world.client(kind) as auth:
                await auth.call(methods.AUDIT, AuditEvents(events=()))


async def test_killed_while_auth_is_away(world: World, queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    """What a killed process had taken, its successor brings, before its own; a stop says what waits."""
    caplog.set_level("INFO")
    async with world.client() as auth:
        dial, auth._dial = auth._dial, away
        killed = RemoteAudit(auth, CLOCK, queue())
        run(killed, *range(3))
        async with running(killed):
            await until(lambda: "3 audit events wait for auth" in caplog.text)
            await killed.flush(0.01)
        assert "3 audit events wait here for auth; the next start brings them there" in caplog.text
        successor = RemoteAudit(auth, CLOCK, queue())
        run(successor, 3)
        assert world.events() == ""
        auth._dial = dial
        async with running(successor):
            await successor.brought()
    assert commands(world) == numbers(4)
    assert "events are lost" not in caplog.text


async def test_killed_between_auths_answer_and_the_position(world: World, queue: Queue) -> None:
    """Auth is told twice, with the same ids: the view over all auth servers tells each once."""
    async with world.client() as auth:
        killed = RemoteAudit(auth, CLOCK, queue())
        run(killed, *range(3))
        killed._queue.done = lambda batch: None  # type: ignore[method-assign]
        await killed._step()
        successor = RemoteAudit(auth, CLOCK, queue())
        async with running(successor):
            await successor.flush(10)
    assert commands(world) == numbers(3) * 2
    assert len({event["uid"] for event in told(world)}) == 3


async def test_too_many_wait(world: World, queue: Queue) -> None:
    """The newest arrive, and auth is told how many did not, at the latest where they are missing."""
    async with world.client() as auth:
        audit = RemoteAudit(auth, CLOCK, queue(limit=8192))
        run(audit, *range(500))
        async with running(audit):
            await audit.flush(10)
    events = told(world)
    lost = [event for event in events if event["event"] == "audit.lost"]
    assert {event["reason"] for event in lost} == {FULL}
    assert {event["server_id"] for event in lost} == {NODE}
    kept = commands(world)
    assert kept == numbers(500 - len(kept), 500)
    # Of the events that tell so, too, the oldest may be among the lost.
    assert sum(event["count"] for event in lost) <= 500 + 200 - len(kept)
    assert events[0]["event"] == "exec"


async def test_one_event_that_auth_does_not_know(world: World, queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    """It is an older one: the rest of the batch arrives, and the log says what did not."""
    async with world.client() as auth:
        audit = RemoteAudit(auth, CLOCK, queue())
        run(audit, *range(5))
        audit.emit(EventType.CERTIFICATE_ISSUED, user="joe")
        run(audit, *range(5, 20))
        async with running(audit):
            await audit.flush(10)
    assert commands(world) == numbers(20)
    assert "auth does not take the audit event cert.issued" in caplog.text


async def test_a_line_that_is_damaged(world: World, queue: Queue, tmp_path: Path) -> None:
    """The others arrive, and auth is told that one did not."""
    async with world.client() as auth:
        run(RemoteAudit(auth, CLOCK, queue()), *range(5))
        (file,) = (tmp_path / "queue").glob("*.events")
        lines = file.read_bytes().split(b"\n")
        lines[2] = b"\xff" * len(lines[2])
        file.write_bytes(b"\n".join(lines))
        audit = RemoteAudit(auth, CLOCK, queue())
        async with running(audit):
            await audit.flush(10)
    assert commands(world) == ["0", "1", "3", "4"]
    (lost,) = [event for event in told(world) if event["event"] == "audit.lost"]
    assert (lost["count"], lost["reason"]) == (1, DAMAGED)


async def test_a_full_disk(world: World, queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    """Events arrive all the same; `durable` promises nothing then; at a stop without auth they are lost, said so."""
    async with world.client() as auth:
        audit = RemoteAudit(auth, CLOCK, queue())
        with full_disk():
            run(audit, *range(5))
            with pytest.raises(OSError, match="5 events are in memory only"):
                await audit.durable()
            dial, auth._dial = auth._dial, away
            await audit.flush(0.01)
            assert "5 audit events are lost: auth is away, and the disk takes none" in caplog.text
        auth._dial = dial
        async with running(audit):
            await audit.flush(10)
        assert commands(world) == numbers(5)
        run(audit, 5)
        await audit.durable()


async def test_the_disk_of_auth_is_full(
    world: World, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Auth takes no more than it can keep, and says why; the rest waits at the member, and arrives."""
    monkeypatch.setattr(remote_audit, "MAX_PAUSE_SECONDS", 0.01)
    caplog.set_level("INFO")
    async with world.client() as auth:
        audit = RemoteAudit(auth, CLOCK, queue())
        run(audit, *range(20))
        async with running(audit):
            with full_disk():
                await until(lambda: "events wait for auth: the auth server cannot keep this on its disk" in caplog.text)
            await audit.flush(10)
    assert commands(world) == numbers(20)


async def test_events_that_wait_are_put_on_the_disk(
    world: World, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While auth takes them at once nothing is (auth does that); while it is away, all is."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))  # noqa: PTH115
    monkeypatch.setattr(remote_audit, "MAX_PAUSE_SECONDS", 0.0)
    async with world.client() as auth:
        audit = RemoteAudit(auth, CLOCK, queue())
        async with running(audit):
            run(audit, 0)
            await audit.flush(10)
            assert not [path for path in synced if "queue" in path]
            dial, auth._dial = auth._dial, away
            await auth.close()
            run(audit, 1)
            await until(lambda: any(path.endswith(".events") for path in synced))
            auth._dial = dial
            await audit.flush(10)
    assert commands(world) == numbers(2)


async def test_a_client_that_is_away_for_good(queue: Queue) -> None:
    """Nobody waits for ever who does not want to."""
    alone = AuthClient(away, lambda: ["127.0.0.1:1"])
    audit = RemoteAudit(alone, CLOCK, queue())
    run(audit, 0)
    async with running(audit):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await audit.brought()
        await audit.flush(0.05)
    await alone.close()
    audit.close()
