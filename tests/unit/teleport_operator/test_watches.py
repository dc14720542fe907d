"""When something was last heard on a watch, over a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from teleport_operator.kubernetes.watches import Watched, Watches, what_is_watched

USERS = "/apis/teleport.internal/v1/users"


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, asyncio.Queue[bytes]]]:
    """Serve watches that say what is put into a queue; what is empty ends one."""
    lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(request: web.Request) -> web.StreamResponse:
        if "namespaces/gone" in request.path:
            return web.Response(status=404)
        response = web.StreamResponse()
        await response.prepare(request)
        while line := await lines.get():
            await response.write(line)
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", lines
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "watched"),
    [
        (USERS, Watched("users")),
        ("/apis/teleport.internal/v1/namespaces/web/users", Watched("users", "web")),
        ("/api/v1/namespaces", Watched("namespaces")),
        ("/api/v1/namespaces/web/secrets", Watched("secrets", "web")),
    ],
)
def test_what_a_watch_is_on(path: str, watched: Watched) -> None:
    """The path of a watch tells the resource, and the namespace if it is one."""
    assert what_is_watched(path) == watched


async def test_each_thing_that_comes_in_is_heard(server: tuple[str, asyncio.Queue[bytes]]) -> None:
    """Opening a watch and each line on it make it young again; in between it ages, and what it says is passed on."""
    url, lines = server
    time = Time()
    watches = Watches(time)
    async with (
        aiohttp.ClientSession(middlewares=(watches.listen,)) as session,
        session.get(f"{url}{USERS}?watch=true") as response,
    ):
        assert watches.ages() == {Watched("users"): 0}
        chunks = response.content.iter_chunked(1024)
        time.now += 50
        assert watches.ages() == {Watched("users"): 50}
        assert watches.silent(49) == ["nothing was heard of users for 50 s"]
        assert watches.silent(50) == []
        lines.put_nowait(b"bookmark\n")
        assert await anext(chunks) == b"bookmark\n"
        assert watches.ages() == {Watched("users"): 0}
        lines.put_nowait(b"")


async def test_only_watches_are_listened_to(server: tuple[str, asyncio.Queue[bytes]]) -> None:
    """A list is no watch, and a watch that is refused has not been heard."""
    url, lines = server
    watches = Watches()
    async with aiohttp.ClientSession(middlewares=(watches.listen,)) as session:
        lines.put_nowait(b"")
        await session.get(f"{url}{USERS}")
        async with session.get(f"{url}/apis/teleport.internal/v1/namespaces/gone/users?watch=true") as response:
            assert response.status == 404
    assert watches.ages() == {}


def test_what_is_not_watched_is_told() -> None:
    """A resource without any watch is named, for instance because its CRD is not there."""
    watches = Watches()
    watches.heard(Watched("users", "web"))
    assert watches.missing(("users", "roles")) == ["roles are not watched: is the CRD there?"]
