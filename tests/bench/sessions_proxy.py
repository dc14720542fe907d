"""The proxy of `bench_sessions`: our SSH port with our relay behind it, in a process of its own and without a cluster.

`python -m tests.bench.sessions_proxy FOLDER` takes `proxy_host_key`, `proxy_host_key-cert.pub` and `user_ca_keys` from
that folder, writes the port it listens on to `proxy.port` there, and relays each subsystem `proxy:HOST:PORT`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity, load_ssh_public_key

from runtime.core.errors import AccessDenied
from runtime.transport.gateway import GatewayChannel, GatewaySession
from runtime.transport.guards import Peer
from runtime.transport.limits import Limits
from runtime.transport.server import Handler, listen

LIMITS = Limits(max_connections=10_000)
"""The defaults, but for the one that 2,000 sessions would meet."""


class _Handler(Handler):
    """Each session is a subsystem that names where to."""

    def session_requested(self) -> GatewaySession:
        return GatewaySession(_serve)


async def _serve(name: str | None, channel: GatewayChannel) -> int:
    _, host, port = (name or "").split(":")
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    await channel.relay(sock)
    return 0


async def _run(folder: Path) -> None:
    trusted = load_ssh_public_key((folder / "user_ca_keys").read_bytes())

    def validate(login: str, certificate: bytes, peer: Peer) -> str:
        parsed = load_ssh_public_identity(certificate)
        if not isinstance(parsed, SSHCertificate) or parsed.signature_key() != trusted:
            raise AccessDenied("the authority is not trusted")
        return login

    listener = await listen(
        lambda _proved, _connection: _Handler(),
        address="127.0.0.1",
        port=0,
        host_key=(folder / "proxy_host_key").read_bytes(),
        host_certificate=(folder / "proxy_host_key-cert.pub").read_bytes(),
        validate=validate,
        limits=LIMITS,
    )
    started = folder / "proxy.port.new"
    started.write_text(str(listener.address.port))
    started.rename(folder / "proxy.port")
    async with listener:
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_run(Path(sys.argv[1])))
