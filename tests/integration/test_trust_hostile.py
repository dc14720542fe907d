"""What a stranger, a hostile leaf and a hostile root cannot achieve at the exchange, from outside."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.trust_messages import ClusterName, LeafRequest
from runtime.core.callers import CallerKind
from runtime.core.errors import AccessDenied
from runtime.pki.introduction import vouch
from runtime.pki.keys import PrivateKey, generate_key
from tests.servers.trust_pair import Pair, exported, lines, trust_pair
from tests.servers.webproxy import write_pair


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Yield both clusters."""
    async with trust_pair(tmp_path) as pair:
        yield pair


async def asked(pair: Pair, **changes: Any) -> tuple[int, dict[str, Any]]:
    """Ask the root to be its leaf, over HTTPS, as a leaf's auth does; return status and answer."""
    key: PrivateKey = changes.pop("key", None) or generate_key()
    token = changes.pop("token", None) or (await pair.token()).entry.token
    cluster = changes.get("cluster", "cluster-c")
    host_keys = changes.get("host_keys", [key.public.line])
    body = {
        "token": token,
        "cluster": cluster,
        "host_keys": host_keys,
        "proof": vouch(key, cluster=cluster, host_keys=host_keys, token=token),
        **changes,
    }
    async with pair.root.http() as http, http.post("/webapi/trust", json=body) as response:
        return response.status, await response.json()


def message(answer: dict[str, Any]) -> str:
    """Return what an error says."""
    return str(answer["error"]["message"])


async def test_a_leaf_as_it_should_be(pair: Pair) -> None:
    """The same request that the tests below change is granted."""
    status, answer = await asked(pair)
    assert status == 200, answer
    assert set(answer) == {"cluster", "host_keys", "user_keys"}
    assert tuple(answer["user_keys"]) == lines(pair.root)["user"]


async def test_nobody_enters_keys_that_are_not_his(pair: Pair) -> None:
    """A host CA is taken from who proves to hold it: not another leaf's, not the root's own, not a stranger's."""
    stranger = generate_key().public.line
    status, answer = await asked(pair, host_keys=[stranger])
    assert (status, message(answer)) == (403, "the signature is by another key")
    status, answer = await asked(pair, proof="AAAA")
    assert status == 403
    for own in (*lines(pair.root)["host"], *lines(pair.root)["user"]):
        status, answer = await asked(pair, host_keys=[own])
        assert (status, message(answer)) == (400, "the CA that the leaf shows is that of another cluster")
    assert not (await pair.root.admin.call(methods.TRUSTED_LIST, Nothing())).clusters


async def test_another_leafs_ca_is_taken(pair: Pair) -> None:
    """Also as one of several keys, behind one's own."""
    key = generate_key()
    status, _ = await asked(pair, key=key, cluster="cluster-c")
    assert status == 200
    mine = generate_key()
    status, answer = await asked(pair, key=mine, cluster="cluster-d", host_keys=[mine.public.line, key.public.line])
    assert (status, message(answer)) == (400, "the CA that the leaf shows is that of another cluster")


@pytest.mark.parametrize("name", ["main", "../main", "a b", "A", "", "x" * 200])
async def test_names_that_no_leaf_has(pair: Pair, name: str) -> None:
    """The root's own, and what is no cluster's name; the token stays good."""
    created = await pair.token()
    status, _ = await asked(pair, cluster=name, token=created.entry.token)
    assert status == 400
    assert (await asked(pair, token=created.entry.token))[0] == 200


async def test_a_name_of_teleport_yaml_or_a_document_is_taken(pair: Pair) -> None:
    """A leaf does not become what an administrator of the root has declared."""
    root_of_root = Pair(pair.leaf, pair.root)
    await root_of_root.declare({"ca": exported(pair.leaf)}, name="cluster-b")
    await root_of_root.standing("Trusted", name="cluster-b")
    status, answer = await asked(pair, cluster="cluster-b")
    assert (status, message(answer)) == (409, "the name cluster-b is taken here by a trusted cluster that is declared")


async def test_a_stranger_learns_no_names(pair: Pair) -> None:
    """Without a token a name that is taken and one that is free get the same answer."""
    assert (await asked(pair, cluster="cluster-c"))[0] == 200
    answers = [await asked(pair, cluster=name, token="f" * 32) for name in ("cluster-c", "cluster-d", "main")]
    assert answers[0][0] == 403
    assert all(answer == answers[0] for answer in answers)


