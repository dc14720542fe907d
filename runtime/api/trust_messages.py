"""What auth tells the cluster's members of other clusters: whom to believe, and for what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from runtime.api.messages import Message, PublicKey, Secret, Text
from runtime.api.succession_messages import Statements


class RoleMapping(Message):
    """A role of the other cluster and the roles here that it becomes."""

    remote: Text
    local: tuple[Text, ...]


class TrustedPeer(Message):
    """One other cluster. What it may is in three separate things: dial us, be dialled, and its users' rights here."""

    cluster: Text
    enabled: bool = True
    """Where it is not, it is told of only so that lists can show it: none of its keys is believed."""
    tunnel_addr: Text = ""
    """Its proxy's 3024 (host:port), to which we keep a tunnel: it is our root. Without it, it may open one to us."""
    user_keys: tuple[PublicKey, ...] = ()
    host_keys: tuple[PublicKey, ...] = ()
    """Its authorities, as `TYPE BASE64`."""
    role_map: tuple[RoleMapping, ...] = ()
    allow_logins: tuple[Text, ...] = ()
    """What its users may do here: by default nothing."""
    ended: tuple[Text, ...] = ()
    """Which of its authorities (user, host) have ended, by their own word, and are not believed: it has to be joined
    anew."""
    base: Text = ""
    """What the trust stands on: the same for as long as its keys only succeed one another, another one where it was
    pinned or joined anew."""

    @property
    def is_root(self) -> bool:
        """Whether its proxies carry its users to us."""
        return bool(self.tunnel_addr)


class TrustedClusters(Message):
    """All other clusters, each time anew: there are few, and who missed a change needs no second way."""

    clusters: tuple[TrustedPeer, ...] = Field(default=())
    statements: Statements = ()
    """What they are to be told of our own authorities; proxies alone are told that."""


class LeafRequest(Message):
    """A cluster that shows a token of kind trusted_cluster, as the proxy got it: it asks to become our leaf."""

    token: Secret
    cluster: Text
    host_keys: tuple[PublicKey, ...] = Field(min_length=1, max_length=16)
    """Its host CA, the key that signs first."""
    proof: Text
    """The signature of that key (`runtime.pki.introduction.vouch`)."""
    address: Text
    """The TCP peer of the proxy."""


class RootReply(Message):
    """Whom a new leaf may believe."""

    cluster: Text
    host_keys: tuple[PublicKey, ...]
    user_keys: tuple[PublicKey, ...]


class ClusterName(Message):
    """One cluster by name."""

    name: Text


class TrustStanding(Message):
    """How it stands with one TrustedCluster (`runtime.core.trust_status`)."""

    name: Text
    reason: Text
    message: Annotated[str, Field(max_length=8192)]
    fingerprints: tuple[Text, ...] = ()
    digest: Text = ""


class TrustStatuses(Message):
    """How it stands with those that auth has looked at."""

    clusters: tuple[TrustStanding, ...]
