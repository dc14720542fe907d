"""Lists of clusters and of a leaf's nodes, as the web API tells them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from yarl import URL

from runtime.api.client import AuthClient
from runtime.api.people_messages import SignedRequest
from runtime.api.session import Stream
from runtime.core.errors import Unavailable
from runtime.proxy.cluster import Alone
from tests.unit.proxy.world import World

Client = TestClient[Request, Application]


class Leaves(Alone):
    """Two leaves, of which one is online; what was asked of it is kept."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, SignedRequest, str]] = []

    def names(self) -> Sequence[str]:
        """Return both."""
        return ["far", "near"]

    def is_online(self, cluster: str) -> bool:
        """Tell of near."""
        return cluster == "near"

    def last_connected(self, cluster: str) -> datetime | None:
        """Return when near was heard."""
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) if cluster == "near" else None

    async def nodes(self, cluster: str, signed: SignedRequest, address: str) -> bytes:
        """Return one node."""
        self.asked.append((cluster, signed, address))
        if cluster == "far":
            raise Unavailable("cluster far is offline", hint="Look there.")
        return b'[{"name":"db1"}]'


@pytest.fixture
def leaves() -> Leaves:
    """Return them."""
    return Leaves()


@pytest.fixture
def world(leaves: Leaves) -> World:
    """Return a root of them, in which joe is."""
    world = World()
    world.view = replace(world.view, others=leaves)
    world.declare_user("joe", "root")
    return world


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    """Yield an HTTP client of the proxy's application."""

    async def nowhere(server: str) -> Stream:
        raise Unavailable(f"nobody is at {server}")

    async with TestClient(TestServer(world.app(AuthClient(nowhere, lambda: ["auth:3025"])))) as client:
        yield client


async def get(client: Client, world: World, target: str) -> tuple[int, Any]:
    """Return status and document of joe's request."""
    async with client.get(URL(target, encoded=True), headers=world.login("joe").headers(target)) as response:
        return response.status, await response.json()


async def test_clusters_online_and_offline(client: Client, world: World) -> None:
    """Our own first, then the leaves, with whether there is a way, and when there last was."""
    status, document = await get(client, world, "/webapi/clusters")
    assert status == 200
    assert document["clusters"] == [
        {"name": "main", "status": "online", "local": True, "last_connected": None},
        {"name": "far", "status": "offline", "local": False, "last_connected": None},
        {"name": "near", "status": "online", "local": False, "last_connected": "2026-01-02T03:04:05Z"},
    ]


async def test_nodes_of_a_leaf(client: Client, world: World, leaves: Leaves) -> None:
    """The leaf is asked with the very request that the person signed; what it answers is the answer."""
    target = "/webapi/nodes?cluster=near&label=env=dev"
    assert await get(client, world, target) == (200, {"cluster": "near", "nodes": [{"name": "db1"}]})
    ((cluster, signed, address),) = leaves.asked
    assert (cluster, signed.target, signed.method) == ("near", target, "GET")
    assert address == "127.0.0.1"


async def test_a_leaf_that_is_offline(client: Client, world: World) -> None:
    """The person reads which it is."""
    status, document = await get(client, world, "/webapi/nodes?cluster=far")
    assert status == 503
    assert document["error"]["message"] == "cluster far is offline"


@pytest.mark.parametrize(
    ("target", "status", "said"),
    [
        ("/webapi/nodes?cluster=nowhere", 404, "there is no cluster 'nowhere' behind this proxy"),
        ("/webapi/nodes?cluster=near&cluster=main", 400, "one cluster at a time"),
        ("/webapi/nodes?cluster=near&label=x", 400, "is not of the form NAME=VALUE"),
    ],
)
async def test_what_cannot_be_asked(
    client: Client, world: World, leaves: Leaves, target: str, status: int, said: str
) -> None:
    """It is refused here, and nobody else is asked."""
    found, document = await get(client, world, target)
    assert (found, said in document["error"]["message"]) == (status, True)
    assert not leaves.asked
