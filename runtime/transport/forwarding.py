"""Forwarded connections on the server's side: TCP and Unix sockets, both ways, and the peer's agent.

    asked for by the client                                       answered by
    direct-tcpip                     (ssh -L, -D, -W, -J)         ForwardingRules.connect_tcp
    direct-streamlocal@openssh.com   (ssh -L with a path)         ForwardingRules.connect_unix
    tcpip-forward                    (ssh -R)                     ForwardingRules.listen_tcp
    streamlocal-forward@openssh.com  (ssh -R with a path)         ForwardingRules.listen_unix
    auth-agent-req@openssh.com       (ssh -A)                     ForwardingRules.listen_agent

The service says what is allowed and makes the sockets; what is on the wire, and the bytes, are dealt with here.
Sources: RFC 4254 §7; OpenSSH PROTOCOL §2.4; draft-ietf-sshm-ssh-agent. X11 is refused always (`options`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED, OPEN_CONNECT_FAILED

from runtime.core.errors import AccessDenied, TeleportError
from runtime.transport.capture import ServerConnection
from runtime.transport.guards import Peer
from runtime.transport.relay import Relay, Relayed
from runtime.transport.server import Handler

logger = logging.getLogger(__name__)

_ACCEPT_PAUSE_SECONDS = 1.0
"""How long a listener rests when the process has no file descriptor left."""
_ACCEPT_AT_ONCE = 16
"""Connections taken from one listener before others have their turn."""


class Listening(Protocol):
    """Sockets that listen, and what is to be undone when they no longer do."""

    sockets: tuple[socket.socket, ...]
    """Non-blocking; closed by `close`."""
    path: str
    """Where a Unix socket is; empty for TCP."""

    def admit(self) -> None:
        """Return when a connection that has just come may be passed on. Raises AccessDenied."""
        ...

    def close(self) -> None:
        """Close the sockets and remove what they left behind. Does not wait."""
        ...


class ForwardingRules(Protocol):
    """What a service allows one connection, and where its sockets come from.

    Each call is a decision of its own. It gives a connected, non-blocking socket, or listening ones; or it raises a
    TeleportError, whose text the client is shown.
    """

    async def connect_tcp(self, host: str, port: int) -> socket.socket:
        """Connect to that port; may be cancelled."""
        ...

    async def connect_unix(self, path: str) -> socket.socket:
        """Connect to the socket at that path."""
        ...

    async def listen_tcp(self, host: str, port: int) -> Listening:
        """Listen on that port, 0 for any, of what the client calls `host` (RFC 4254 §7.1)."""
        ...

    async def listen_unix(self, path: str) -> Listening:
        """Listen at that path."""
        ...

    async def listen_agent(self) -> Listening:
        """Listen at a new path that the user alone can reach."""
        ...


Forward = Callable[[socket.socket, int], Awaitable[None]]
"""Opens a channel for a connection that came, and to which port."""


class ForwardingHandler(Handler):
    """A handler that forwards what the rules allow; a service's own derives from it."""

    def __init__(self, connection: asyncssh.SSHServerConnection, rules: ForwardingRules) -> None:
        self._connection = cast("ServerConnection[Any]", connection)
        self._rules = rules
        self._connecting: set[asyncio.Task[Any]] = set()
        self._listening = 0
        self._closed = False

    # --- from the client to a socket here ------------------------------------------------------------------------

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
        """Connect to a port for a direct-tcpip channel."""
        return self._connected(self._rules.connect_tcp(dest_host, dest_port))

    def unix_connection_requested(self, dest_path: str) -> Any:
        """Connect to a Unix socket for a direct-streamlocal channel."""
        return self._connected(self._rules.connect_unix(dest_path))

    async def _connected(self, connecting: Coroutine[Any, Any, socket.socket]) -> _Forwarded:
        task = asyncio.ensure_future(connecting)
        self._connecting.add(task)
        try:
            # Its own task, so that the end of the connection ends it, and a socket that comes too late is closed.
            await asyncio.wait({task})
            sock = task.result()
        except TeleportError as error:
            code = OPEN_ADMINISTRATIVELY_PROHIBITED if isinstance(error, AccessDenied) else OPEN_CONNECT_FAILED
            raise asyncssh.ChannelOpenError(code, error.in_full) from error
        finally:
            self._connecting.discard(task)
        if self._closed:
            sock.close()
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, "the SSH connection was closed")
        return _Forwarded(sock)

    # --- from a socket here to the client ------------------------------------------------------------------------

    async def server_requested(self, listen_host: str, listen_port: int) -> Any:
        """Listen on a port for tcpip-forward."""

        async def forward(sock: socket.socket, port: int) -> None:
            await self._connection.create_connection(lambda: _Forwarded(sock), listen_host, port, *_origin(sock))

        return await self._listen(lambda: self._rules.listen_tcp(listen_host, listen_port), forward) or False

    async def unix_server_requested(self, listen_path: str) -> Any:
        """Listen at a path for streamlocal-forward."""

        async def forward(sock: socket.socket, _port: int) -> None:
            await self._connection.create_unix_connection(lambda: _Forwarded(sock), listen_path)

        return await self._listen(lambda: self._rules.listen_unix(listen_path), forward) or False

    async def agent_requested(self) -> ForwardListener | None:
        """Listen for the programs of one session that ask for the client's agent; None where that is refused."""

        async def forward(sock: socket.socket, _port: int) -> None:
            await self._connection.create_agent_channel().open(lambda: _Forwarded(sock))

        return await self._listen(self._rules.listen_agent, forward)

    async def _listen(self, listen: Callable[[], Awaitable[Listening]], forward: Forward) -> ForwardListener | None:
        """Listen, or say why not in a debug message, as sshd does (ssh -v shows it): the answer itself has no text."""
        most = self._connection.limits.listeners
        if self._listening >= most:
            reason = f"{most} ports and sockets are listened on for this connection"
            self._connection.refused(reason)
            self._connection.send_debug(reason)
            return None
        self._listening += 1
        try:
            listening = await listen()
        except TeleportError as error:
            self._ended()
            self._connection.send_debug(error.in_full)
            return None
        listener = ForwardListener(self._connection, listening, forward, self._ended)
        if self._closed:
            listener.close()
            return None
        return listener

    def _ended(self) -> None:
        self._listening -= 1

    def closed(self) -> None:
        """End what has not become a channel or listener yet; those end with the connection by themselves."""
        self._closed = True
        for task in self._connecting:
            task.cancel()


