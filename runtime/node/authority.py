"""Who gets in: the one function that says what a person may do on this node, asked at login and at each channel.

A certificate says who somebody is, and what this person could do when it was issued. What counts is what the user may
do now: users and roles are followed from auth, and kept for when it is away. A person of a trusted cluster is a guest
(`runtime.core.guests`), whose name here, also in what is audited and recorded, is `USER@CLUSTER`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from runtime.api.trust_messages import TrustedPeer
from runtime.core.access import Grant, access_to_node, still_the_same
from runtime.core.errors import AccessDenied
from runtime.core.guests import guest, guest_name
from runtime.core.joining import JOIN_LOGIN, Mode
from runtime.core.resources import Role, User
from runtime.core.resources.authority import AuthorityType
from runtime.core.session_access import Owned, part_in
from runtime.pki.certificate import read_certificate
from runtime.pki.identity import UserIdentity
from runtime.pki.standing import check_source, check_standing, holder
from runtime.pki.trust import Trust
from runtime.pki.verify import verify_user
from runtime.service.trusting import trust_in, welcome_of


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
        clusters: Callable[[], Mapping[str, TrustedPeer]] = dict,
        known: Callable[[], Trust] | None = None,
    ) -> None:
        """Take what decisions rest on.

        `known` has beside those of `trust` the authorities that were trusted once; nothing is decided by it.
        `only_login` is the one login that a node has which does not run as root; `clusters` are those that are trusted.
        """
        self._cluster = cluster
        self._trust = trust
        self._known = known or trust
        self._people = people
        self._labels = labels
        self._now = now
        self._only_login = only_login
        self._clusters = clusters
        self._believed: tuple[Mapping[str, TrustedPeer], Trust] | None = None

    def validate(self, login: str, certificate: bytes, peer: Peer) -> UserIdentity:
        """Return the person whom a certificate lets in as `login`. Raises AccessDenied.

        As JOIN_LOGIN it is anybody who has it in the certificate: it opens nothing that is not decided on by itself.
        """
        identity = self._prove(certificate)
        check_source(identity, peer.host)
        if login == JOIN_LOGIN and identity.join_sessions:
            self._stands(identity)
        else:
            self.authorise(identity, login)
        return identity

    def authorise(self, identity: UserIdentity, login: str) -> Grant:
        """Return what the person may do as `login` on this node at this moment. Raises AccessDenied."""
        self._check_standing(identity)
        if login not in identity.logins:
            raise AccessDenied(
                f"the certificate of user {identity.user} is for {', '.join(identity.logins)}, not for {login[:64]!a}",
                hint="After a change of the user's logins, log in again: tsh login.",
            )
        user, roles = self._person(identity)
        grant = access_to_node(user, roles, self._labels(), login)
        if self._only_login not in (None, login):
            raise AccessDenied(
                f"this node runs as {self._only_login}, so {self._only_login} is the one login here, not {login}",
                hint="A node that is to have others has to run as root.",
            )
        return grant

    def part_in(self, identity: UserIdentity, session: Owned, wanted: Mode | None) -> Mode:
        """Return as what the person may be in a session here that is running, at this moment. Raises AccessDenied."""
        self._stands(identity)
        mode = self.still_in(identity, session, wanted)
        if mode is Mode.OBSERVER or session.login in identity.logins:
            return mode
        if wanted is Mode.PEER:
            self.authorise(identity, session.login)  # which says why not
        return Mode.OBSERVER

    def still_in(self, identity: UserIdentity, session: Owned, wanted: Mode | None) -> Mode:
        """Return the same for somebody who is in it: as with any session, the end of a certificate ends nothing."""
        user, roles = self._person(identity)
        return part_in(user, roles, self._labels(), session, wanted)

    def base_of(self, identity: UserIdentity) -> str:
        """Return what the trust in a guest's cluster stands on now; "" for people of this one."""
        peer = self._clusters().get(identity.cluster) if identity.cluster != self._cluster else None
        return peer.base if peer is not None else ""

    def end_of(self, identity: UserIdentity, base: str) -> str:
        """Return why somebody may not even stay who came while trust in that cluster stood on `base`; "" if it may.

        Guests whose cluster is not trusted any more go at once, and those of keys that others were pinned in place of.
        Keys that were succeeded by others of the same cluster, and rights that were taken, end nothing that is open.
        """
        if identity.cluster == self._cluster:
            return ""
        peer = self._clusters().get(identity.cluster)
        if peer is None:
            return f"cluster {identity.cluster} is not trusted here any more"
        if not peer.user_keys:
            return f"no user CA of cluster {identity.cluster} is trusted here any more"
        if peer.base != base and self._foreign().find(identity.proof.authority.key.blob) is None:
            return f"cluster {identity.cluster} is trusted by other keys than those of this certificate"
        return ""

    def _stands(self, identity: UserIdentity) -> User:
        self._check_standing(identity)
        if identity.force_command is not None:
            raise AccessDenied("the certificate is for running one command, and for nothing else")
        return self._person(identity)[0]

    def _prove(self, certificate: bytes) -> UserIdentity:
        """Return who holds a certificate: of this cluster, or by the name of a guest. Raises AccessDenied."""
        if not self._is_foreign(certificate):
            return verify_user(certificate, self._trust(), self._now())
        identity = verify_user(certificate, self._foreign(), self._now())
        return replace(identity, user=guest_name(identity.user, identity.cluster))

    def _is_foreign(self, certificate: bytes) -> bool:
        """Tell whether it is signed by a user CA of a trusted cluster, and by none of ours. Raises AccessDenied."""
        signer = read_certificate(certificate).signature.ca_key
        return self._trust().find(signer) is None and self._foreign().find(signer) is not None

    def _foreign(self) -> Trust:
        """Return the user CAs of trusted clusters, none of which is called as this one."""
        clusters = self._clusters()
        if self._believed is None or self._believed[0] is not clusters:
            others = {name: peer for name, peer in clusters.items() if name != self._cluster}
            self._believed = clusters, trust_in(others, AuthorityType.USER)
        return self._believed[1]

    def _check_standing(self, identity: UserIdentity) -> None:
        if identity.cluster == self._cluster:
            return check_standing(identity, self._trust(), self._now(), cluster=self._cluster)
        if identity.cluster not in self._clusters():
            raise AccessDenied(f"cluster {identity.cluster} is not trusted here any more")
        return check_standing(identity, self._foreign(), self._now(), cluster=identity.cluster)

    def _person(self, identity: UserIdentity) -> tuple[User, Mapping[str, Role]]:
        """Return the user as it is now, and the roles that there are. Raises AccessDenied."""
        if identity.cluster == self._cluster:
            return still_the_same(self._people.user(identity.user), identity.person), self._people.roles
        peer = self._clusters().get(identity.cluster)
        if peer is None:
            raise AccessDenied(f"cluster {identity.cluster} is not trusted here any more")
        name = identity.user.removesuffix(f"@{identity.cluster}")
        return guest(name, identity.roles, welcome_of(peer), self._people.roles)

    def holder(self, certificate: bytes) -> str | None:
        """Return the user to whom an authority of ours has given a certificate; None for a stranger's.

        It may have expired, and the authority's key may have been replaced. Who shows such a one may know why it is
        refused.
        """
        user = holder(certificate, self._known())
        if user is not None or not self._clusters():
            return user
        try:
            return self._prove(certificate).user if self._is_foreign(certificate) else None
        except AccessDenied:
            return None
