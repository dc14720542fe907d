"""What both parts of the leaf's end work with: whom it dials, what it shows, and what it does with visitors."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from runtime.pki.keys import parse_public_key
from runtime.pki.trust import Trust
from runtime.transport.gateway import GatewayChannel
from runtime.tunnel import protocol


@dataclass(frozen=True, slots=True)
class Root:
    """A cluster that is our root: `address` (host:port) is from its document, `trust` has its host authority alone."""

    cluster: str
    address: str
    keys: tuple[str, ...]
    """Its host authority's keys, by which one is known from another."""
    trust: Trust

    def has_signer(self, signer: str) -> bool:
        """Tell whether the authority of this fingerprint is the root's."""
        return signer in {parse_public_key(key).fingerprint for key in self.keys}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What our proxy shows: the contents of OpenSSH files."""

    host_key: bytes
    host_certificate: bytes


@dataclass(frozen=True, slots=True)
class Carrier:
    """Who carries a visitor here: a proxy of a root that was proved, from where it is dialled (host:port)."""

    cluster: str
    proxy: str
    address: str


Dial = Callable[[str, bool], Awaitable[socket.socket]]
"""Connects to host:port; the second is whether it is the root's word alone that we should. Raises AccessDenied,
Unavailable."""

ServeConnect = Callable[[Carrier, protocol.Connect, GatewayChannel], Awaitable[int]]
"""Connects a visitor to a node, and returns the exit status; what goes wrong it says on standard error."""

ServeNodes = Callable[[Carrier, protocol.Nodes], Awaitable[bytes]]
"""Returns as JSON which nodes there are for somebody. Raises TeleportError."""


@dataclass(frozen=True, slots=True)
class Happened:
    """A tunnel came or went; `error` says why, where it was refused."""

    cluster: str
    peer: str
    addr: str
    up: bool
    error: str = ""
    reason: str = ""
    """Why it went, where we ended it."""
