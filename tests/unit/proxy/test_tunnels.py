"""Where a leaf's proxy dials: not wherever a root says."""

from __future__ import annotations

import asyncio

import pytest

from runtime.core.errors import AccessDenied, InvalidInput, TeleportError, Unavailable
from runtime.proxy.tunnels import dial_root
from runtime.service.values import Address


@pytest.mark.parametrize(
    ("address", "error", "why"),
    [
        ("169.254.169.254:80", AccessDenied, "a link-local address or one of cloud metadata"),
        ("[fd00:ec2::254]:3024", AccessDenied, "a link-local address or one of cloud metadata"),
        ("127.0.0.1:3025", AccessDenied, "a loopback address"),
        ("[::ffff:127.0.0.1]:22", AccessDenied, "a loopback address"),
        ("localhost:22", AccessDenied, "a loopback address"),
        ("0.0.0.0:3024", AccessDenied, "no address of one machine"),
        ("224.0.0.1:3024", AccessDenied, "no address of one machine"),
        ("", InvalidInput, "is no address"),
        ("a b:3024", InvalidInput, "is no address"),
        ("proxy:0", InvalidInput, "is no address"),
        ("\x1b[2J:1", InvalidInput, "is no address"),
        ("nowhere.invalid:3024", Unavailable, "its name cannot be resolved"),
    ],
)
async def test_addresses_that_a_root_may_name_in_vain(address: str, error: type[TeleportError], why: str) -> None:
    """Metadata of clouds, this machine, nonsense: a proxy of a leaf connects to none of it, and says why."""
    with pytest.raises(error, match=why) as caught:
        (await dial_root(address, own=(), loopback=False)).close()
    assert str(caught.value).isprintable()


async def test_a_root_on_this_machine() -> None:
    """Where a document says that the root is here, it may be; but not at a port of our own."""

    def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        (await dial_root(f"127.0.0.1:{port}", own=(), loopback=True)).close()
        with pytest.raises(AccessDenied, match="an address of this proxy itself"):
            (await dial_root(f"127.0.0.1:{port}", own=(Address("127.0.0.1", port),), loopback=True)).close()
    finally:
        server.close()
        await server.wait_closed()
