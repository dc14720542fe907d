"""What a person is told of nodes and clusters, and how it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from aiohttp.web import Application, Request
from multidict import CIMultiDict
from yarl import URL

from runtime.api.client import AuthClient
from runtime.api.session import Stream
from runtime.core.errors import InvalidInput, Unavailable
from runtime.proxy.lists import BATCH, MAX_FILTER_CHARACTERS, MAX_FILTERS, ClusterLists, Filter, read_filter
from runtime.proxy.signed import SignedRequests
from tests.unit.proxy.world import Login, World

Client = TestClient[Request, Application]


@pytest.fixture
def world() -> World:
    """Return a cluster of four nodes; joe may be on all of them, ann on those of staging."""
    world = World()
    world.declare_user("joe", "root")
    world.declare_role("stage", "dev", env="staging")
    world.declare_user("ann", roles=("stage",))
    world.add_node("web1", "10.0.0.1:3022", env="prod", kernel="3.19.0-56", uptime="up 1 hour, 15 minutes")
    world.add_node("web2", "10.0.0.2:3022", env="staging")
    world.add_node("db", "10.0.0.3:3022", env="prod", team="data")
    world.add_node("alone", "10.0.0.4:3022")
    return world


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    """Yield an HTTP client of the proxy's application."""

    async def nowhere(server: str) -> Stream:
        raise Unavailable(f"nobody is at {server}")

    app = world.app(AuthClient(nowhere, lambda: ["auth:3025"]))
    async with TestClient(TestServer(app)) as client:
        yield client


async def names(client: Client, login: Login, query: str = "") -> list[str]:
    """Return the names of the nodes that are told of."""
    target = f"/webapi/nodes{query}"
    async with client.get(URL(target, encoded=True), headers=login.headers(target)) as response:
        document = await response.json()
        assert response.status == 200, document
        assert document["cluster"] == "main"
        return [node["name"] for node in document["nodes"]]


async def error(client: Client, login: Login, target: str) -> tuple[int, str]:
    """Return status and message of a refusal."""
    async with client.get(URL(target, encoded=True), headers=login.headers(target)) as response:
        said = (await response.json())["error"]
        assert said["hint"]
        return response.status, f"{said['kind']}: {said['message']}"


async def test_all_of_a_node_is_told(client: Client, world: World) -> None:
    """Id, name, address, labels, version and kind; nothing else."""
    target = "/webapi/nodes?search=web2"
    async with client.get(target, headers=world.login().headers(target)) as response:
        (node,) = (await response.json())["nodes"]
    assert node == {
        "id": str(world.nodes[1].id),
        "name": "web2",
        "addr": "10.0.0.2:3022",
        "labels": {"env": "staging"},
        "version": "1.0",
        "kind": "node",
    }


async def test_each_sees_what_each_may_reach(client: Client, world: World) -> None:
    """By name, then id; ann sees the one that her role allows, until the role says something else."""
    joe, ann = world.login("joe"), world.login("ann")
    assert await names(client, joe) == ["alone", "db", "web1", "web2"]
    assert await names(client, ann) == ["web2"]
    assert await names(client, ann, "?search=db") == []
    assert await names(client, ann, "?label=env=prod") == []
    world.declare_role("stage", "dev", team="data")
    assert await names(client, ann) == ["db"]
    del world.people.roles["stage"]
    assert await names(client, ann) == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?label=env%3Dprod", ["db", "web1"]),
        ("?label=env=prod", ["db", "web1"]),
        ("?label=env=prod&label=team=data", ["db"]),
        ("?label=env=prod&label=env=staging", []),
        ("?label=env=*", ["db", "web1", "web2"]),
        ("?label=uptime=up+1+hour,%2015%20minutes", ["web1"]),
        ("?label=env=", []),
        ("?label=Env=prod", []),
        ("?search=WEB", ["web1", "web2"]),
        ("?search=%57%65%62", ["web1", "web2"]),
        ("?search=web&search=3.19", ["web1"]),
        ("?search=10.0.0.3:", ["db"]),
        ("?search=team=d", ["db"]),
        ("?search=", ["alone", "db", "web1", "web2"]),
        ("?search=web&label=env=staging", ["web2"]),
        ("?cluster=main&label=team=*", ["db"]),
    ],
)
async def test_filters(client: Client, world: World, query: str, found: list[str]) -> None:
    """Every label has to be there with its value, every text somewhere."""
    assert await names(client, world.login(), query) == found


