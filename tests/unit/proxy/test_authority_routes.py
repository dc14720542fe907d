"""Whom tsh may believe, as the proxy tells it: the cluster's own keys to all, those of clusters behind it to people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from runtime.api.client import AuthClient
from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.session import Stream
from runtime.core.errors import Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.pki.keys import generate_key
from runtime.pki.trust import Signer
from runtime.proxy.authority_routes import PATH, AuthorityRoutes
from runtime.proxy.cluster import Alone
from runtime.proxy.signed import SignedRequests
from tests.unit.proxy.world import Login, World

LEAF = AuthorityKeys(cluster="leaf", type="host", keys=(generate_key().public.line,))


class Behind(Alone):
    """One cluster behind this one."""

    def authorities(self) -> tuple[AuthorityKeys, ...]:
        """Return its host authority."""
        return (LEAF,)


class Setting:
    """A proxy of `main`, whose keys are `own`; joe may ask it."""

    def __init__(self) -> None:
        self.world = World()
        self.world.declare_user("joe", "root")
        self.own = self._keys(self.world.users, self.world.hosts)
        self.world.view = replace(self.world.view, authorities=lambda: self.own, others=Behind())

    def _keys(self, users: Signer, hosts: Signer) -> tuple[AuthorityKeys, ...]:
        user, host = users.key.public.line, hosts.key.public.line
        return AuthorityKeys(cluster="main", type="user", keys=(user,)), AuthorityKeys(
            cluster="main", type="host", keys=(host,)
        )

    async def ask(self, login: Login | None = None) -> tuple[int, list[dict[str, object]], str]:
        """Return status, the authorities that are told, and an error's message."""
        headers = login.headers(PATH) if login else {}
        async with self.client.get(PATH, headers=headers) as response:
            document = await response.json()
            return response.status, document.get("authorities", []), document.get("error", {}).get("message", "")

    client: TestClient[Request, Application]


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    """Yield one that serves."""

    async def nowhere(server: str) -> Stream:
        raise Unavailable(f"nobody is at {server}")

    made = Setting()
    app = made.world.app(AuthClient(nowhere, lambda: ["auth:3025"]))
    AuthorityRoutes(made.world.view, SignedRequests(made.world.view, made.world.clock)).add(app)
    async with TestClient(TestServer(app)) as made.client:
        yield made


async def test_anybody_may_know_our_own(setting: Setting) -> None:
    """As they are at the moment; which clusters are behind us is not told."""
    for _ in range(2):
        status, told, _message = await setting.ask()
        assert (status, told) == (200, [each.model_dump(mode="json") for each in setting.own])
        setting.own = setting.own[1:]


async def test_people_hear_of_clusters_behind_it(setting: Setting) -> None:
    """Their host authorities come after ours."""
    status, told, _ = await setting.ask(setting.world.login())
    assert (status, told) == (200, [each.model_dump(mode="json") for each in (*setting.own, LEAF)])


async def test_a_signature_that_is_not_taken(setting: Setting) -> None:
    """A certificate of an authority that has been replaced, and a user who is no more: nothing is told, but why."""
    replaced = setting.world.login(signer=Signer(AuthorityType.USER, "main", generate_key()))
    status, told, message = await setting.ask(replaced)
    assert (status, told) == (401, [])
    assert "a CA that is not trusted here" in message
    del setting.world.people.users["joe"]
    status, told, message = await setting.ask(setting.world.login())
    assert (status, told, message) == (403, [], "there is no user joe")
