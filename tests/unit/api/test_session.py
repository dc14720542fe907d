"""Conversations over a stream in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from runtime.api.pipe import Pipe
from runtime.api.session import Emit, Serve, Session, refuse
from runtime.api.wire import Json
from runtime.core.errors import AccessDenied, TeleportError, Unavailable


@asynccontextmanager
async def conversation(serve: Serve) -> AsyncIterator[tuple[Session, Pipe]]:
    """Yield a session that asks one which serves, and the asker's end of the pipe."""
    left, right = Pipe.pair()
    asker, answerer = Session(left, peer="auth"), Session(right, serve)
    async with asyncio.TaskGroup() as group:
        group.create_task(asker.run())
        group.create_task(answerer.run())
        yield asker, left
        await left.close()


async def echo(method: str, params: dict[str, Json], emit: Emit) -> Json:
    """Serve methods that show what a handler can do."""
    match method:
        case "echo":
            return params
        case "count":
            for number in range(3):
                await emit(number)
            return "end"
        case "deny":
            raise AccessDenied("not you", hint="Ask an administrator.")
        case "bug":
            raise ZeroDivisionError("secret detail")
    await asyncio.Event().wait()
    return None


async def test_calls_answer_side_by_side() -> None:
    """A call that never ends does not hold up the next."""
    async with conversation(echo) as (session, _):
        forever = asyncio.create_task(session.call("forever", {}))
        assert await session.call("echo", {"a": "ü"}) == {"a": "ü"}
        assert not forever.done()
        forever.cancel()


async def test_a_streamed_answer_yields_its_pieces() -> None:
    """Pieces arrive in order, and the reply ends them."""
    async with conversation(echo) as (session, _):
        assert [piece async for piece in session.stream("count", {})] == [0, 1, 2]


async def test_a_call_gives_the_result_alone() -> None:
    """Who calls a method that streams gets its result."""
    async with conversation(echo) as (session, _):
        assert await session.call("count", {}) == "end"


async def test_an_error_arrives_as_it_was_raised() -> None:
    """Kind, message and hint of an error on purpose cross the wire."""
    async with conversation(echo) as (session, _):
        with pytest.raises(AccessDenied, match="not you") as caught:
            await session.call("deny", {})
        assert caught.value.hint == "Ask an administrator."


async def test_a_bug_does_not_tell_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """What was not raised on purpose is logged here and is 'internal error' over there."""
    async with conversation(echo) as (session, _):
        with pytest.raises(TeleportError) as caught:
            await session.call("bug", {})
    assert "secret" not in str(caught.value)
    assert "secret detail" in caplog.text


async def test_a_silent_peer_times_out_and_the_conversation_goes_on() -> None:
    """A call without an answer ends as Unavailable; the next call works."""
    async with conversation(echo) as (session, _):
        with pytest.raises(Unavailable, match="auth did not answer forever"):
            await session.call("forever", {}, timeout=0.01)
        assert await session.call("echo", {}) == {}


async def test_giving_up_cancels_the_handler() -> None:
    """A closed stream ends the work on the other side."""
    cancelled = asyncio.Event()

    async def serve(method: str, params: dict[str, Json], emit: Emit) -> Json:
        try:
            await emit(1)
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return None

    async with conversation(serve) as (session, _):
        async with aclosing(session.stream("watch", {})) as answers:
            assert await anext(answers) == 1
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_lost_connection_fails_what_is_open_and_what_comes() -> None:
    """Nobody waits for an answer that cannot come."""
    async with conversation(echo) as (session, pipe):
        open_call = asyncio.create_task(session.call("forever", {}))
        await session.call("echo", {})
        await pipe.close()
        with pytest.raises(Unavailable, match="lost the connection to auth"):
            await open_call
        with pytest.raises(Unavailable):
            await session.call("echo", {})


async def test_a_peer_that_breaks_the_protocol_is_dropped() -> None:
    """Garbage ends the conversation instead of being guessed at."""
    left, right = Pipe.pair()
    task = asyncio.create_task(Session(right, echo).run())
    await left.write(b"garbage\n")
    await asyncio.wait_for(task, 5)
    assert await left.read() == b""


async def test_a_reader_that_falls_behind_is_told_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A streamed answer that is not read ends as Unavailable; it neither grows without bound nor blocks other calls."""
    monkeypatch.setattr("runtime.api.session.MAX_UNREAD_PIECES", 2)
    async with conversation(echo) as (session, _):
        with pytest.raises(Unavailable, match="fell 2 messages behind auth"):
            _ = [piece async for piece in session.stream("count", {})]
        assert await session.call("echo", {}) == {}


async def test_an_end_that_only_asks_refuses_requests() -> None:
    """The default serves nothing."""
    with pytest.raises(TeleportError, match="serves no methods"):
        await refuse("m", {}, _ignore)


async def _ignore(value: Json) -> None:
    raise AssertionError("nothing is emitted")
