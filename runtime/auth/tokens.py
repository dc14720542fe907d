"""Join tokens: static ones of teleport.yaml, dynamic ones kept under the hash of their value, and declared ones."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from runtime.auth.declared_tokens import DeclaredTokens
from runtime.auth.invites import new_token, token_id
from runtime.backend.base import Backend
from runtime.core.clock import Clock
from runtime.core.defaults import MAX_CERTIFICATE_TTL, MIN_CERTIFICATE_TTL
from runtime.core.durations import format_duration
from runtime.core.errors import AccessDenied, AlreadyExists, CompareFailed, InvalidInput, NotFound, Unavailable
from runtime.core.keys import SECRETS
from runtime.core.resources import Token
from runtime.core.resources.token import check_value

_PREFIX = f"{SECRETS}/token/"
_TRIES = 100

_REFUSED = "the token is not valid"
_REFUSED_HINT = "It may have expired or been revoked: make a new one with tctl nodes add."


class JoinToken(BaseModel):
    """A token as it is stored. `expires` None and `static` for one from teleport.yaml; `name` for a declared one."""

    model_config = ConfigDict(frozen=True)

    token: str = Field(repr=False)
    roles: tuple[str, ...]
    expires: datetime | None = None
    static: bool = False
    uses_left: int | None = None
    """How many members may still join with it; None for any number."""
    labels: dict[str, str] = {}
    name: str = ""


class JoinTokens:
    """Makes, lists, revokes and redeems join tokens."""

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        static: Sequence[JoinToken] = (),
        *,
        token: Callable[[], str] = new_token,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self.static = tuple(static)
        """Those of the configuration; they may change while auth runs."""
        self._new_token = token
        self._declared = DeclaredTokens(backend, clock)

    async def create(
        self,
        roles: tuple[str, ...],
        ttl: timedelta,
        *,
        value: str | None = None,
        max_uses: int | None = None,
        labels: dict[str, str] | None = None,
    ) -> JoinToken:
        """Return a new token, with a random value unless one is given. Raises InvalidInput, AlreadyExists."""
        if not MIN_CERTIFICATE_TTL <= ttl <= MAX_CERTIFICATE_TTL:
            raise InvalidInput(
                f"a token cannot live for {format_duration(max(timedelta(), ttl))}",
                hint=f"Choose from {format_duration(MIN_CERTIFICATE_TTL)} to {format_duration(MAX_CERTIFICATE_TTL)}.",
            )
        if value is not None:
            check_value(value)
        expires = self._clock.now() + ttl
        token = JoinToken(
            token=value or self._new_token(), roles=roles, expires=expires, uses_left=max_uses, labels=labels or {}
        )
        try:
            await self._backend.create(_key(token.token), _encode(token), expires=expires)
        except AlreadyExists:
            raise AlreadyExists("there is such a token already", hint="Revoke it first: tctl tokens del.") from None
        return token

    async def list(self) -> list[JoinToken]:
        """Return all tokens that are good now: static ones, then by expiry."""
        items = (await self._backend.range(_PREFIX)).items
        dynamic = [JoinToken.model_validate_json(item.value) for item in items]
        dynamic += [_of(token) for token in await self._declared.good()]
        return [*self.static, *sorted(dynamic, key=lambda token: (str(token.expires), token.token))]

    async def revoke(self, value: str) -> None:
        """Delete a token. Raises NotFound, InvalidInput for one that is static or declared."""
        if self._find_static(value):
            raise InvalidInput(
                "this is a static token: it stands in teleport.yaml and cannot be revoked here",
                hint="Remove it from auth_service.tokens on each auth server and restart them.",
            )
        try:
            await self._backend.delete(_key(value))
        except NotFound:
            if declared := await self._declared.find(value):
                raise InvalidInput(
                    f"this token is declared by a document: Token {declared.name}",
                    hint=f"Delete that: tctl rm token/{declared.name}, or with kubectl where it was applied so.",
                ) from None
            raise NotFound("there is no such token", hint="See tctl tokens ls; it may have expired.") from None

    async def redeem(self, value: str, roles: Sequence[str]) -> JoinToken:
        """Use a token up once for these roles, and return it.

        Raises AccessDenied, which does not say what was wrong with a guess. Only who holds a good token is told that it
        is for another role.
        """
        if static := self._find_static(value):
            _check_roles(static, roles)
            return static
        for _ in range(_TRIES):
            try:
                item = await self._backend.get(_key(value))
            except NotFound:
                if declared := await self._declared.redeem(value, lambda token: _check_roles(_of(token), roles)):
                    return _of(declared)
                raise AccessDenied(_REFUSED, hint=_REFUSED_HINT) from None
            token = JoinToken.model_validate_json(item.value)
            _check_roles(token, roles)
            if token.uses_left is None:
                return token
            left = token.model_copy(update={"uses_left": token.uses_left - 1})
            with suppress(CompareFailed):
                if left.uses_left:
                    await self._backend.compare_and_swap(
                        item.key, _encode(left), revision=item.revision, expires=item.expires
                    )
                else:
                    await self._backend.delete(item.key, revision=item.revision)
                return left
        raise Unavailable("too many members join with this token at once", hint="Try again in a few seconds.")

    async def check(self, value: str, roles: Sequence[str]) -> None:
        """Refuse what `redeem` would refuse now, and use nothing up. Raises AccessDenied."""
        token = self._find_static(value)
        if token is None:
            try:
                token = JoinToken.model_validate_json((await self._backend.get(_key(value))).value)
            except NotFound:
                declared = await self._declared.find(value)
                if declared is None:
                    raise AccessDenied(_REFUSED, hint=_REFUSED_HINT) from None
                token = _of(declared)
        _check_roles(token, roles)

    def _find_static(self, value: str) -> JoinToken | None:
        """Return the static token of this value; the time does not tell how near a guess was."""
        guess, found = value.encode(errors="surrogatepass"), None
        for token in self.static:
            if hmac.compare_digest(token.token.encode(), guess):
                found = token
        return found


def _key(value: str) -> str:
    return _PREFIX + token_id(value)


def _of(declared: Token) -> JoinToken:
    """Return a declared token as one; its value is nowhere but in its Secret."""
    return JoinToken(
        token="",
        roles=tuple(map(str, declared.spec.roles)),
        expires=declared.expires,
        uses_left=declared.uses_left,
        labels=dict(declared.spec.labels),
        name=declared.name,
    )


def _encode(token: JoinToken) -> bytes:
    return token.model_dump_json().encode()


def _check_roles(token: JoinToken, roles: Sequence[str]) -> None:
    for role in roles:
        if role not in token.roles:
            allowed = ",".join(token.roles)
            raise AccessDenied(
                f"the token lets nobody join as {role}, only as {allowed}",
                hint=f"Start with --roles={allowed}, or make a token for it: tctl nodes add --roles={role}.",
            )
