"""What auth tells of the cluster: who it is, how people log in, and whom to trust."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from runtime.api.messages import Message, PublicKey, Text

SecondFactor = Literal["off", "otp", "u2f"]


class Pong(Message):
    """Who answers, how people log in, and auth's clock, by which a caller notices that its own is off."""

    cluster: Text
    version: Text
    time: datetime
    second_factor: SecondFactor
    dynamic_config: bool = True
    """Whether the storage is the truth; else teleport.yaml is, and documents are not taken."""


class AuthorityKeys(Message):
    """The public half of one authority: what others trust. `keys` starts with the one that signs."""

    cluster: Text
    type: Literal["user", "host"]
    keys: tuple[PublicKey, ...]


class Authorities(Message):
    """All authorities that this cluster trusts, its own first."""

    authorities: tuple[AuthorityKeys, ...]
    statements: tuple[str, ...] = ()
    """How the keys of its own came, in their own signed words (`runtime.core.succession`): for who knew older ones."""
