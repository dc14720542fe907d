"""Who may use the proxy's SSH port: people with a certificate of the cluster's user CA, while their user exists."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_address
from typing import Protocol

from runtime.core.errors import AccessDenied
from runtime.core.resources import User
from runtime.core.resources.authority import AuthorityType
from runtime.pki.certificate import read_certificate
from runtime.pki.identity import UserIdentity
from runtime.pki.verify import verify_user
from runtime.proxy.cluster import ClusterView

_LOG_IN = "Log in again: tsh login."


class Peer(Protocol):
    """Where a connection comes from."""

    @property
    def host(self) -> str:
        """The TCP peer's address."""
        ...


class Gate:
    """Says who the holder of a certificate is. Synchronous, so that nothing changes while it decides.

    Which node somebody may log in to, and as whom, is not decided here: the login on this port is any of the
    certificate's, as the manual's ProxyCommand has it.
    """

    def __init__(self, view: ClusterView, now: Callable[[], datetime]) -> None:
        self._view = view
        self._now = now

    def validate(self, login: str, certificate: bytes, peer: Peer) -> UserIdentity:
        """Return the person, if the certificate lets this person in as `login`. Raises AccessDenied."""
        identity = verify_user(certificate, self._view.trust(), self._now())
        if login not in identity.logins:
            raise AccessDenied(
                f"the certificate of user {identity.user} is for {', '.join(identity.logins)}, not for {login[:64]!a}",
                hint="Name one of these before the @ of the proxy's address.",
            )
        sources = identity.source_addresses
        if sources and not any(ip_address(peer.host.partition("%")[0]) in network for network in sources):
            raise AccessDenied(
                f"the certificate is good from {', '.join(map(str, sources))} only, not from {peer.host}"
            )
        if identity.force_command is not None:
            raise AccessDenied("the certificate is for one command, and a proxy runs none")
        self.authorise(identity)
        return identity

    def authorise(self, identity: UserIdentity) -> User:
        """Return the user as it is now, if the identity still holds. Raises AccessDenied."""
        proof = identity.proof
        if identity.cluster != self._view.name:
            raise AccessDenied(
                f"the certificate is of cluster {identity.cluster}; this proxy is in {self._view.name}",
                hint="Connect to a proxy of that cluster.",
            )
        if self._view.trust().find(proof.authority.key.blob) != proof.authority:
            raise AccessDenied(
                f"the {proof.authority} that signed the certificate is not trusted any more", hint=_LOG_IN
            )
        if self._now() >= proof.valid_before:
            raise AccessDenied(f"the certificate expired at {proof.valid_before:%Y-%m-%d %H:%M:%S} UTC", hint=_LOG_IN)
        return self._view.people.user(identity.user)

    def holder(self, certificate: bytes) -> str | None:
        """Return the user to whom an authority of ours gave a certificate, expired or not; None for a stranger's.

        Such a one may know why it is refused.
        """
        try:
            shown = read_certificate(certificate)
        except AccessDenied:
            return None
        authority = self._view.trust().find(shown.signature.ca_key)
        if authority is None or authority.type is not AuthorityType.USER or not shown.signature_is_good():
            return None
        return shown.key_id
