"""What happens to Secrets has the objects that refer to them looked at; the API server is a script here."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied, Unavailable
from teleport_operator.context import Context
from teleport_operator.following import secret_watch
from teleport_operator.following.looking import Looking, Needed, anyhow
from teleport_operator.following.secret_watch import LIST_FORM, WATCH_FORM, SecretWatch
from teleport_operator.kubernetes.api_server import ApiServer
from teleport_operator.kubernetes.watches import Watches
from teleport_operator.metrics import OperatorMetrics
from teleport_operator.objects import NO_SECRET, Ref

CLOCK = ManualClock(datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC))
WEB = Ref("Token", "team", "web")
BOT = Ref("User", "team", "bot")
Line = dict[str, Any] | bytes | Exception


def secret(name: str, version: str, namespace: str = "team") -> dict[str, Any]:
    """Return a Secret's metadata."""
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": version}}


def event(kind: str, name: str, version: str, namespace: str = "team") -> dict[str, Any]:
    """Return what a watch brings."""
    return {"type": kind, "object": secret(name, version, namespace)}


class Server:
    """Has Secrets, page by page, and brings what the test says on each watch in turn."""

    def __init__(self) -> None:
        self.pages: list[list[dict[str, Any]]] = [[]]
        self.watches: list[list[Line]] = []
        self.refusals: list[Exception] = []
        self.listed: list[dict[str, list[str]]] = []
        self.watched: list[dict[str, list[str]]] = []
        self.forms: set[str] = set()
        self.paths: set[str] = set()

    async def get(self, path: str, *, accept: str) -> dict[str, Any]:
        """Return one page."""
        query = self._ask(path, accept)
        self.listed.append(query)
        if self.refusals:
            raise self.refusals.pop(0)
        page = int(query.get("continue", ["0"])[0])
        more = str(page + 1) if page + 1 < len(self.pages) else ""
        return {"metadata": {"resourceVersion": "100", "continue": more}, "items": self.pages[page]}

    async def follow(self, path: str, *, accept: str, silence: float) -> AsyncGenerator[bytes, None]:
        """Bring what is next."""
        self.watched.append(self._ask(path, accept))
        if not self.watches:
            await asyncio.Event().wait()
        for line in self.watches.pop(0):
            if isinstance(line, Exception):
                raise line
            yield line if isinstance(line, bytes) else json.dumps(line).encode()

    def _ask(self, path: str, accept: str) -> dict[str, list[str]]:
        self.forms.add(accept)
        self.paths.add(urlsplit(path).path)
        return parse_qs(urlsplit(path).query)


class Asked(Looking):
    """Remembers what should be looked at, and does not look."""

    def __init__(self) -> None:
        self.asked: list[tuple[Ref, str]] = []

    def look(self, ref: Ref, about: str, needed: Needed = anyhow) -> None:
        """Remember it."""
        assert needed()
        self.asked.append((ref, about))


