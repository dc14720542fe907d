"""A node whose decisions rest on what a test can change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runtime.api.trust_messages import TrustedPeer
from runtime.core.resources.authority import AuthorityType
from runtime.node.authority import NodeAccess
from runtime.pki.claims import UserClaims
from runtime.pki.identity import UserIdentity
from runtime.pki.keys import generate_key
from runtime.pki.signing import sign_user
from runtime.pki.trust import Signer, Trust
from runtime.transport.guards import Peer
from tests.servers.declared_people import People

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = generate_key()
USERS = Signer(AuthorityType.USER, "main", generate_key())
HOSTS = Signer(AuthorityType.HOST, "main", generate_key())
HOST_ID = "f84f7386-5e22-45ff-8f7d-b8079742e63f"
HERE = Peer("127.0.0.1", 50000)


class World:
    """A node with what its decisions rest on, all of which a test can change."""

    def __init__(self) -> None:
        self.people = People()
        self.people.declare("joe", "joe", "root")
        self.now = NOW
        self.trust = Trust([USERS.public, HOSTS.public])
        self.labels = {"env": "prod"}
        self.clusters: dict[str, TrustedPeer] = {}
        self.access = self.node()

    def node(self, only_login: str | None = None) -> NodeAccess:
        """Return what decides."""
        return NodeAccess(
            cluster="main",
            trust=lambda: self.trust,
            people=self.people,
            labels=lambda: self.labels,
            now=lambda: self.now,
            only_login=only_login,
            clusters=lambda: self.clusters,
        )

    def identity(self, **claims: Any) -> UserIdentity:
        """Return who shows a certificate with these claims."""
        return self.access.validate("root", certificate(**claims), HERE)


def certificate(signer: Signer = USERS, **claims: Any) -> bytes:
    """Return a certificate for joe, of an hour."""
    said = {
        "user": "joe",
        "cluster": "main",
        "logins": ("joe", "root"),
        "roles": ("user:joe",),
        "ttl": timedelta(hours=1),
    }
    return sign_user(UserClaims(**{**said, **claims}), KEY.public, signer=signer, now=NOW, serial=1).line
