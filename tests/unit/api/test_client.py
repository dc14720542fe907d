"""Typed calls: over a stream in memory, to servers that come and go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from runtime.api import client as client_module
from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.cluster_messages import Pong
from runtime.api.messages import Nothing
from runtime.api.people_messages import Invite, UserRequest
from runtime.api.pipe import Pipe
from runtime.api.resource_messages import ResourceEvent, ResourceQuery
from runtime.api.session import Session
from runtime.api.token_messages import TokenCreated, TokenRequest, TokenValue
from runtime.api.wire import MAX_PENDING, Connection, Request
from runtime.auth.dispatch import Dispatcher, EmitPiece
from runtime.core.callers import Caller, CallerKind
from runtime.core.errors import AccessDenied, InvalidInput, NotFound, TeleportError, Unavailable

PONG = Pong(cluster="main", version="1", time=datetime(2026, 1, 1, tzinfo=UTC), second_factor="otp")


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


async def ping(client: AuthClient) -> Pong:
    """Call ping, once more if the call itself is what notices the loss of a server."""
    try:
        return await client.call(methods.PING, Nothing())
    except Unavailable as error:
        if "lost the connection" not in str(error):
            raise
        return await client.call(methods.PING, Nothing())


async def pong(caller: Caller, params: Nothing) -> Pong:
    """Serve ping."""
    return PONG


async def test_a_call_is_typed_on_both_sides() -> None:
    """A message goes in, a message comes out."""
    servers = Servers(CallerKind.NODE)
    servers.dispatcher.on(methods.PING, pong)
    async with client_of(servers) as client:
        assert await client.call(methods.PING, Nothing()) == PONG


async def test_a_secret_arrives_and_shows_nowhere() -> None:
    """What the wire must carry, repr and str do not show."""
    servers = Servers(CallerKind.ADMIN)
    seen: list[str] = []

    async def delete(caller: Caller, params: TokenValue) -> Nothing:
        seen.append(params.token.get_secret_value())
        return Nothing()

    servers.dispatcher.on(methods.TOKENS_DELETE, delete)
    request = TokenValue(token=SecretStr("hunter2"))
    assert "hunter2" not in repr(request) + str(request)
    async with client_of(servers) as client:
        await client.call(methods.TOKENS_DELETE, request)
    assert seen == ["hunter2"]


async def test_the_table_refuses_a_caller_of_another_kind_and_tells() -> None:
    """A node may not add users; that it tried is told to audit."""
    servers = Servers(CallerKind.NODE)

    async def create(caller: Caller, params: UserRequest) -> Invite:
        raise AssertionError("must not be reached")

    servers.dispatcher.on(methods.USERS_CREATE, create)
    async with client_of(servers) as client:
        with pytest.raises(AccessDenied, match=r"node may not call users\.create"):
            await client.call(methods.USERS_CREATE, UserRequest(name="eve"))
    assert servers.refused == ["node me at 127.0.0.1 users.create"]


async def test_a_method_that_nobody_serves_is_not_found() -> None:
    """An older auth server says that it does not know the method."""
    servers = Servers(CallerKind.ADMIN)
    async with client_of(servers) as client:
        with pytest.raises(NotFound, match=r"users\.list"):
            await client.call(methods.USERS_LIST, Nothing())


async def test_wrong_params_are_named_without_their_value() -> None:
    """The field that is wrong is named; what was in it is not."""
    servers = Servers(CallerKind.ADMIN)
    servers.dispatcher.on(methods.PING, pong)
    serve = servers.dispatcher.serve(servers.caller)

    async def create(caller: Caller, params: TokenRequest) -> TokenCreated:
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
            await client.call(methods.PING, Nothing())


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
        await AuthClient(Servers(CallerKind.NODE).dial, list).call(methods.PING, Nothing())
    assert "--auth-server" in caught.value.hint


async def test_watching_goes_on_with_a_new_snapshot_after_a_loss() -> None:
    """The consumer of a watch sees a snapshot from each server it is moved to, and never an error."""
    servers = Servers(CallerKind.NODE)

    async def watch(caller: Caller, params: ResourceQuery, emit: EmitPiece) -> Nothing:
        await emit(ResourceEvent(snapshot=()))
        await emit(ResourceEvent(deleted=params.kind))
        await asyncio.Event().wait()
        return Nothing()

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
    assert open_to_nobody == {"ping", "authorities.list", "authorities.prove", "members.join"}
    assert all(method.callers for method in methods.METHODS.values())


async def test_a_method_cannot_be_served_twice() -> None:
    """A second handler would silently replace the first."""
    dispatcher = Servers(CallerKind.NODE).dispatcher
    dispatcher.on(methods.PING, pong)
    assert "ping" not in dispatcher.missing()
    with pytest.raises(ValueError, match="ping"):
        dispatcher.on(methods.PING, pong)


class Peer:
    """The far end of a dialled stream, played by the test: it reads requests and answers those that it likes."""

    def __init__(self) -> None:
        self.ours, self.theirs = Pipe.pair()
        self._wire = Connection()

    async def request(self) -> Request:
        """Return the next request."""
        while True:
            for message in self._wire.receive(await self.theirs.read()):
                if isinstance(message, Request):
                    return message

    async def answer(self, request: Request) -> None:
        """Answer it with a pong."""
        await self.theirs.write(self._wire.reply(request.id, PONG.model_dump(mode="json")))

    async def answer_all(self) -> None:
        """Answer everything with a pong until cancelled."""
        while True:
            await self.answer(await self.request())


class Dials:
    """Ways to servers, opened when the test says so; `asked` are those that were dialled, in order."""

    def __init__(self, *servers: str) -> None:
        self.peers = {server: Peer() for server in servers}
        self.open = {server: asyncio.Event() for server in servers}
        self.errors: dict[str, TeleportError] = {}
        self.asked: list[str] = []
        self.dialled = asyncio.Event()

    async def dial(self, server: str) -> Pipe:
        """Wait until the server is open, then fail with its error or give its stream."""
        self.asked.append(server)
        self.dialled.set()
        await self.open[server].wait()
        if server in self.errors:
            raise self.errors[server]
        return self.peers[server].ours

    def client(self) -> AuthClient:
        """Return a client that prefers the servers in the order given."""
        return AuthClient(self.dial, lambda: list(self.peers))


async def test_a_server_that_is_silent_while_a_call_waits_is_given_up() -> None:
    """What else waits for it ends at once, and the next call goes to the next server."""
    dials = Dials("one:3025", "two:3025")
    for opened in dials.open.values():
        opened.set()
    client = dials.client()
    patient = asyncio.create_task(client.call(methods.PING, Nothing(), timeout=1000))
    await dials.peers["one:3025"].request()
    with pytest.raises(Unavailable, match=r"one:3025 did not answer ping within 0\.2 s"):
        await client.call(methods.PING, Nothing(), timeout=0.2)
    with pytest.raises(Unavailable, match="lost the connection"):
        await asyncio.wait_for(patient, 10)
    answering = asyncio.create_task(dials.peers["two:3025"].answer_all())
    assert await client.call(methods.PING, Nothing()) == PONG
    assert (client.server, dials.asked) == ("two:3025", ["one:3025", "two:3025"])
    await client.close()
    answering.cancel()


async def test_a_server_that_is_slow_in_one_thing_is_kept() -> None:
    """One call times out while others are answered: the conversation goes on, and nothing else is lost."""
    dials = Dials("one:3025", "two:3025")
    dials.open["one:3025"].set()
    client, peer = dials.client(), dials.peers["one:3025"]
    slow = asyncio.create_task(client.call(methods.PING, Nothing(), timeout=0.2))
    await peer.request()
    quick = asyncio.create_task(client.call(methods.PING, Nothing()))
    await peer.answer(await peer.request())
    assert await quick == PONG
    with pytest.raises(Unavailable, match="did not answer"):
        await slow
    assert (client.server, dials.asked) == ("one:3025", ["one:3025"])
    await client.close()


async def test_a_server_that_lets_nobody_in_does_not_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is asked after a head start; the first, when it comes round after all, is hung up on politely."""
    monkeypatch.setattr(client_module, "HEAD_START_SECONDS", 0.05)
    dials = Dials("one:3025", "two:3025")
    dials.open["two:3025"].set()
    client = dials.client()
    answering = asyncio.create_task(dials.peers["two:3025"].answer_all())
    assert await asyncio.wait_for(client.call(methods.PING, Nothing()), 10) == PONG
    assert (client.server, dials.asked) == ("two:3025", ["one:3025", "two:3025"])
    dials.open["one:3025"].set()
    assert await asyncio.wait_for(dials.peers["one:3025"].theirs.read(), 10) == b""
    assert client.server == "two:3025"
    await client.close()
    answering.cancel()


