"""An SSH client that obeys nothing: key exchange and ciphers are done, what else it sends is the test's to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
from asyncssh.constants import (
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_DISCONNECT,
    MSG_EXT_INFO,
    MSG_KEX_LAST,
    MSG_KEXINIT,
    MSG_SERVICE_ACCEPT,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_REQUEST,
    MSG_USERAUTH_SUCCESS,
)
from asyncssh.packet import Boolean, Byte, SSHPacket, String, UInt32

from tests.servers.sshca import Credential

DEADLINE = 20.0
"""Seconds a test waits for something that has to happen."""


class _Everywhere(dict[int, Any]):
    """The channels of a client that has none: packets for any of them go to the client itself."""

    def __init__(self, client: RawClient) -> None:
        super().__init__()
        self._client = client

    def __missing__(self, number: int) -> RawClient:
        return self._client


class RawClient(asyncssh.SSHClientConnection):
    """One connection; made by `raw_client`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: asyncssh.SSHClientConnectionOptions) -> None:
        super().__init__(loop, options)
        self._received: asyncio.Queue[tuple[int, SSHPacket]] = asyncio.Queue()
        self._auth: Any = self
        self._channels = _Everywhere(self)
        self.stalls_key_exchange = False
        self.disconnect_reason = ""
        self.data_packets = 0
        self.data_bytes = 0

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Keep what arrives for `expect`; the key exchange alone goes its way."""
        stalled = pkttype == MSG_KEXINIT and self.stalls_key_exchange
        if (
            not stalled
            and pkttype <= MSG_KEX_LAST
            and pkttype not in (MSG_SERVICE_ACCEPT, MSG_EXT_INFO, MSG_DISCONNECT)
        ):
            return super().process_packet(pkttype, pktid, packet)
        content = SSHPacket(packet.get_full_payload()[1:])
        if pkttype == MSG_DISCONNECT:
            content.get_uint32()
            self.disconnect_reason = content.get_string().decode()
        elif pkttype == asyncssh.constants.MSG_CHANNEL_DATA:
            content.get_uint32()
            self.data_packets += 1
            self.data_bytes += len(content.get_string())
        elif pkttype == MSG_USERAUTH_SUCCESS:
            self._auth_complete = True
        self._received.put_nowait((pkttype, content))
        return True

    def cancel(self) -> None:
        """Do nothing: asyncssh takes this object for its login in progress."""

    async def expect(self, *wanted: int) -> tuple[int, SSHPacket]:
        """Return the next packet of one of those types and skip what comes before it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                pkttype, packet = await self._received.get()
                if pkttype in wanted:
                    return pkttype, packet

    async def ended(self) -> str:
        """Wait until the server has ended the connection, and return the reason it gave, if any."""
        async with asyncio.timeout(DEADLINE):
            await self.wait_closed()
        return self.disconnect_reason

    def request(self, login: str, method: str, *rest: bytes) -> None:
        """Send a USERAUTH_REQUEST (RFC 4252 §5)."""
        self.send_packet(MSG_USERAUTH_REQUEST, String(login), String("ssh-connection"), String(method), *rest)

    def query(self, login: str, blob: bytes, algorithm: bytes = b"ssh-ed25519-cert-v01@openssh.com") -> None:
        """Ask whether a key or certificate would do, without proving anything (RFC 4252 §7)."""
        self.request(login, "publickey", Boolean(False), String(algorithm), String(blob))

    def prove(
        self, login: str, credential: Credential, *, signature: bytes = b"", blob: bytes = b"", sign_as: str = ""
    ) -> None:
        """Log in with a signature, by the `signature` algorithm and over a request for `sign_as` if these are given."""
        key = asyncssh.import_private_key(credential.key)
        blob = blob or credential.blob
        name = SSHPacket(blob).get_string()
        rest = (Boolean(True), String(name), String(blob))
        signed = b"".join(
            (Byte(MSG_USERAUTH_REQUEST), String(sign_as or login), String("ssh-connection"), String("publickey"), *rest)
        )
        made = key.sign(String(self._session_id) + signed, signature or key.sig_algorithms[0])
        self.request(login, "publickey", *rest, String(made))

    async def log_in(self, login: str, credential: Credential) -> bool:
        """Log in properly and return whether that worked."""
        self.prove(login, credential)
        return (await self.expect(MSG_USERAUTH_SUCCESS, MSG_USERAUTH_FAILURE))[0] == MSG_USERAUTH_SUCCESS

    def ask_channel(self, *, kind: str = "session", number: int = 0, window: int = 2**21, packet: int = 32768) -> None:
        """Send a CHANNEL_OPEN (RFC 4254 §5.1)."""
        self.send_packet(MSG_CHANNEL_OPEN, String(kind), UInt32(number), UInt32(window), UInt32(packet))

    async def open_channel(self, *, number: int = 0, window: int = 2**21, packet: int = 32768) -> int | None:
        """Open a session channel and return the server's number for it, or None when it refused."""
        self.ask_channel(number=number, window=window, packet=packet)
        answer, content = await self.expect(MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_OPEN_FAILURE)
        content.get_uint32()
        return content.get_uint32() if answer == MSG_CHANNEL_OPEN_CONFIRMATION else None

    def execute(self, channel: int, command: str) -> None:
        """Send an exec request, without asking for an answer (RFC 4254 §6.5)."""
        self.send_packet(MSG_CHANNEL_REQUEST, UInt32(channel), String("exec"), Boolean(False), String(command))

    def stop_reading(self) -> None:
        """Leave what the server sends in the socket."""
        assert self._transport is not None
        self._transport.pause_reading()

    def go_on_reading(self) -> None:
        """Take what the server sends again."""
        assert self._transport is not None
        self._transport.resume_reading()

    def begin_key_exchange(self, *, stall: bool) -> None:
        """Send a KEXINIT; with `stall`, never the rest."""
        self.stalls_key_exchange = stall
        self._send_kexinit()
        self._kexinit_sent = True

    def send_regardless(self, pkttype: int, *args: bytes) -> None:
        """Send a packet at once, also where a key exchange forbids it."""
        complete, self._kex_complete = self._kex_complete, True
        try:
            self.send_packet(pkttype, *args)
        finally:
            self._kex_complete = complete


@asynccontextmanager
async def raw_client(port: int) -> AsyncIterator[RawClient]:
    """Connect to a port of this machine, up to where a login is due; close at the end."""
    options: Any = await asyncssh.SSHClientConnectionOptions.construct(
        config=None, known_hosts=None, client_keys=None, agent_path=None, username="nobody", login_timeout=0
    )
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: RawClient(loop, options), "127.0.0.1", port)
    try:
        await client.expect(MSG_SERVICE_ACCEPT)
        yield client
    finally:
        client.abort()
        await client.wait_closed()


def plain_packet(payload: bytes) -> bytes:
    """Return a packet as before the first key exchange: no cipher, no MAC (RFC 4253 §6)."""
    padding = -(5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return UInt32(1 + len(payload) + padding) + Byte(padding) + payload + bytes(padding)
