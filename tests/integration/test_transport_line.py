"""Start-ups wait in line (docs/adr/0007): many who come at once, and those who come to keep others out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time

import pytest

from runtime.transport.limits import Limits, StartupLimits
from tests.servers.rawssh import DEADLINE, raw_client
from tests.servers.sshport import FORGIVING, Port, port, until

ONE_AT_A_TIME = Limits(penalties=FORGIVING, startups=StartupLimits(start=1, full=3, patience=60))


async def silent(stack: contextlib.AsyncExitStack, number: int, source: str = "127.0.0.1") -> asyncio.StreamReader:
    """Connect from an address of this machine and say nothing, until the stack ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", number, local_addr=(source, 0))
    stack.callback(writer.close)
    return reader


async def log_in(server: Port) -> None:
    """Log in properly, open a channel, and leave."""
    async with raw_client(server.number) as client:
        assert await client.log_in("joe", server.users.issue(["joe"]))
        assert await client.open_channel() is not None


async def test_beyond_start_a_connection_waits_and_is_not_read() -> None:
    """It gets no byte and is not built; when the one before it has logged in, it is served as if it had just come."""
    async with port(ONE_AT_A_TIME) as server, contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(raw_client(server.number))
        second = asyncio.ensure_future(log_in(server))
        stack.callback(second.cancel)
        await until(lambda: server.listener.admission.waiting == 1, "the second waits")
        assert len(server.listener._connections) == 1
        assert not second.done()
        assert await first.log_in("joe", server.users.issue(["joe"]))
        await second
        assert server.refusals == []


async def test_a_full_line_refuses_the_next() -> None:
    """Beyond `full` a connection is closed at once and without a byte, and that is reported."""
    async with port(ONE_AT_A_TIME) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await silent(stack, server.number)
        await until(lambda: server.listener.admission.waiting == 2, "two wait")
        refused = await silent(stack, server.number)
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionError):
                assert await refused.read() == b""
        assert server.reasons == "3 connections have not logged in yet"


async def test_who_gave_up_in_line_takes_no_turn() -> None:
    """A peer that has closed its connection while it waited does not keep the next one waiting."""
    async with port(ONE_AT_A_TIME) as server:
        async with raw_client(server.number), contextlib.AsyncExitStack() as impatient:
            await silent(impatient, server.number)
            await until(lambda: server.listener.admission.waiting == 1, "one waits")
            await impatient.aclose()
        async with asyncio.timeout(DEADLINE):
            await log_in(server)
        await until(lambda: server.listener.admission.connections == 0, "all have left")


async def test_silent_connections_do_not_keep_others_out() -> None:
    """One address holds every place and the whole line: a login from another takes as long as a silent one is borne."""
    patience = 0.5
    limits = dataclasses.replace(
        ONE_AT_A_TIME, startups=StartupLimits(start=3, full=20, patience=patience), login_grace=60
    )
    async with port(limits) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            await silent(stack, server.number, "127.0.0.2")
        await until(lambda: server.listener.admission.waiting == 17, "the line is full")
        start = time.monotonic()
        await log_in(server)
        taken = time.monotonic() - start
        assert taken < 10 * patience
        assert "while others wait in line" in server.reasons
        assert {peer.host for peer, _ in server.refusals} == {"127.0.0.2"}


async def test_closing_the_listener_ends_the_line() -> None:
    """At the end nobody is left waiting."""
    async with contextlib.AsyncExitStack() as stack:
        running = await stack.enter_async_context(contextlib.AsyncExitStack())
        server = await running.enter_async_context(port(ONE_AT_A_TIME))
        readers = [await silent(stack, server.number) for _ in range(2)]
        await until(lambda: server.listener.admission.waiting == 1, "one waits")
        await running.aclose()
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionError):
                assert await readers[1].read() == b""
        assert server.listener.admission.waiting == 0


@pytest.mark.timeout(600)
async def test_three_hundred_at_once_with_the_defaults() -> None:
    """All of them log in, from one address, and none is refused."""
    async with port(Limits()) as server:
        await asyncio.gather(*(log_in(server) for _ in range(300)))
        assert len(server.proved) == 300
        assert server.refusals == []