async def test_a_server_that_refuses_us_does_not_keep_us_from_another() -> None:
    """An old address may be another cluster's by now. If nobody else is left, the refusal is the error."""
    dials = Dials("one:3025", "two:3025")
    for opened in dials.open.values():
        opened.set()
    dials.errors["one:3025"] = AccessDenied("one:3025 cannot prove that it is auth")
    client = dials.client()
    answering = asyncio.create_task(dials.peers["two:3025"].answer_all())
    assert await client.call(methods.PING, Nothing()) == PONG
    answering.cancel()
    await dials.peers["two:3025"].theirs.close()
    dials.errors["two:3025"] = Unavailable("two:3025 refused the connection")
    async with asyncio.timeout(10):
        while client.server is not None:  # noqa: ASYNC110 - the end of a conversation is no event of the client
            await asyncio.sleep(0)
    with pytest.raises(AccessDenied, match="cannot prove"):
        await client.call(methods.PING, Nothing())
    await client.close()


async def test_a_server_that_failed_is_asked_last() -> None:
    """After a loss the others come first, whatever the order given; and later the one that failed is asked again."""
    dials = Dials("one:3025", "two:3025")
    for opened in dials.open.values():
        opened.set()
    client = dials.client()
    first = asyncio.create_task(client.call(methods.PING, Nothing()))
    await dials.peers["one:3025"].request()
    await dials.peers["one:3025"].theirs.close()
    with pytest.raises(Unavailable, match="lost the connection"):
        await first
    dials.errors["two:3025"] = Unavailable("two:3025 refused the connection")
    dials.peers["one:3025"] = Peer()
    answering = asyncio.create_task(dials.peers["one:3025"].answer_all())
    assert await client.call(methods.PING, Nothing()) == PONG
    assert dials.asked == ["one:3025", "two:3025", "one:3025"]
    await client.close()
    answering.cancel()


