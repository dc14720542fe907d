"""Who calls auth: the kinds of callers, each of which has an explicit list of methods (`runtime.api.methods`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CallerKind(StrEnum):
    """What a caller proved to be: by a certificate of the host CA a member or admin, by one of the user CA a user."""

    NOBODY = "nobody"
    """Somebody with an ephemeral key and no certificate: may only join, with a token."""
    NODE = "node"
    PROXY = "proxy"
    AUTH = "auth"
    USER = "user"
    ADMIN = "admin"
    """tctl, with the identity that auth keeps in its data_dir or that was exported from it."""


MEMBERS = frozenset({CallerKind.NODE, CallerKind.PROXY, CallerKind.AUTH})
"""Services of the cluster: what a join token can make."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One proved caller: `name` is a member's id or a user's name ("" for nobody), `address` the TCP peer's."""

    kind: CallerKind
    name: str
    address: str

    def __str__(self) -> str:
        """Return the caller as logs and errors show it."""
        return f"{self.kind} {self.name}".rstrip() + f" at {self.address}"
