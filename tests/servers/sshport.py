"""Our SSH port with a small service behind it, and asyncssh's own for comparison."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from runtime.core.errors import AccessDenied
from runtime.transport.capture import Proved
from runtime.transport.guards import Peer
from runtime.transport.limits import Limits, PenaltyLimits
from runtime.transport.server import Handler, Listener, listen
from tests.servers.rawssh import DEADLINE
from tests.servers.sshca import Authority

FORGIVING = PenaltyLimits(threshold=float("inf"))
"""Without penalties: all of a test's connections come from one address."""


class Command(asyncssh.SSHServerSession[bytes]):
    """Answers `whoami` with who was proved, and `send N` with N bytes."""

    def __init__(self, proved: Proved[str] | None) -> None:
        self._proved = proved
        self.command = ""
        self.writing_paused = False

    def connection_made(self, chan: Any) -> None:
        """Keep the channel."""
        self.channel: asyncssh.SSHServerChannel[bytes] = chan

    def exec_requested(self, command: str) -> bool:
        """Accept any command."""
        self.command = command
        return True

    def pause_writing(self) -> None:
        """Note that it was told to wait."""
        self.writing_paused = True

    def session_started(self) -> None:
        """Answer, and end."""
        verb, _, argument = self.command.partition(" ")
        if verb == "send":
            self.channel.write(pattern(int(argument)))
        elif self._proved:
            self.channel.write(f"{self._proved.login} {self._proved.identity}\n".encode())
        self.channel.exit(0)


def pattern(size: int) -> bytes:
    """Return that many bytes in which any loss or swap shows."""
    return b"".join(number.to_bytes(8, "big") for number in range(size // 8 + 1))[:size]


class Port:
    """A running port of ours, what it has refused, and who has logged in."""

    def __init__(self) -> None:
        self.users = Authority()
        self.hosts = Authority()
        self.refusals: list[tuple[Peer, str]] = []
        self.proved: list[Proved[str]] = []
        self.connections: list[asyncssh.SSHServerConnection] = []
        self.sessions: list[Command] = []
        self.closed = 0
        self.asked: list[tuple[str, bytes]] = []
        self.listener: Listener[str]

    @property
    def number(self) -> int:
        """The TCP port."""
        return self.listener.address.port

    def validate(self, login: str, certificate: bytes, peer: Peer) -> str:
        """Trust the one authority, and take the key id for the identity."""
        self.asked.append((login, certificate))
        parsed = load_ssh_public_identity(certificate)
        assert isinstance(parsed, SSHCertificate)
        if parsed.signature_key() != self.users.key.public_key():
            raise AccessDenied("the authority is not trusted")
        if login.encode() not in parsed.valid_principals:
            raise AccessDenied("login is not among the principals")
        return "known"

    def on_refused(self, peer: Peer, reason: str) -> None:
        """Remember a refusal."""
        self.refusals.append((peer, reason))

    @property
    def reasons(self) -> str:
        """All reasons so far, one a line."""
        return "\n".join(reason for _, reason in self.refusals)

    def handler(self, proved: Proved[str], connection: asyncssh.SSHServerConnection) -> Handler:
        """Serve one connection."""
        self.proved.append(proved)
        self.connections.append(connection)
        port = self

        class _Handler(Handler):
            def session_requested(self) -> Command:
                session = Command(proved)
                port.sessions.append(session)
                return session

            def closed(self) -> None:
                port.closed += 1

        return _Handler()


@asynccontextmanager
async def port(limits: Limits | None = None, **settings: Any) -> AsyncIterator[Port]:
    """Start our port on a free number; without penalties unless the limits say otherwise."""
    made = Port()
    host = made.hosts.host("server.example", "127.0.0.1", "localhost")
    made.listener = await listen(
        settings.pop("handler", made.handler),
        address="127.0.0.1",
        port=0,
        host_key=host.key,
        host_certificate=host.certificate,
        validate=settings.pop("validate", made.validate),
        limits=limits or Limits(penalties=FORGIVING),
        on_refused=made.on_refused,
        **settings,
    )
    async with made.listener:
        yield made


@asynccontextmanager
async def visited(
    handler: Callable[[Proved[str], asyncssh.SSHServerConnection], Handler],
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Yield joe's connection, which asyncssh makes by itself, to a port of ours where `handler` serves."""
    async with port(handler=handler) as server:
        me = server.users.issue(["joe"])
        async with asyncssh.connect(
            "127.0.0.1",
            server.number,
            username="joe",
            known_hosts=None,
            config=None,
            agent_path=None,
            client_keys=[(me.key, me.certificate)],
        ) as connection:
            yield connection


@asynccontextmanager
async def stock_port(users: Authority) -> AsyncIterator[tuple[int, list[asyncssh.SSHServerConnection]]]:
    """Start asyncssh's own server, trusting that authority, to show what it does without us."""
    connections: list[asyncssh.SSHServerConnection] = []

    class _Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            connections.append(conn)

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return key.public_data == asyncssh.import_public_key(users.line).public_data

        def session_requested(self) -> Command:
            return Command(None)

    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        config=None,
        server_factory=_Server,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        encoding=None,
        line_editor=False,
        gss_host=None,
    )
    try:
        yield acceptor.get_port(), connections
    finally:
        acceptor.close()
        for connection in connections:
            connection.abort()
        await acceptor.wait_closed()


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that other tasks bring about; fail when it does not happen in time."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110  # most of these are inside asyncssh and have no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"did not happen within {DEADLINE:g} s: {what}") from None
