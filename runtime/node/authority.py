"""Who gets in: the one function that says what a person may do on this node, asked at login and at each channel.

A certificate says who somebody is, and what this person could do when it was issued. What counts is what the user may
do now: users and roles are followed from auth, and kept for when it is away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from runtime.core.access import Grant, access_to_node
from runtime.core.errors import AccessDenied
from runtime.core.joining import JOIN_LOGIN, Mode
from runtime.core.resources import Role, User
from runtime.core.session_access import Owned, part_in
from runtime.pki.identity import UserIdentity
from runtime.pki.standing import check_source, check_standing, holder
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
        """Return the person whom a certificate lets in as `login`. Raises AccessDenied.

        As JOIN_LOGIN it is anybody who has it in the certificate: it opens nothing that is not decided on by itself.
        """
        identity = verify_user(certificate, self._trust(), self._now())
        check_source(identity, peer.host)
        if login == JOIN_LOGIN and identity.join_sessions:
            self._stands(identity)
        else:
            self.authorise(identity, login)
        return identity

    def authorise(self, identity: UserIdentity, login: str) -> Grant:
        """Return what the person may do as `login` on this node at this moment. Raises AccessDenied."""
        check_standing(identity, self._trust(), self._now(), cluster=self._cluster)
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
        return part_in(self._people.user(identity.user), self._people.roles, self._labels(), session, wanted)

    def _stands(self, identity: UserIdentity) -> User:
        check_standing(identity, self._trust(), self._now(), cluster=self._cluster)
        if identity.force_command is not None:
            raise AccessDenied("the certificate is for running one command, and for nothing else")
        return self._people.user(identity.user)

    def holder(self, certificate: bytes) -> str | None:
        """Return the user to whom an authority of ours has given a certificate, be it expired; None for a stranger's.

        Who shows such a one may know why it is refused.
        """
        return holder(certificate, self._trust())
