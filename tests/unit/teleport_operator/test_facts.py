"""What the operator knows of the cluster from its public record, and the occasions on which it looks again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.cluster_facts import ClusterFacts, ProxyAddresses
from runtime.core.errors import AccessDenied
from runtime.core.keys import CLUSTER_FACTS
from runtime.core.resources import encode
from teleport_operator.context import Context
from teleport_operator.facts import Facts
from teleport_operator.following import occasions
from teleport_operator.following.looking import Looking
from teleport_operator.kubernetes.api_server import ApiServer
from teleport_operator.kubernetes.watches import Watches
from teleport_operator.metrics import OperatorMetrics
from teleport_operator.objects import Known, Ref

RECORD = ClusterFacts(
    name="main", ca_pins=("SHA256:new", "SHA256:old"), proxies=(ProxyAddresses(web="web:443", ssh="web:3023"),)
)
JOE, ANN, TOKEN = Ref("User", "team", "joe"), Ref("User", "team", "ann"), Ref("Token", "team", "nodes")


def test_what_is_known_of_the_cluster() -> None:
    """Nothing at first; the first pin and the first proxy of the record; the settings go before it."""
    facts = Facts()
    assert (facts.web, facts.link("abc"), facts.beside_token()) == ("", "", {})
    assert facts.learn(encode(RECORD))
    assert not facts.learn(encode(RECORD))
    assert facts.link("abc") == "https://web:443/web/newuser/abc"
    assert facts.beside_token() == {"caPin": "SHA256:new"}
    assert not facts.learn(b"{}")
    assert facts.web == "web:443"
    own = Facts(proxy_addr="mine:443", auth_servers="auth:3025")
    own.learn(encode(RECORD))
    assert own.web == "mine:443"
    assert own.beside_token() == {"caPin": "SHA256:new", "authServers": "auth:3025"}


async def test_the_record_is_read_at_the_start() -> None:
    """If there is one."""
    clock = ManualClock(datetime(2027, 1, 2, tzinfo=UTC))
    backend, facts = MemoryBackend(clock=clock), Facts()
    await facts.read(backend)
    assert facts.web == ""
    await backend.put(CLUSTER_FACTS, encode(RECORD))
    await facts.read(backend)
    assert facts.web == "web:443"
    await backend.close()


class Line(Looking):
    """Notes what is to be looked at."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.looked: set[tuple[Ref, str]] = set()

    def look(self, ref: Ref, about: str, needed: object = None) -> None:
        """Note it."""
        self.looked.add((ref, about))


@pytest.fixture
async def line(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    """Follow time and facts for two users, one of whom is invited, and a token."""
    monkeypatch.setattr(occasions, "TICK_SECONDS", 0.01)
    clock = ManualClock(datetime(2027, 1, 2, tzinfo=UTC))
    backend = MemoryBackend(clock=clock)
    context = Context(backend, clock, cast("ApiServer", None), OperatorMetrics(Watches()))
    for ref in (JOE, ANN, TOKEN):
        context.objects.note(ref, Known(None))
    context.deadlines[JOE] = clock.now() + timedelta(hours=1)
    line = Line(context)
    following = asyncio.gather(occasions.follow_public(context, line), occasions.follow_deadlines(context, line))
    yield line
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    await backend.close()


async def until(line: Line, *looked: tuple[Ref, str]) -> None:
    """Wait until these and no others were looked at."""
    async with asyncio.timeout(10):
        while line.looked != set(looked):  # noqa: ASYNC110 (it is not told)
            await asyncio.sleep(0.005)


async def test_what_ends_is_looked_at_once(line: Line) -> None:
    """When it has ended, and not before."""
    context = line._context
    clock = context.clock
    assert isinstance(clock, ManualClock)
    context.deadlines[ANN] = clock.now() + timedelta(minutes=1)
    clock.advance(timedelta(minutes=1))
    await until(line, (ANN, occasions.ENDED))
    assert set(context.deadlines) == {JOE}
    clock.advance(timedelta(hours=1))
    await until(line, (ANN, occasions.ENDED), (JOE, occasions.ENDED))


async def test_without_the_right_to_read_facts(
    line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing else stops for it, and it is tried again."""
    monkeypatch.setattr(occasions, "AGAIN_SECONDS", 0.01)
    tries = 0

    async def denied(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise AccessDenied("permission denied")

    monkeypatch.setattr(occasions, "_follow_public", denied)
    following = asyncio.create_task(occasions.follow_public(line._context, line))
    async with asyncio.timeout(10):
        while tries < 2:  # noqa: ASYNC110 (it is not told)
            await asyncio.sleep(0.005)
    following.cancel()
    await asyncio.wait([following])
    assert "public/ in the storage cannot be read: permission denied" in caplog.text


async def test_who_waits_for_facts_is_looked_at(line: Line) -> None:
    """Tokens, and users whose invite is open; not those who have signed up."""
    await line._context.backend.put(CLUSTER_FACTS, encode(RECORD))
    await until(line, (JOE, occasions.FACTS), (TOKEN, occasions.FACTS))
    assert line._context.facts.web == "web:443"
