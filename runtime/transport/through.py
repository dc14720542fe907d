"""A connection inside a proxy's subsystem `proxy:host:port`: end to end, the proxy sees none of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import asyncssh
from asyncssh.constants import EXTENDED_DATA_STDERR

from runtime.core.errors import AccessDenied, TeleportError, Unavailable
from runtime.transport.client import ClientConnection, VerifyHost, connect
from runtime.transport.limits import Limits

_MAX_SAID = 4096
"""Bytes of a proxy's words that are kept."""


async def connect_through(
    proxy: ClientConnection,
    subsystem: str,
    *,
    name: str,
    login: str,
    key: bytes,
    certificate: bytes,
    verify_host: VerifyHost,
    limits: Limits | None = None,
    connect_timeout: float = 30,
    agent_path: str | None = None,
) -> ClientConnection:
    """Connect to the server certified as `name` through a subsystem that leads to it, and log in as `connect` does.

    Raises what `connect` raises; where it is the proxy that refuses, the error is in its words.
    """
    tunnel = _Tunnel(proxy, subsystem)
    try:
        return await connect(
            name,
            0,  # no port of ours: the subsystem leads there
            name=name,
            login=login,
            key=key,
            certificate=certificate,
            verify_host=verify_host,
            limits=limits,
            connect_timeout=connect_timeout,
            tunnel=cast("asyncssh.SSHClientConnection", tunnel),  # all that is called of it is `create_connection`
            agent_path=agent_path,
        )
    except TeleportError as error:
        if said := tunnel.said():
            raise Unavailable(said) from error
        # The port of an address that is none would only mislead.
        raise type(error)(str(error).replace(f" ({name} port 0)", ""), hint=error.hint) from error


class _Tunnel:
    """What `asyncssh` takes for a connection to tunnel through."""

    def __init__(self, proxy: ClientConnection, subsystem: str) -> None:
        self._proxy = proxy
        self._subsystem = subsystem
        self._said = bytearray()

    async def create_connection(
        self, factory: Callable[[], asyncssh.SSHClientConnection], host: str, port: int
    ) -> tuple[Any, asyncssh.SSHClientConnection]:
        """Open the subsystem and start SSH in it."""
        inner = factory()
        try:
            channel, _ = await self._proxy.create_session(
                lambda: _Carried(inner, self._said), subsystem=self._subsystem, encoding=None, request_pty=False
            )
        except asyncssh.ChannelOpenError as error:
            raise AccessDenied(f"the proxy does not open {self._subsystem}: {error.reason}") from error
        return channel, inner

    def said(self) -> str:
        """Return what the proxy wrote to standard error, without the name that each line begins with."""
        lines = self._said.decode(errors="replace").splitlines()
        return "\n".join(line.removeprefix("teleport: ") for line in lines if line.strip())


class _Carried(asyncssh.SSHClientSession[bytes]):
    """The proxy's channel, as the transport of another connection."""

    def __init__(self, inner: asyncssh.SSHClientConnection, said: bytearray) -> None:
        self._inner = inner
        self._said = said

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def session_started(self) -> None:
        self._inner.connection_made(cast("Any", self._channel))  # a channel has the methods of a transport

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype == EXTENDED_DATA_STDERR:
            self._said += data[: _MAX_SAID - len(self._said)]
        else:
            self._inner.data_received(data)

    def eof_received(self) -> bool:
        self._inner.eof_received()
        return False

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