class World:
    """The Token web, judged by version 7 of its Secret, and the User bot, whose Secret was not there."""

    def __init__(self) -> None:
        self.server = Server()
        self.watches = Watches()
        self.looking = Asked()
        backend = MemoryBackend(clock=CLOCK)
        self.context = Context(backend, CLOCK, cast("ApiServer", self.server), OperatorMetrics(self.watches))
        self.context.objects.refer(WEB, ["web-token"])
        self.context.objects.saw(WEB, "web-token", "7")
        self.context.objects.refer(BOT, ["bot-login"])
        self.running: asyncio.Task[None] | None = None

    def follow(self, namespace: str = "") -> None:
        """Begin."""
        watch = SecretWatch(self.context, self.looking, self.watches, namespace=namespace, silence=70)
        self.running = asyncio.create_task(watch.run())

    async def stop(self) -> None:
        """End it."""
        if self.running is not None:
            self.running.cancel()
            with suppress(asyncio.CancelledError):
                await self.running


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Have it without pauses."""
    monkeypatch.setattr(secret_watch, "AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(secret_watch, "FORBIDDEN_SECONDS", 0.001)
    made = World()
    yield made
    await made.stop()
    await made.context.backend.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that the watch does."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 (it is not told)
            await asyncio.sleep(0.001)


async def test_no_value_is_asked_for_and_no_secret_that_has_not_opted_in(world: World) -> None:
    """Metadata alone, by the label, in whichever namespaces; that is all the operator ever lists or watches."""
    world.follow()
    await until(lambda: bool(world.server.watched))
    assert world.server.forms == {LIST_FORM, WATCH_FORM}
    assert all("as=PartialObjectMetadata" in form and "," not in form for form in world.server.forms)
    assert world.server.paths == {"/api/v1/secrets"}
    asked = [*world.server.listed, *world.server.watched]
    assert {query["labelSelector"][0] for query in asked} == {"teleport.internal/secret=true"}


async def test_what_happened_while_nobody_watched(world: World) -> None:
    """Of all pages: another version, one that appeared, one that is gone; what is as it was is left alone."""
    world.server.pages = [[secret("web-token", "7"), secret("other", "1")], [secret("bot-login", "9")]]
    world.follow()
    await until(lambda: bool(world.server.watched))
    assert world.looking.asked == [(BOT, "secrets/bot-login")]
    assert world.server.watched[0]["resourceVersion"] == ["100"]
    world.context.objects.saw(BOT, "bot-login", "9")
    await world.stop()
    world.server.pages = [[]]
    world.follow()
    await until(lambda: len(world.server.watched) == 2)
    assert {(WEB, "secrets/web-token"), (BOT, "secrets/bot-login")} <= set(world.looking.asked[1:])


async def test_changes(world: World) -> None:
    """A change, an appearance and an end count for who refers to that Secret, in its namespace, and for nobody else."""
    world.server.pages = [[secret("web-token", "7")]]
    world.server.watches = [
        [
            event("MODIFIED", "web-token", "7"),
            event("ADDED", "bot-login", "101", "elsewhere"),
            event("ADDED", "unheard-of", "102"),
            {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "110"}}},
        ],
        [
            event("ADDED", "bot-login", "111"),
            event("MODIFIED", "web-token", "112"),
            event("DELETED", "web-token", "113"),
        ],
    ]
    world.follow()
    await until(lambda: len(world.server.watched) == 3)
    assert world.looking.asked == [
        (BOT, "secrets/bot-login"),
        (WEB, "secrets/web-token"),
        (WEB, "secrets/web-token"),
    ]
    assert [query["resourceVersion"] for query in world.server.watched] == [["100"], ["110"], ["113"]]
    assert len(world.server.listed) == 1


@pytest.mark.parametrize(
    "line",
    [
        {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}},
        {"type": "ERROR", "object": {"code": 500, "message": "no such luck"}},
        b"<html>",
        b"[]",
        b'{"type": "ADDED", "object": {}}',
        Unavailable("silence"),
    ],
    ids=str,
)
async def test_a_watch_that_ends_badly_is_begun_with_a_list(world: World, line: Line) -> None:
    """Whatever it was, and what was missed is found."""
    world.server.pages = [[secret("web-token", "7")]]
    world.server.watches = [[line]]
    world.follow()
    await until(lambda: len(world.server.watched) == 2)
    assert len(world.server.listed) == 2
    assert world.running is not None
    assert not world.running.done()


async def test_without_the_right_to_watch(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, what is referred to is looked at now and then, and no probe waits for a watch."""
    world.server.refusals = [AccessDenied("secrets is forbidden")] * 3
    with caplog.at_level(logging.INFO):
        world.follow("team")
        await until(lambda: bool(world.server.watched))
    said = [record.message for record in caplog.records if record.name == secret_watch.__name__]
    assert said == [
        "Secrets that documents refer to are looked at once a minute only: secrets is forbidden",
        "the Secrets that documents refer to are watched",
    ]
    assert world.looking.asked.count((WEB, "secrets")) == 3
    assert world.server.paths == {"/api/v1/namespaces/team/secrets"}


async def test_the_age_of_the_watch_shows(world: World) -> None:
    """As with any other watch; one that is forbidden is forgotten."""
    world.follow("team")
    await until(lambda: bool(world.watches.ages()))
    ((watched, _),) = world.watches.ages().items()
    assert (watched.resource, watched.namespace) == ("secrets", "team")
    await world.stop()
    world.server.refusals = [AccessDenied("secrets is forbidden")] * 1000
    world.follow("team")
    await until(lambda: not world.watches.ages())


def test_references() -> None:
    """Another document refers to other Secrets; one that is gone to none; an unread one differs from any version."""
    objects = World().context.objects
    assert objects.sees(BOT, "bot-login", "1")
    assert not objects.sees(BOT, "bot-login", NO_SECRET)
    assert not objects.sees(BOT, "another", "1")
    objects.refer(BOT, ["bot-login", "another"])
    objects.saw(BOT, "another", "5")
    objects.refer(BOT, ["another"])
    assert not objects.sees(BOT, "another", "5")  # the same as before
    objects.saw(BOT, "bot-login", "5")
    assert (BOT, "bot-login") not in objects.references()
    objects.forget(BOT)
    objects.refer(WEB, [])
    assert objects.references() == []
