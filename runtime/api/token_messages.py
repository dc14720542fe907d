"""Join tokens."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from runtime.api.messages import Labels, Message, Secret, Text
from runtime.core.defaults import JOIN_TOKEN_TTL


class TokenRequest(Message):
    """A join token to create. Without a value one of 128 random bits is made."""

    roles: tuple[Literal["node", "proxy", "auth", "trusted_cluster"], ...] = Field(min_length=1)
    ttl: timedelta = JOIN_TOKEN_TTL
    value: Secret | None = None
    max_uses: int | None = Field(default=None, ge=1)
    labels: Labels = Field(default_factory=dict)


class TokenEntry(Message):
    """A token in full, for administrators only. `expires` None: a static one, from teleport.yaml, never ends."""

    token: Text
    """Empty for a declared one: its value is in its Secret, and auth does not know it."""
    roles: tuple[Text, ...]
    expires: datetime | None
    static: bool = False
    name: Text = ""
    """Of a declared one: that of its document."""


class TokenCreated(Message):
    """A new join token, and what a newcomer needs beside it."""

    entry: TokenEntry
    ca_pin: Text
    auth_servers: tuple[Text, ...]


class TokenList(Message):
    """Tokens, static ones first, then by expiry."""

    tokens: tuple[TokenEntry, ...]


class TokenValue(Message):
    """A token by its value."""

    token: Secret