async def test_a_call_s_time_covers_the_dialling() -> None:
    """Nobody waits longer than asked for, and who gives up does not take the way to auth from the others."""
    dials = Dials("one:3025")
    client = dials.client()
    patient = asyncio.create_task(client.call(methods.PING, Nothing()))
    with pytest.raises(Unavailable, match=r"no auth server let us in within 0\.05 s") as caught:
        await client.call(methods.PING, Nothing(), timeout=0.05)
    assert "3025" in caught.value.hint
    answering = asyncio.create_task(dials.peers["one:3025"].answer_all())
    dials.open["one:3025"].set()
    assert await asyncio.wait_for(patient, 10) == PONG
    assert dials.asked == ["one:3025"]
    await client.close()
    answering.cancel()


async def test_closing_ends_a_dial_that_hangs() -> None:
    """Close returns though a server never answers, and who waited is told."""
    dials = Dials("one:3025")
    client = dials.client()
    waiting = asyncio.create_task(client.call(methods.PING, Nothing()))
    async with asyncio.timeout(10):
        await dials.dialled.wait()
        await client.close()
        with pytest.raises(Unavailable, match="closed"):
            await waiting


async def test_watchers_that_lose_auth_come_back_spread_out() -> None:
    """Each pause is a random part of a bound of 1, 2, 4 and then 5 seconds."""
    asked: list[tuple[float, float]] = []
    enough = asyncio.Event()

    class Bounds(random.Random):
        def uniform(self, a: float, b: float) -> float:
            asked.append((a, b))
            if len(asked) == 6:
                enough.set()
            return 0.0

    servers = Servers(CallerKind.NODE)
    servers.up = dict.fromkeys(servers.up, False)
    client = AuthClient(servers.dial, lambda: list(servers.up), rng=Bounds())
    async with aclosing(client.watch("Role")) as events:
        watching = asyncio.create_task(anext(events))
        await asyncio.wait_for(enough.wait(), 10)
        watching.cancel()
        await asyncio.wait([watching])
    assert asked[:6] == [(0, 1), (0, 2), (0, 4), (0, 5), (0, 5), (0, 5)]
    await client.close()