async def test_an_id_is_searched_too(client: Client, world: World) -> None:
    """A node is found by a part of its id."""
    assert await names(client, world.login(), f"?search={str(world.nodes[2].id)[:13].upper()}") == ["db"]


async def test_another_cluster_is_not_there(client: Client, world: World) -> None:
    """404, with the name and with what to do; also when ours is named beside it."""
    for query in ("?cluster=other", "?cluster=main&cluster=other", "?cluster="):
        status, said = await error(client, world.login(), f"/webapi/nodes{query}")
        assert status == 404
        assert said.startswith("NotFound: there is no cluster ")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/webapi/nodes?labels=env=prod", "nothing to ask for by 'labels'"),
        ("/webapi/clusters?cluster=main", "nothing to ask for by 'cluster'"),
        ("/webapi/nodes?label=env", "label 'env' is not of the form NAME=VALUE"),
        ("/webapi/nodes?label==prod", "not of the form"),
        ("/webapi/nodes?" + "search=a&" * (MAX_FILTERS + 1), f"at most {MAX_FILTERS}"),
        ("/webapi/nodes?search=" + "a" * (MAX_FILTER_CHARACTERS + 1), f"at most {MAX_FILTER_CHARACTERS} characters"),
    ],
)
async def test_a_query_that_is_wrong_is_told(client: Client, world: World, target: str, says: str) -> None:
    """What is not known is not left out: the answer would be another one."""
    target = target.removesuffix("&")
    status, said = await error(client, world.login(), target)
    assert status == 400
    assert said.startswith("InvalidInput: ")
    assert says in said


async def test_clusters(client: Client, world: World) -> None:
    """There is our own, which is always online."""
    async with client.get("/webapi/clusters", headers=world.login("ann").headers("/webapi/clusters")) as response:
        document = await response.json()
    assert document == {"clusters": [{"name": "main", "status": "online", "local": True, "last_connected": None}]}


@pytest.mark.parametrize("path", ["/webapi/nodes", "/webapi/clusters"])
async def test_nobody_sees_nothing(client: Client, world: World, path: str) -> None:
    """Without a signature it is 401 and says how; other methods than GET are 405."""
    async with client.get(path) as response:
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "SSHSIG")
        assert (await response.json())["error"]["kind"] == "AccessDenied"
    for method in ("HEAD", "POST", "PUT", "DELETE"):
        async with client.request(method, path, headers=world.login().headers(path, method)) as response:
            assert response.status == 405
    async with client.get(path + "/", headers=world.login().headers(path + "/")) as response:
        assert response.status == 404


async def test_others_run_while_a_long_list_is_made(client: Client, world: World) -> None:
    """Between two batches of nodes the loop does what else there is: sessions go through this process."""
    for number in range(10 * BATCH):
        world.add_node(f"n{number:05}", env="prod")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    lists = ClusterLists(world.view, SignedRequests(world.view, world.clock))
    headers = CIMultiDict(world.login().headers("/webapi/nodes"))
    asked = make_mocked_request("GET", "/webapi/nodes", headers=headers)
    await asyncio.sleep(0)
    before = turns
    await lists.nodes(asked)
    counting.cancel()
    assert turns - before >= 10
    assert len(await names(client, world.login())) == 10 * BATCH + 4


def test_a_filter_without_anything_takes_all(world: World) -> None:
    """No label and no text is every node."""
    assert read_filter({}) == Filter()
    assert all(Filter().takes(node) for node in world.nodes)


def test_a_label_s_value_may_hold_anything() -> None:
    """Only the first `=` divides."""
    assert read_filter({"label": ["a=b=c"], "search": ["X"]}) == Filter((("a", "b=c"),), ("x",))
    with pytest.raises(InvalidInput):
        read_filter({"label": ["a"]})
