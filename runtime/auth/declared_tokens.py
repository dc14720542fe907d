"""Join tokens that are declared: their values are issued, found and used up in the resource itself.

The document and what is kept of its value are one record, so that a token is good exactly as long as its document says:
no copy has to follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from pydantic import SecretStr

from runtime.auth.invites import new_token
from runtime.backend.base import Backend, Item
from runtime.core import keys
from runtime.core.clock import Clock
from runtime.core.errors import CompareFailed, InvalidResource, Unavailable
from runtime.core.resources import Resource, Token, TokenIssue, decode, encode
from runtime.core.resources.token import check_value, digest_of

_PREFIX = keys.resource_prefix("Token")
_TRIES = 100


class Issue:
    """Completes a document of kind Token with its value: the one given, else the one it has, else a new one.

    After it was written, `made` is the new one, for whoever declared the token to be told this once.
    """

    def __init__(self, value: str | None, *, now: datetime, token: Callable[[], str] = new_token) -> None:
        """Take the value, None for any. Raises InvalidInput for one that is easy to guess."""
        if value is not None:
            check_value(value)
        self._value = value
        self._now = now
        self._new_token = token
        self.made: SecretStr | None = None

    def __call__(self, resource: Resource, before: Resource | None) -> Resource:
        """Return the resource as it is to be written over `before`; what is no token, as it is."""
        self.made = None
        if not isinstance(resource, Token):
            return resource
        known = resource.with_issue(before.metadata.issued if isinstance(before, Token) else None)
        if self._value is None and known.metadata.issued is not None:
            return known
        value = self._value
        if value is None:
            value = self._new_token()
            self.made = SecretStr(value)
        return known.issued_as(digest_of(value), self._now)


class DeclaredTokens:
    """Finds and uses up declared tokens."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock

    async def good(self) -> list[Token]:
        """Return the tokens with which somebody can join now, by name."""
        now = self._clock.now()
        return [token for _, token in await self._all() if token.is_good(now)]

    async def find(self, value: str) -> Token | None:
        """Return the token with that value, if somebody can join with it now."""
        found = await self._found(value)
        return found[1] if found else None

    async def redeem(self, value: str, check: Callable[[Token], None]) -> Token | None:
        """Use a token up once, after `check` has accepted it, and return it; None if no good one has that value.

        Uses are counted where they are limited. Raises Unavailable, and what `check` raises.
        """
        for _ in range(_TRIES):
            found = await self._found(value)
            if found is None:
                return None
            item, token = found
            check(token)
            issued = token.metadata.issued
            if token.uses_left is None or issued is None:
                return token
            used = token.with_issue(TokenIssue(digest=issued.digest, since=issued.since, uses=issued.uses + 1))
            with suppress(CompareFailed):
                await self._backend.compare_and_swap(item.key, encode(used), revision=item.revision)
                return used
        raise Unavailable("too many members join with this token at once", hint="Try again in a few seconds.")

    async def _found(self, value: str) -> tuple[Item, Token] | None:
        digest, now = digest_of(value), self._clock.now()
        for item, token in await self._all():
            issued = token.metadata.issued
            if issued is not None and issued.digest == digest and token.is_good(now):
                return item, token
        return None

    async def _all(self) -> Sequence[tuple[Item, Token]]:
        tokens = []
        for item in (await self._backend.range(_PREFIX)).items:
            with suppress(InvalidResource):  # a newer version's: nobody joins with what cannot be judged
                tokens.append((item, decode(Token, item.value)))
        return tokens
