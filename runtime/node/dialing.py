"""One way to connect to a port that somebody asks for: `dial`."""

from __future__ import annotations

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from aiohappyeyeballs import AddrInfoType, start_connection

from runtime.core.errors import InvalidInput, NotFound, Unavailable

TIMEOUT_SECONDS = 10.0
"""Until then a name is resolved and one of its addresses has answered."""
_NEXT_ADDRESS_SECONDS = 0.25
"""How long one address is tried before the next is tried beside it (RFC 8305 §5, Connection Attempt Delay)."""
_MAX_HOST = 255
"""The longest name of a host, in characters (RFC 1035 §2.3.4)."""

# Not the event loop's own threads: those who ask for names that nobody answers for wait for one another alone.
_resolvers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="resolve")


async def dial(host: str, port: int, *, within: float = TIMEOUT_SECONDS) -> socket.socket:
    """Return a non-blocking socket that is connected to the host: a name or an address, v4 or v6; `within` is seconds.

    Raises InvalidInput for what is no host or port, NotFound for a name without an address, Unavailable when none of
    its addresses answers, or not in time.
    """
    if not 0 < port < 65536:
        raise InvalidInput(f"{port} is not a TCP port")
    if not (0 < len(host) <= _MAX_HOST and host.isascii() and host.isprintable()):
        raise InvalidInput("what is asked for is not the name of a host")
    where = f"{host} port {port}"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(within):
            addresses = await loop.run_in_executor(_resolvers, _resolve, host, port)
            return await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS)
    except TimeoutError as error:
        raise Unavailable(f"{where}: no answer within {within:g} s") from error
    except (socket.gaierror, UnicodeError) as error:
        raise NotFound(f"{host}: {getattr(error, 'strerror', None) or 'not the name of a host'}") from error
    except OSError as error:
        raise Unavailable(f"{where}: {os.strerror(error.errno) if error.errno else error}") from error


def _resolve(host: str, port: int) -> list[AddrInfoType]:
    return [cast("AddrInfoType", found) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
