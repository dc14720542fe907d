"""How often and how many: finding A8 of docs/adr/0005, sshd's limits at our SSH ports."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_USERAUTH_FAILURE
from asyncssh.packet import UInt32

from runtime.core.clock import ManualClock
from runtime.core.errors import InvalidInput, Unavailable
from runtime.transport.limits import Limits, PenaltyLimits, StartupLimits
from runtime.transport.server import Handler, listen
from tests.servers.rawssh import DEADLINE, raw_client
from tests.servers.sshca import Authority
from tests.servers.sshport import FORGIVING, Port, port, stock_port, until

LIMITS = Limits(penalties=FORGIVING)


async def first_bytes(number: int) -> bytes:
    """Connect with TCP and return what comes first; nothing when the connection is closed at once."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        try:
            async with asyncio.timeout(DEADLINE):
                return await reader.read(4)
        finally:
            writer.close()
    except ConnectionError:
        return b""


async def test_six_tries_and_no_more() -> None:
    """The sixth failure ends the connection; asking for `none` first is not counted."""
    async with port() as server, raw_client(server.number) as client:
        client.request("joe", "none")
        await client.expect(MSG_USERAUTH_FAILURE)
        for _ in range(5):
            client.query("joe", Authority().issue(["joe"]).blob)
            await client.expect(MSG_USERAUTH_FAILURE)
        client.query("joe", Authority().issue(["joe"]).blob)
        assert await client.ended() == "Too many authentication failures"
        assert server.reasons.count("not trusted") == 6
        assert server.refusals[-1][1] == "Too many authentication failures"


async def test_the_sixth_try_may_succeed() -> None:
    """After five failures the right certificate still gets in."""
    async with port() as server, raw_client(server.number) as client:
        for _ in range(5):
            client.query("joe", Authority().issue(["joe"]).blob)
            await client.expect(MSG_USERAUTH_FAILURE)
        assert await client.log_in("joe", server.users.issue(["joe"]))


async def test_control_asyncssh_alone_counts_no_tries() -> None:
    """Control: without us, a hundred failures do not end the connection."""
    async with stock_port(Authority()) as (number, _), raw_client(number) as client:
        for _ in range(100):
            client.query("joe", Authority().issue(["joe"]).blob)
            await client.expect(MSG_USERAUTH_FAILURE)


async def test_ten_sessions_a_connection() -> None:
    """The eleventh session is refused, the ten go on, and when one is closed there is room for another."""
    async with port() as server, raw_client(server.number) as client:
        assert await client.log_in("joe", server.users.issue(["joe"]))
        channels = [await client.open_channel(number=number) for number in range(10)]
        assert None not in channels
        assert await client.open_channel(number=10) is None
        assert server.reasons == "10 sessions are open on this connection"
        assert len(server.sessions) == 10
        client.send_packet(MSG_CHANNEL_CLOSE, UInt32(channels[3] or 0))
        await client.expect(MSG_CHANNEL_CLOSE)
        assert await client.open_channel(number=11) is not None


async def test_channels_of_all_kinds_are_bounded() -> None:
    """Beside sessions, all channels of a connection have a limit."""
    async with port(dataclasses.replace(LIMITS, channels=2)) as server, raw_client(server.number) as client:
        assert await client.log_in("joe", server.users.issue(["joe"]))
        assert [await client.open_channel(number=number) is not None for number in range(3)] == [True, True, False]


async def test_login_grace() -> None:
    """Who does not log in in time is dropped, and reported."""
    async with port(dataclasses.replace(LIMITS, login_grace=0.3)) as server, raw_client(server.number) as client:
        await client.ended()
        assert server.reasons == "no login within 0.3 s"
        assert server.listener.admission.connections == 0


async def test_login_ends_the_grace() -> None:
    """Who is logged in stays beyond the login grace."""
    async with port(dataclasses.replace(LIMITS, login_grace=1)) as server, raw_client(server.number) as client:
        assert await client.log_in("joe", server.users.issue(["joe"]))
        connection = next(iter(server.listener._connections))
        assert connection._login_timer is None
        assert await client.open_channel() is not None


async def test_max_connections() -> None:
    """At `max_connections` a further one is dropped, also when the others are logged in."""
    async with port(dataclasses.replace(LIMITS, max_connections=1)) as server:
        async with raw_client(server.number) as client:
            assert await client.log_in("joe", server.users.issue(["joe"]))
            assert await first_bytes(server.number) == b""
            assert "max_connections (1) reached" in server.reasons
        await until(lambda: server.listener.admission.connections == 0, "the first has left")
        assert await first_bytes(server.number) == b"SSH-"


