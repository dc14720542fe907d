"""Who gets in: the one function that says what a person may do on this node, asked at login and at each channel.

A certificate says who somebody is, and what this person could do when it was issued. What counts is what the user may
do now: users and roles are followed from auth, and kept for when it is away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import Protocol

from runtime.core.access import Grant, access_to_node
from runtime.core.errors import AccessDenied
from runtime.core.resources import Role, User
from runtime.core.resources.authority import AuthorityType
from runtime.pki.certificate import read_certificate
from runtime.pki.identity import UserIdentity
from runtime.pki.trust import Trust
from runtime.pki.verify import verify_user


class People(Protocol):
    """Users and roles as they are now."""

    @property
    def roles(self) -> Mapping[str, Role]:
        """All declared roles, by name."""
        ...

    def user(self, name: str) -> User:
        """Return a user. Raises AccessDenied for one that does not exist."""
        ...


class Peer(Protocol):
    """Where a connection comes from."""

    @property
    def host(self) -> str:
        """The TCP peer's address."""
        ...


class NodeAccess:
    """Decides for one node. Synchronous, so that nothing changes while it decides."""

    def __init__(
        self,
        *,
        cluster: str,
        trust: Callable[[], Trust],
        people: People,
        labels: Callable[[], Mapping[str, str]],
        now: Callable[[], datetime],
        only_login: str | None = None,
    ) -> None:
        """Take what decisions rest on; `only_login` is the one login that a node has which does not run as root."""
        self._cluster = cluster
        self._trust = trust
        self._people = people
        self._labels = labels
        self._now = now
        self._only_login = only_login

    def validate(self, login: str, certificate: bytes, peer: Peer) -> UserIdentity:
        """Return the person whom a certificate lets in as `login`. Raises AccessDenied."""
        identity = verify_user(certificate, self._trust(), self._now())
        sources = identity.source_addresses
        if sources and not any(ip_address(peer.host.partition("%")[0]) in network for network in sources):
            raise AccessDenied(
                f"the certificate is good from {', '.join(map(str, sources))} only, not from {peer.host}",
                hint="Through a proxy it is the proxy's address that counts.",
            )
        self.authorise(identity, login)
        return identity

    def authorise(self, identity: UserIdentity, login: str) -> Grant:
        """Return what the person may do as `login` on this node at this moment. Raises AccessDenied."""
        proof = identity.proof
        if identity.cluster != self._cluster:
            raise AccessDenied(f"the certificate is of cluster {identity.cluster}; this node is in {self._cluster}")
        if self._trust().find(proof.authority.key.blob) != proof.authority:
            raise AccessDenied(
                f"the {proof.authority} that signed the certificate is not trusted any more",
                hint="Log in again: tsh login.",
            )
        if self._now() >= proof.valid_before:
            raise AccessDenied(
                f"the certificate expired at {proof.valid_before:%Y-%m-%d %H:%M:%S} UTC",
                hint="Log in again: tsh login.",
            )
        if login not in identity.logins:
            raise AccessDenied(
                f"the certificate of user {identity.user} is for {', '.join(identity.logins)}, not for {login[:64]!a}",
                hint="After a change of the user's logins, log in again: tsh login.",
            )
        grant = access_to_node(self._people.user(identity.user), self._people.roles, self._labels(), login)
        if self._only_login not in (None, login):
            raise AccessDenied(
                f"this node runs as {self._only_login}, so {self._only_login} is the one login here, not {login}",
                hint="A node that is to have others has to run as root.",
            )
        return grant

    def holder(self, certificate: bytes) -> str | None:
        """Return the user to whom an authority of ours has given a certificate, be it expired; None for a stranger's.

        Who shows such a one may know why it is refused.
        """
        try:
            read = read_certificate(certificate)
        except AccessDenied:
            return None
        authority = self._trust().find(read.signature.ca_key)
        if authority is None or authority.type is not AuthorityType.USER or not read.signature_is_good():
            return None
        return read.key_id
