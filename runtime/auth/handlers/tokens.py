"""The methods by which an administrator has tokens to join with."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.token_messages import TokenCreated, TokenEntry, TokenList, TokenRequest, TokenValue
from runtime.audit.events import EventType
from runtime.audit.log import Field
from runtime.auth.declared_invites import invite_of
from runtime.auth.dispatch import Dispatcher
from runtime.auth.handlers.parts import Parts
from runtime.auth.invites import Invite
from runtime.auth.membership import ca_pins
from runtime.auth.tokens import JoinToken
from runtime.core.callers import Caller
from runtime.core.errors import InvalidInput, NotFound
from runtime.core.resources import User
from runtime.core.resources.names import Labels
from runtime.core.resources.token import TokenRole, digest_of

_LABELS: TypeAdapter[Mapping[str, str]] = TypeAdapter(Labels)


class TokenHandlers:
    """Join tokens, and the invites among them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on(methods.TOKENS_CREATE, self.create_token)
        dispatcher.on(methods.TOKENS_LIST, self.list_tokens)
        dispatcher.on(methods.TOKENS_DELETE, self.delete_token)

    async def create_token(self, caller: Caller, params: TokenRequest) -> TokenCreated:
        """Make a join token. Raises InvalidInput, AlreadyExists."""
        _check_labels(params.labels)
        only_clusters = params.roles == (TokenRole.TRUSTED_CLUSTER.value,)
        token = await self._parts.tokens.create(
            params.roles,
            params.ttl,
            value=params.value.get_secret_value() if params.value else None,
            max_uses=params.max_uses or (1 if only_clusters else None),
            labels=params.labels,
        )
        self._parts.audit.emit(EventType.TOKEN_CREATED, **_told(token), by=str(caller))
        return TokenCreated(entry=_entry(token), ca_pin=self.ca_pin(), auth_servers=tuple(self._parts.auth_servers()))

    async def list_tokens(self, caller: Caller, params: Nothing) -> TokenList:
        """List join tokens and open invites."""
        minted = [_invite_entry(invite) for invite in await self._parts.invites.open() if invite.token]
        declared = [_declared_entry(user) for user in await self._parts.invites.declared.good()]
        return TokenList(tokens=(*map(_entry, await self._parts.tokens.list()), *minted, *declared))

    async def delete_token(self, caller: Caller, params: TokenValue) -> Nothing:
        """Revoke a join token or an invite. Raises NotFound, InvalidInput for a static token."""
        value = params.token.get_secret_value()
        told: dict[str, Field] = {}
        for token in await self._parts.tokens.list():
            if digest_of(token.token) == digest_of(value):
                told = _told(token)
        try:
            await self._parts.tokens.revoke(value)
        except NotFound as error:
            try:
                told = {"roles": ["signup"], "user": await self._parts.invites.revoke(value)}
            except NotFound:
                raise error from None
        self._parts.audit.emit(EventType.TOKEN_DELETED, **told, by=str(caller))
        return Nothing()

    def ca_pin(self) -> str:
        """Return the fingerprint that a newcomer checks auth's host CA against (--ca-pin)."""
        return ca_pins(self._parts.issuer.authorities)[0]


def _check_labels(labels: dict[str, str]) -> None:
    """Refuse what a document could not name as a node's labels. Raises InvalidInput."""
    try:
        _LABELS.validate_python(labels)
    except ValidationError as error:
        raise InvalidInput(f"the labels of a token: {error.errors()[0]['msg']}") from None


def _told(token: JoinToken) -> dict[str, Field]:
    """Return what the audit log says of a token: all but its value."""
    told: dict[str, Field] = {"roles": list(token.roles)}
    if token.expires is not None:
        told["expires"] = f"{token.expires:%Y-%m-%dT%H:%M:%SZ}"
    if token.uses_left is not None:
        told["uses_left"] = token.uses_left
    if token.labels:
        told["labels"] = [f"{name}={value}" for name, value in sorted(token.labels.items())]
    return told


def _entry(token: JoinToken) -> TokenEntry:
    return TokenEntry(token=token.token, roles=token.roles, expires=token.expires, static=token.static, name=token.name)


def _invite_entry(invite: Invite) -> TokenEntry:
    return TokenEntry(token=invite.token, roles=("signup",), expires=invite.expires)


def _declared_entry(user: User) -> TokenEntry:
    """Return the invite of a declared user; its token is nowhere but in its Secret."""
    return TokenEntry(token="", roles=("signup",), expires=invite_of(user).expires, name=user.name)