class _Forwarded(Relayed, asyncssh.SSHTCPSession[bytes], asyncssh.SSHUNIXSession[bytes]):
    """One channel, and the socket at its end here."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def connection_made(self, chan: Any) -> None:  # a TCP, Unix or agent channel, which have no type in common
        self._channel: asyncssh.SSHTCPChannel[bytes] = chan
        self._relay = Relay(chan, patient=True)
        chan.get_connection().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._relay.run(self._sock)
        except OSError as error:
            logger.info("a forwarded connection could not be served: %s", error)
        finally:
            self._channel.close()  # once what was written to it is sent


class ForwardListener(asyncssh.SSHListener):
    """Takes connections to listening sockets and passes each on as a channel that we open to the client."""

    def __init__(
        self,
        connection: ServerConnection[Any],
        listening: Listening,
        forward: Forward,
        on_close: Callable[[], None],
    ) -> None:
        super().__init__()
        self.path = listening.path
        self._connection = connection
        self._listening = listening
        self._forward = forward
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._timers: dict[socket.socket, asyncio.TimerHandle] = {}
        self._open = True
        self._port = 0 if self.path else int(listening.sockets[0].getsockname()[1])
        for sock in listening.sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def get_port(self) -> int:
        """Return the TCP port that it listens on; 0 for a Unix socket."""
        return self._port

    def close(self) -> None:
        """Listen no more; connections that were taken go on. Safe to call twice."""
        if not self._open:
            return
        self._open = False
        for timer in self._timers.values():
            timer.cancel()
        for sock in self._listening.sockets:
            self._loop.remove_reader(sock)
        self._listening.close()
        self._on_close()

    async def wait_closed(self) -> None:
        """Return: nothing of it is left once it is closed."""

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                sock, _address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                logger.warning("a forwarded port cannot take a connection: %s", error)
                self._loop.remove_reader(listening)
                self._timers[listening] = self._loop.call_later(_ACCEPT_PAUSE_SECONDS, self._resume, listening)
                return
            sock.setblocking(False)
            self._connection.create_task(self._pass_on(sock))

    def _resume(self, listening: socket.socket) -> None:
        del self._timers[listening]
        self._loop.add_reader(listening, self._accept, listening)

    async def _pass_on(self, sock: socket.socket) -> None:
        try:
            self._listening.admit()
            await self._forward(sock, self._port)
        except (TeleportError, asyncssh.ChannelOpenError) as error:
            # The client refuses it, or has too many channels, or is gone: there is nobody to tell but who connected.
            logger.info("a connection to a forwarded port was closed: %s", error)
            sock.close()
        except BaseException:
            sock.close()
            raise


def _origin(sock: socket.socket) -> Peer:
    """Return who connected; it may be gone again."""
    try:
        address = sock.getpeername()
    except OSError:
        return Peer("", 0)
    return Peer(str(address[0]), int(address[1]))
