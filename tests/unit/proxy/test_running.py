"""Running sessions over HTTPS: what the proxy asks auth for, and what it passes on."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.session import Stream
from runtime.api.session_messages import Participant, RunningSession, SessionEntry, SessionList, SessionQuery
from runtime.core.errors import Unavailable
from tests.unit.proxy.world import World

Client = TestClient[Request, Application]
SID = uuid.UUID("3f0c8b1e-6f0e-4c7e-9d55-0f3a2f6f1f2a")
ENTRY = SessionEntry(
    session=RunningSession(
        sid=SID,
        user="joe",
        login="root",
        started=datetime(2026, 11, 22, 20, 1, 2, tzinfo=UTC),
        interactive=True,
        joinable=True,
        parties=(Participant(user="ann", mode="peer"),),
    ),
    node="5f0f3f43-8e9f-4d5e-9f3c-3b1b8e4f2a10",
    hostname="db1",
)


class Proxy:
    """An HTTP client of the proxy's application, and what that has asked auth for."""

    def __init__(self, client: Client, world: World, asked: list[SessionQuery]) -> None:
        self.client = client
        self.asked = asked
        self.joe = world.login("joe")

    async def get(self, target: str) -> tuple[int, dict[str, object]]:
        """Ask as joe."""
        async with self.client.get(target, headers=self.joe.headers(target)) as response:
            return response.status, await response.json()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Yield the proxy; auth tells of one session, whatever it is asked for."""
    world = World()
    world.declare_user("joe", "root")
    asked: list[SessionQuery] = []

    async def nowhere(server: str) -> Stream:
        raise Unavailable(f"nobody is at {server}")

    async def call(method: object, query: SessionQuery) -> SessionList:
        assert method is methods.SESSIONS_LIST
        asked.append(query)
        return SessionList(sessions=(ENTRY,))

    auth = AuthClient(nowhere, lambda: ["auth:3025"])
    auth.call = call  # type: ignore[method-assign, assignment]
    async with TestClient(TestServer(world.app(auth))) as client:
        yield Proxy(client, world, asked)


async def test_a_list_is_the_persons(proxy: Proxy) -> None:
    """Auth is given what the person has signed, and judges that; the answer has what tsh shows."""
    status, document = await proxy.get("/webapi/sessions?reader=ann")
    (query,) = proxy.asked
    assert (status, query.sid) == (200, None)
    assert query.signed is not None
    assert query.signed.target == "/webapi/sessions?reader=ann"
    assert query.signed.certificate == base64.b64decode(proxy.joe.certificate.split()[1])
    assert document == {
        "sessions": [
            {
                "sid": str(SID),
                "user": "joe",
                "login": "root",
                "started": "2026-11-22T20:01:02Z",
                "command": "",
                "joinable": True,
                "parties": [{"user": "ann", "mode": "peer"}],
                "node": ENTRY.node,
                "hostname": "db1",
            }
        ]
    }
    assert (await proxy.get(f"/webapi/sessions?sid={SID}"))[0] == 200
    assert [query.sid for query in proxy.asked[1:]] == [SID]


async def test_an_id_that_is_none(proxy: Proxy) -> None:
    """Auth is not asked; neither is it by somebody who signed nothing."""
    for query in ("sid=../x", "sid=", f"sid={SID}&sid={SID}"):
        status, document = await proxy.get(f"/webapi/sessions?{query}")
        assert status == 400, document
    async with proxy.client.get("/webapi/sessions") as response:
        assert response.status == 401
    assert proxy.asked == []
