"""The connection on which a token is shown: the server that proved itself, and no other."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import aiohttp
import pytest

from runtime.auth.trusted_exchange import _OneServer


class Shown:
    """A connection to a server with that certificate."""

    def __init__(self, certificate: bytes) -> None:
        self._certificate = certificate

    def get_extra_info(self, name: str) -> Any:
        """Return what asyncio tells of a connection."""
        return {"ssl_object": self, "peername": ("192.0.2.1", 3080)}[name]

    def getpeercert(self, *, binary_form: bool) -> bytes:
        """Return the certificate."""
        assert binary_form
        return self._certificate


def test_a_second_connection_has_to_be_with_the_first_server() -> None:
    """Of several proxies behind one address, or of somebody who comes between two requests, only the first counts."""
    server = _OneServer()
    server.check(cast("asyncio.Transport", Shown(b"one")))
    server.check(cast("asyncio.Transport", Shown(b"one")))
    with pytest.raises(aiohttp.ServerFingerprintMismatch):
        server.check(cast("asyncio.Transport", Shown(b"two")))
    server.check(cast("asyncio.Transport", Shown(b"one")))