async def test_hundreds_of_calls_at_once_are_within_what_a_server_takes() -> None:
    """A crowd at one proxy waits its turn: a server would end a conversation with more requests open than it allows."""
    servers = Servers(CallerKind.NODE)
    served = 0

    async def slow_pong(caller: Caller, params: Nothing) -> Pong:
        nonlocal served
        served += 1
        await asyncio.sleep(0)
        return PONG

    servers.dispatcher.on(methods.PING, slow_pong)
    async with client_of(servers) as client:
        answers = await asyncio.gather(*(client.call(methods.PING, Nothing()) for _ in range(3 * MAX_PENDING)))
    assert answers == [PONG] * served == [PONG] * 3 * MAX_PENDING


async def test_a_retired_conversation_ends_once_its_calls_are_answered() -> None:
    """What is asked afterwards goes by a new one, with who we are now; nothing that was asked is lost."""
    servers = Servers(CallerKind.NODE)
    servers.up = {"one:3025": True}
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(caller: Caller, params: Nothing) -> Pong:
        if not asked.is_set():
            asked.set()
            await answer.wait()
        return PONG

    servers.dispatcher.on(methods.PING, slow)
    async with client_of(servers) as client:
        first = asyncio.create_task(client.call(methods.PING, Nothing()))
        await asked.wait()
        old = servers.tasks[0]
        client.retire()
        assert client.server is None
        assert await client.call(methods.PING, Nothing()) == PONG
        assert len(servers.tasks) == 2
        assert not old.done()
        answer.set()
        assert await first == PONG
        async with asyncio.timeout(30):
            await old
        assert client.server == "one:3025"


async def test_what_is_followed_is_begun_anew_after_retiring(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch goes on in a new conversation, and its server counts as none that has failed."""
    monkeypatch.setattr(client_module, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(client_module, "MAX_PAUSE_SECONDS", 0.0)
    servers = Servers(CallerKind.NODE)
    turn = 0

    async def watch(caller: Caller, params: ResourceQuery, emit: EmitPiece) -> Nothing:
        nonlocal turn
        turn += 1
        await emit(ResourceEvent(deleted=f"turn {turn}"))
        await asyncio.Event().wait()
        return Nothing()

    servers.dispatcher.on_stream(methods.RESOURCES_WATCH, watch)
    async with client_of(servers) as client, aclosing(client.watch("User")) as events:
        assert (await anext(events)).deleted == "turn 1"
        client.retire()
        client.retire()  # with no conversation there is nothing to do
        async with asyncio.timeout(30):
            assert (await anext(events)).deleted == "turn 2"
        assert client._in_turn() == list(servers.up)