async def test_guesses_are_counted(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many wrong tokens from one address, and the right one is refused there for a while."""
    monkeypatch.setattr("runtime.auth.trusted_leaves.MAX_JOIN_FAILURES", 3)
    for _ in range(3):
        assert (await asked(pair, token="f" * 32))[0] == 403
    status, answer = await asked(pair)
    assert status == 403
    assert "nobody joins from 127.0.0.1 until" in message(answer)


async def test_only_a_proxy_passes_leaves_on(pair: Pair) -> None:
    """A node, and an administrator's client even, cannot say who came from where."""
    key = generate_key()
    request = LeafRequest.model_validate(
        {"token": "x" * 32, "cluster": "c", "host_keys": [key.public.line], "proof": "x", "address": "192.0.2.1"}
    )
    for role in (CallerKind.NODE, CallerKind.ADMIN):
        with pytest.raises(AccessDenied):
            await pair.root.client(role).call(methods.TRUSTED_ACCEPT, request)
    for role in (CallerKind.NODE, CallerKind.PROXY):
        with pytest.raises(AccessDenied):
            await pair.root.client(role).call(methods.TRUSTED_FORGET, ClusterName(name="c"))


async def test_members_do_not_read_documents_of_clusters(pair: Pair) -> None:
    """A token may lie with them; what holds, members are told by another method, without it."""
    with pytest.raises(AccessDenied):
        async for _ in pair.leaf.client(CallerKind.NODE).watch("TrustedCluster"):
            pass


async def test_a_leafs_users_are_nobody_in_the_root(pair: Pair) -> None:
    """The exchange carries no user CA to the root, also where the leaf sends one."""
    user_ca = lines(pair.leaf)["user"][0]
    status, _ = await asked(pair, user_keys=[user_ca])
    assert status == 200
    (leaf,) = await pair.trusted(pair.root, bool)
    assert leaf.user_keys == ()


@dataclass
class Impostor:
    """A server between: its port, the bodies that it was sent, and what it does with a GET."""

    port: int = 0
    seen: list[str] = field(default_factory=list)
    answer: Callable[[web.Request], Awaitable[object]] | None = None


@pytest.fixture
async def impostor(tmp_path: Path) -> AsyncIterator[Impostor]:
    """Yield one that serves HTTPS with a certificate of its own."""
    impostor = Impostor()

    async def answer(request: web.Request) -> web.Response:
        impostor.seen.append(await request.text())
        return web.json_response(await impostor.answer(request) if impostor.answer else {})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    folder = tmp_path / "impostor"
    folder.mkdir()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*write_pair(folder))
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    impostor.port = runner.addresses[0][1]
    try:
        yield impostor
    finally:
        await runner.cleanup()


async def test_a_relay_gets_no_token(pair: Pair, impostor: Impostor) -> None:
    """Who passes on what the proxy signs, for the very nonce, still shows another HTTPS certificate than it says."""
    created = await pair.token()

    async def relay(request: web.Request) -> object:
        async with pair.root.http() as http, http.get(f"/webapi/trust?{request.query_string}") as response:
            return await response.json()

    impostor.answer = relay
    proxy = {"webAddr": f"127.0.0.1:{impostor.port}", "tunnelAddr": "127.0.0.1:3024"}
    await pair.declare({"token": created.entry.token, "caPin": created.ca_pin}, proxy=proxy)
    standing = await pair.standing("PinMismatch")
    assert "another HTTPS certificate than its own was shown; the token was not sent" in standing.message
    assert impostor.seen
    assert not any(created.entry.token in body for body in impostor.seen)


async def test_an_old_answer_proves_nothing(pair: Pair, impostor: Impostor) -> None:
    """What the proxy signed for another nonce is refused."""
    async with pair.root.http() as http, http.get(f"/webapi/trust?nonce={'0' * 32}") as response:
        old = await response.json()

    async def replay(_: web.Request) -> object:
        return old

    impostor.answer = replay
    created = await pair.token()
    proxy = {"webAddr": f"127.0.0.1:{impostor.port}", "tunnelAddr": "127.0.0.1:3024"}
    await pair.declare({"token": created.entry.token, "caPin": created.ca_pin}, proxy=proxy)
    assert "the signature does not fit" in (await pair.standing("PinMismatch")).message
    assert not any(created.entry.token in body for body in impostor.seen)


@pytest.mark.parametrize(
    "told",
    [{}, [], {"cluster": "main"}, {"cluster": "main", "tls": "zz", "certificate": "", "signature": ""}],
)
async def test_what_is_no_proxy_is_told_so(pair: Pair, impostor: Impostor, told: object) -> None:
    """Whatever it answers: the address is named, and no token was sent."""

    async def answer(_: web.Request) -> object:
        return told

    impostor.answer = answer
    proxy = {"webAddr": f"127.0.0.1:{impostor.port}", "tunnelAddr": "127.0.0.1:3024"}
    await pair.declare({"token": "f" * 32, "caPin": pair.pin()}, proxy=proxy)
    standing = await pair.standing("Unreachable")
    assert f"127.0.0.1:{impostor.port} is not the HTTPS address of a Teleport proxy" in standing.message
    assert not any("f" * 32 in body for body in impostor.seen)
