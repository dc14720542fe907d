"""The Secret `NAME-invite` with a user's token and link: nothing else holds either.

It is written before the backend hears of the token's digest. Killed in between, the next look finds a token that
nobody knows yet, and goes on with it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runtime.core.defaults import SIGNUP_TTL
from runtime.core.errors import AlreadyExists, CompareFailed, InvalidInput, NotFound, Unavailable
from runtime.core.resources import API_VERSION, SignupInvite, User
from runtime.core.resources.token import check_value, digest_of
from runtime.core.resources.user import RENEW_INVITE
from teleport_operator.facts import Facts
from teleport_operator.secrets.tokens import Objects
from teleport_operator.verdicts.conditions import Reason
from teleport_operator.verdicts.invitations import Invitation, is_due, secret_name
from teleport_operator.verdicts.reconciling import Unready

_ATTEMPTS = 3
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class _Content:
    """A token that is in the Secret, and how long it is good."""

    token: str
    expires: datetime

    @property
    def digest(self) -> str:
        return digest_of(self.token)


class InviteSecret:
    """The Secret of one user."""

    def __init__(
        self, objects: Objects, user: User, uid: str, facts: Facts, *, now: datetime, new_token: Callable[[], str]
    ) -> None:
        """Take the document; `uid` is its object's."""
        self._objects = objects
        self._user = user
        self._uid = uid
        self._facts = facts
        self._now = now
        self._new_token = new_token
        self._name = secret_name(user)
        self._collection = f"/api/v1/namespaces/{user.metadata.namespace}/secrets"

    async def settle(self, before: User | None, *, consumed: bool) -> Invitation:
        """See to it that the Secret has what the document asks for; `before` is the record that is there.

        `consumed` says that the user's status has seen the token used. Raises Unready for a Secret that is somebody
        else's, and what the API server raises.
        """
        if self._user.spec.credentials_secret_ref is not None:
            return Invitation()
        known = before.metadata.invite if before else None
        if is_due(self._user, before):
            # Killed before the record was written, this is where to go on; a token that was used is nowhere to go on.
            spent = before is None and consumed
            return await self._mint(
                lambda secret, found: (
                    not spent and self._is_for_this(secret) and (known is None or known.digest != found.digest)
                )
            )
        if known is None or not known.is_good(self._now):
            return Invitation()
        return await self._mint(lambda _, found: known.digest == found.digest, known)

    async def _mint(
        self, usable: Callable[[Mapping[str, Any], _Content], bool], known: SignupInvite | None = None
    ) -> Invitation:
        """Return the invite whose token is in the Secret, which gets a new one unless that is usable."""
        for _ in range(_ATTEMPTS):
            if known is None:
                content = self._new()
                with suppress(AlreadyExists):
                    await self._objects.create(self._collection, self._secret(content))
                    return self._invited(content)
            try:
                secret = await self._objects.get(f"{self._collection}/{self._name}")
            except NotFound:
                known = None  # with it the token is gone, or it is being made for the first time
                continue
            self._check_ours(secret)
            found = self._read(secret)
            fresh = found is None or not usable(secret, found)
            if found is None or fresh:
                content, known = self._new(), None
            else:
                content = found
            try:
                await self._write(secret, content, fresh=fresh)
            except (CompareFailed, NotFound):
                continue
            return self._invited(content, known)
        raise Unavailable(f"the Secret {self._name} was changed by others {_ATTEMPTS} times while it was written")

    def _new(self) -> _Content:
        ttl = self._user.spec.invite.ttl if self._user.spec.invite else SIGNUP_TTL
        return _Content(self._new_token(), (self._now + ttl).replace(microsecond=0))

    def _invited(self, content: _Content, known: SignupInvite | None = None) -> Invitation:
        linked = bool(self._facts.web)
        if known is not None:
            return Invitation(linked=linked)
        return Invitation(SignupInvite(digest=content.digest, issued=self._now, expires=content.expires), linked)

    def _data(self, content: _Content) -> dict[str, str]:
        data = {"token": content.token, "url": self._facts.link(content.token), "expires": f"{content.expires:{_TIME}}"}
        return {key: value for key, value in data.items() if value}

    def _notes(self) -> dict[str, str]:
        return {RENEW_INVITE: self._user.renewal} if self._user.renewal else {}

    def _secret(self, content: _Content) -> dict[str, object]:
        owner = {
            "apiVersion": API_VERSION,
            "kind": "User",
            "name": self._user.name,
            "uid": self._uid,
            "controller": True,
        }
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self._name,
                "namespace": self._user.metadata.namespace,
                "labels": {"app.kubernetes.io/managed-by": "teleport-operator"},
                "annotations": self._notes(),
                "ownerReferences": [owner],
            },
            "type": "Opaque",
            "stringData": self._data(content),
        }

    async def _write(self, secret: Mapping[str, Any], content: _Content, *, fresh: bool) -> None:
        """Have the Secret of that version hold this. Raises CompareFailed, NotFound."""
        before, metadata = secret.get("data") or {}, secret["metadata"]
        data = {key: base64.b64encode(value.encode()).decode() for key, value in self._data(content).items()}
        if fresh:
            others = {key: note for key, note in (metadata.get("annotations") or {}).items() if key != RENEW_INVITE}
            metadata = {**metadata, "annotations": {**others, **self._notes()}}
        else:
            data = {**before, **data}  # a link that is there stays while nobody says where the proxy is
        if fresh or data != before:
            await self._objects.replace(
                f"{self._collection}/{self._name}", {**secret, "metadata": metadata, "data": data}
            )

    def _is_for_this(self, secret: Mapping[str, Any]) -> bool:
        """Return whether the Secret was made for what the document asks for now, not for an earlier renewal."""
        return bool((secret["metadata"].get("annotations") or {}).get(RENEW_INVITE) == self._user.renewal)

    def _read(self, secret: Mapping[str, Any]) -> _Content | None:
        """Return the token in the Secret; None if there is none that somebody could still sign up with."""
        data = secret.get("data") or {}
        try:
            token, expires = (base64.b64decode(data[key]).decode() for key in ("token", "expires"))
            check_value(token)
            content = _Content(token, datetime.strptime(expires, _TIME).replace(tzinfo=self._now.tzinfo))
        except (KeyError, ValueError, binascii.Error, InvalidInput):
            return None
        return content if self._now < content.expires else None

    def _check_ours(self, secret: Mapping[str, Any]) -> None:
        """Refuse a Secret that was not made for this User. Raises Unready, Unavailable."""
        owners = secret["metadata"].get("ownerReferences") or []
        if any(each["uid"] == self._uid for each in owners):
            return
        if any(each["kind"] == "User" and each["name"] == self._user.name for each in owners):
            raise Unavailable(f"the Secret {self._name} belongs to an earlier User of that name, and goes with it")
        raise Unready(
            Reason.SECRET_TAKEN,
            f"the Secret {self._name}, in which the invite would be, is somebody else's",
            hint="Delete or rename it.",
        )
