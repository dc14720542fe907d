"""Typed calls: over a stream in memory, to servers that come and go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from runtime.api import messages as m
from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.session import Session
from runtime.auth.dispatch import Dispatcher, EmitPiece
from runtime.core.callers import Caller, CallerKind
from runtime.core.errors import AccessDenied, InvalidInput, NotFound, TeleportError, Unavailable
from tests.servers.pipe import Pipe

PONG = m.Pong(cluster="main", version="1", time=datetime(2026, 1, 1, tzinfo=UTC), second_factor="otp")


class Servers:
    """Auth servers in memory by name; `refused` tells which calls were refused to whom."""

    def __init__(self, kind: CallerKind) -> None:
        self.refused: list[str] = []
        self.up = {"one:3025": True, "two:3025": True}
        self.open: dict[str, Pipe] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.dispatcher = Dispatcher(self._refused)
        self.caller = Caller(kind, "me", "127.0.0.1")

    async def _refused(self, caller: Caller, method: str) -> None:
        self.refused.append(f"{caller} {method}")

    async def dial(self, server: str) -> Pipe:
        """Open a stream to a server that is up."""
        if not self.up[server]:
            raise Unavailable(f"{server} refused the connection")
        ours, theirs = Pipe.pair()
        self.open[server] = ours
        self.tasks.append(asyncio.create_task(Session(theirs, self.dispatcher.serve(self.caller)).run()))
        return ours

    async def stop(self, server: str) -> None:
        """Lose a server."""
        self.up[server] = False
        await self.open[server].close()


@asynccontextmanager
async def client_of(servers: Servers) -> AsyncIterator[AuthClient]:
    """Yield a client of these servers."""
    client = AuthClient(servers.dial, lambda: list(servers.up), rng=random.Random(1))
    try:
        yield client
    finally:
        await client.close()
        await asyncio.gather(*servers.tasks)


async def ping(client: AuthClient) -> m.Pong:
    """Call ping, once more if the call itself is what notices the loss of a server."""
    try:
        return await client.call(methods.PING, m.Nothing())
    except Unavailable as error:
        if "lost the connection" not in str(error):
            raise
        return await client.call(methods.PING, m.Nothing())


async def pong(caller: Caller, params: m.Nothing) -> m.Pong:
    """Serve ping."""
    return PONG


async def test_a_call_is_typed_on_both_sides() -> None:
    """A message goes in, a message comes out."""
    servers = Servers(CallerKind.NODE)
    servers.dispatcher.on(methods.PING, pong)
    async with client_of(servers) as client:
        assert await client.call(methods.PING, m.Nothing()) == m.Pong(
            cluster="main", version="1", time=NOW, second_factor="otp"
        )


async def test_a_secret_arrives_and_shows_nowhere() -> None:
    """What the wire must carry, repr and str do not show."""
    servers = Servers(CallerKind.ADMIN)
    seen: list[str] = []

    async def delete(caller: Caller, params: m.TokenValue) -> m.Nothing:
        seen.append(params.token.get_secret_value())
        return m.Nothing()

    servers.dispatcher.on(methods.TOKENS_DELETE, delete)
    request = m.TokenValue(token=SecretStr("hunter2"))
    assert "hunter2" not in repr(request) + str(request)
    async with client_of(servers) as client:
        await client.call(methods.TOKENS_DELETE, request)
    assert seen == ["hunter2"]


async def test_the_table_refuses_a_caller_of_another_kind_and_tells() -> None:
    """A node may not add users; that it tried is told to audit."""
    servers = Servers(CallerKind.NODE)

    async def create(caller: Caller, params: m.UserRequest) -> m.Invite:
        raise AssertionError("must not be reached")

    servers.dispatcher.on(methods.USERS_CREATE, create)
    async with client_of(servers) as client:
        with pytest.raises(AccessDenied, match=r"node may not call users\.create"):
            await client.call(methods.USERS_CREATE, m.UserRequest(name="eve"))
    assert servers.refused == ["node me at 127.0.0.1 users.create"]


async def test_a_method_that_nobody_serves_is_not_found() -> None:
    """An older auth server says that it does not know the method."""
    servers = Servers(CallerKind.ADMIN)
    async with client_of(servers) as client:
        with pytest.raises(NotFound, match=r"users\.list"):
            await client.call(methods.USERS_LIST, m.Nothing())


async def test_wrong_params_are_named_without_their_value() -> None:
    """The field that is wrong is named; what was in it is not."""
    servers = Servers(CallerKind.ADMIN)
    servers.dispatcher.on(methods.PING, pong)
    serve = servers.dispatcher.serve(servers.caller)

    async def create(caller: Caller, params: m.TokenRequest) -> m.TokenCreated:
        raise AssertionError("must not be reached")

    async def emit(value: object) -> None:
        raise AssertionError("must not be reached")

    servers.dispatcher.on(methods.TOKENS_CREATE, create)
    with pytest.raises(InvalidInput, match=r"tokens\.create: .*roles") as caught:
        await serve("tokens.create", {"roles": ["s3cret"]}, emit)
    assert "s3cret" not in str(caught.value)


async def test_an_answer_of_another_shape_is_told_as_such() -> None:
    """A server of another version is named as the likely cause."""
    servers = Servers(CallerKind.ADMIN)
    servers.dispatcher.on(methods.PING, pong)
    servers.dispatcher.serve = lambda caller: _nonsense  # type: ignore[method-assign]  # a server that is not ours
    async with client_of(servers) as client:
        with pytest.raises(TeleportError, match="not a Pong"):
            await client.call(methods.PING, m.Nothing())


async def _nonsense(method: str, params: object, emit: object) -> int:
    return 7


async def test_the_next_server_is_used_when_one_is_lost() -> None:
    """A call after a loss goes to the server that is left; with none left it says whom it tried."""
    servers = Servers(CallerKind.NODE)
    servers.dispatcher.on(methods.PING, pong)
    async with client_of(servers) as client:
        for _ in range(2):
            await ping(client)
            (current,) = [server for server in servers.open if servers.up[server]]
            await servers.stop(current)
        with pytest.raises(Unavailable, match="none of 2 auth servers"):
            await ping(client)


async def test_without_servers_it_says_how_to_name_one() -> None:
    """An empty list is a mistake of configuration."""
    with pytest.raises(Unavailable, match="no auth server") as caught:
        await AuthClient(Servers(CallerKind.NODE).dial, list).call(methods.PING, m.Nothing())
    assert "--auth-server" in caught.value.hint


async def test_watching_goes_on_with_a_new_snapshot_after_a_loss() -> None:
    """The consumer of a watch sees a snapshot from each server it is moved to, and never an error."""
    servers = Servers(CallerKind.NODE)

    async def watch(caller: Caller, params: m.ResourceQuery, emit: EmitPiece) -> m.Nothing:
        await emit(m.ResourceEvent(snapshot=()))
        await emit(m.ResourceEvent(deleted=params.kind))
        await asyncio.Event().wait()
        return m.Nothing()

    servers.dispatcher.on_stream(methods.RESOURCES_WATCH, watch)
    async with client_of(servers) as client, asyncio.timeout(10), aclosing(client.watch("Role")) as events:
        assert (await anext(events)).snapshot == ()
        assert (await anext(events)).deleted == "Role"
        await servers.stop(next(iter(servers.open)))
        assert (await anext(events)).snapshot == ()
        assert len(servers.open) == 2


def test_every_method_says_who_may_use_it() -> None:
    """No method is open to nobody but those that a newcomer needs."""
    open_to_nobody = {name for name, method in methods.METHODS.items() if CallerKind.NOBODY in method.callers}
    assert open_to_nobody == {"ping", "authorities.list", "members.join"}
    assert all(method.callers for method in methods.METHODS.values())


async def test_a_method_cannot_be_served_twice() -> None:
    """A second handler would silently replace the first."""
    dispatcher = Servers(CallerKind.NODE).dispatcher
    dispatcher.on(methods.PING, pong)
    assert "ping" not in dispatcher.missing()
    with pytest.raises(ValueError, match="ping"):
        dispatcher.on(methods.PING, pong)