async def test_max_users() -> None:
    """`max_users` counts people, by key id: one of them may connect twice, another one may not connect."""
    async with port(dataclasses.replace(LIMITS, max_users=1)) as server, raw_client(server.number) as first:
        assert await first.log_in("joe", server.users.issue(["joe"], key_id="joe"))
        async with raw_client(server.number) as again:
            assert await again.log_in("joe", server.users.issue(["joe"], key_id="joe"))
            assert await again.open_channel() is not None
        async with raw_client(server.number) as other:
            other.prove("joe", server.users.issue(["joe"], key_id="ann"))
            assert "max_users (1)" in await other.ended()
        assert {proved.parsed.key_id for proved in server.proved} == {b"joe"}
        assert len(server.refusals) == 1


async def test_penalties_refuse_a_source_for_a_while() -> None:
    """Three connections with failed logins are penalised by 15 s, in which the source is not let in; then it is."""
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    async with port(Limits(), clock=clock) as server:
        for _ in range(3):
            async with raw_client(server.number) as client:
                assert not await client.log_in("joe", Authority().issue(["joe"]))
            await until(lambda: server.listener.admission.connections == 0, "it has left")
        assert await first_bytes(server.number) == b""
        assert server.refusals[-1][1] == "the source address is penalised for another 15 s"
        clock.advance(timedelta(seconds=15))
        async with raw_client(server.number) as client:
            assert await client.log_in("joe", server.users.issue(["joe"]))


async def test_a_protocol_violation_is_penalised_and_a_login_is_not() -> None:
    """One violation is enough for 90 s, even after a login; any number of good logins costs nothing."""
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    async with port(Limits(), clock=clock) as server:
        for _ in range(4):
            async with raw_client(server.number) as client:
                assert await client.log_in("joe", server.users.issue(["joe"]))
        async with raw_client(server.number) as client:
            assert await client.log_in("joe", server.users.issue(["joe"]))
            client.ask_channel(packet=1)
            await client.ended()
        await until(lambda: server.listener.admission.connections == 0, "all have left")
        assert await first_bytes(server.number) == b""
        assert server.refusals[-1][1] == "the source address is penalised for another 90 s"


async def test_connections_are_counted_back_to_none() -> None:
    """However a connection ends, it is counted no longer, and its handler is told exactly once."""
    async with port() as server:
        async with raw_client(server.number) as client:
            assert await client.log_in("joe", server.users.issue(["joe"]))
            assert server.listener.admission.connections == 1
        async with raw_client(server.number):
            pass
        assert await first_bytes(server.number) == b"SSH-"
        await until(lambda: server.listener.admission.connections == 0, "all have left")
        assert server.listener.admission.starting == 0
        assert server.closed == 1


@pytest.mark.parametrize("where", ["validate", "handler"])
async def test_a_fault_of_the_service_ends_the_connection_and_is_logged(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in the service's own code lets nobody in, and its trace is in the log."""

    def broken(*_: object) -> Handler:
        raise RuntimeError("a fault of ours")

    settings = {where: broken}
    async with port(**settings) as server, raw_client(server.number) as client:  # type: ignore[arg-type]  # one of two
        client.prove("joe", server.users.issue(["joe"]))
        await client.ended()
        assert server.sessions == []
    assert "a fault of ours" in caplog.text


async def test_closing_the_listener_ends_its_connections() -> None:
    """At the end of `async with` nobody is connected any more and the port is free."""
    async with contextlib.AsyncExitStack() as running:
        server = await running.enter_async_context(port())
        number = server.number
        async with raw_client(number) as client:
            await running.aclose()
            await client.ended()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", number)


async def test_a_port_in_use_is_a_clear_error() -> None:
    """The error names address and port, and what to look at."""
    async with port() as server:
        host = server.hosts.host("server.example")
        with pytest.raises(Unavailable, match=f"port {server.number}") as caught:
            await listen(
                lambda _proved, _connection: Handler(),
                address="127.0.0.1",
                port=server.number,
                host_key=host.key,
                host_certificate=host.certificate,
                validate=Port().validate,
            )
        assert "another process" in caught.value.hint


@pytest.mark.parametrize("case", ["no key", "no certificate", "of another key"])
async def test_a_host_key_that_cannot_be_used_is_a_clear_error(case: str) -> None:
    """Key and certificate must be readable and belong together, or nothing is started."""
    hosts = Authority()
    host = hosts.host("server.example")
    key, certificate = {
        "no key": (b"nothing", host.certificate),
        "no certificate": (host.key, b"nothing"),
        "of another key": (host.key, hosts.host("server.example").certificate),
    }[case]
    with pytest.raises(InvalidInput, match="cannot be used"):
        await listen(
            lambda _proved, _connection: Handler(),
            address="127.0.0.1",
            port=0,
            host_key=key,
            host_certificate=certificate,
            validate=Port().validate,
        )


def test_penalty_defaults_are_sshds() -> None:
    """What sshd_config(5) says of the limits that we took over from it, and the manual's two."""
    limits = Limits()
    assert limits.penalties == PenaltyLimits(5, 1, 10, 90, 15, 600, 65_536)
    assert limits.startups == StartupLimits(start=30, full=500, patience=5, per_source=None)
    assert (limits.tries, limits.sessions) == (6, 10)
    assert (limits.max_connections, limits.max_users) == (1000, 250)
