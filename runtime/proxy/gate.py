"""Who may use the proxy's SSH port: people with a certificate of the cluster's user CA, while their user exists."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from runtime.core.access import still_the_same
from runtime.core.errors import AccessDenied
from runtime.core.joining import JOIN_LOGIN
from runtime.core.resources import User
from runtime.pki.identity import UserIdentity
from runtime.pki.standing import check_source, check_standing
from runtime.pki.verify import verify_user
from runtime.proxy.cluster import ClusterView


class Peer(Protocol):
    """Where a connection comes from."""

    @property
    def host(self) -> str:
        """The TCP peer's address."""
        ...


class Gate:
    """Says who the holder of a certificate is. Synchronous, so that nothing changes while it decides.

    Which node somebody may log in to, and as whom, is not decided here: the login on this port is any of the
    certificate's, as the manual's ProxyCommand has it, or the one with which sessions are joined.
    """

    def __init__(self, view: ClusterView, now: Callable[[], datetime]) -> None:
        self._view = view
        self._now = now

    def validate(self, login: str, certificate: bytes, peer: Peer) -> UserIdentity:
        """Return the person, if the certificate lets this person in as `login`. Raises AccessDenied."""
        identity = verify_user(certificate, self._view.trust(), self._now())
        if login not in identity.logins and not (login == JOIN_LOGIN and identity.join_sessions):
            raise AccessDenied(
                f"the certificate of user {identity.user} is for {', '.join(identity.logins)}, not for {login[:64]!a}",
                hint="Name one of these before the @ of the proxy's address.",
            )
        check_source(identity, peer.host)
        if identity.force_command is not None:
            raise AccessDenied("the certificate is for one command, and a proxy runs none")
        self.authorise(identity)
        return identity

    def authorise(self, identity: UserIdentity) -> User:
        """Return the user as it is now, if the identity still holds. Raises AccessDenied."""
        check_standing(identity, self._view.trust(), self._now(), cluster=self._view.name)
        return still_the_same(self._view.people.user(identity.user), identity.person)
