"""Who is at auth's SSH port: the certificate that was proved, as a caller."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from runtime.api.dial import NOBODY_LOGIN
from runtime.core.callers import Caller, CallerKind
from runtime.core.errors import AccessDenied
from runtime.pki.newcomer import is_newcomer
from runtime.pki.trust import Trust
from runtime.pki.verify import verify_member


class Peer(Protocol):
    """Where a connection comes from."""

    @property
    def host(self) -> str:
        """The TCP peer's address."""
        ...


class Gate:
    """Says who the holder of a certificate is. Synchronous, so that nothing changes while it decides."""

    def __init__(self, trust: Callable[[], Trust], now: Callable[[], datetime]) -> None:
        self._trust = trust
        self._now = now

    def validate(self, login: str, certificate: bytes, peer: Peer) -> Caller:
        """Return the caller. Raises AccessDenied.

        A newcomer shows a certificate that it signed itself: it proves nothing but that it has the key, and makes the
        caller nobody. A member's or admin's login is its principal.
        """
        if login == NOBODY_LOGIN:
            if not is_newcomer(certificate, NOBODY_LOGIN):
                raise AccessDenied("a newcomer's certificate is for nobody, and signed by its own key")
            return Caller(CallerKind.NOBODY, "", peer.host)
        identity = verify_member(certificate, self._trust(), self._now())
        if login != f"{identity.role}.{identity.host_id}":
            raise AccessDenied(f"the certificate is for {identity.role}.{identity.host_id}, not for {login[:80]!a}")
        return Caller(CallerKind(identity.role.value), identity.host_id, peer.host)
