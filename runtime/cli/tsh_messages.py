"""What tsh and a proxy tell each other (`runtime.proxy.webapi`), as plain data that loads quickly."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Ping:
    """Who answers: the cluster, its clock (aware, UTC), how people log in, and where SSH is beside this."""

    cluster: str
    version: str
    time: datetime
    second_factor: str
    ssh_port: int
    ssh_host: str = ""
    """Empty: the host that was asked."""


@dataclass(frozen=True, slots=True)
class AuthorityKeys:
    """The public keys of one authority, `TYPE BASE64` each; `type` is user or host."""

    cluster: str
    type: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Authorities:
    """Whom a proxy says to believe now: its own cluster's authorities, and the host authorities of those behind it."""

    cluster: str
    authorities: tuple[AuthorityKeys, ...]


@dataclass(frozen=True, slots=True)
class LoginReply:
    """What a login gives. Nothing of it is believed before `runtime.cli.tsh_certificate` has looked at it."""

    user: str
    certificate: str
    cluster: str
    authorities: tuple[AuthorityKeys, ...]


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """What a person typed, and the public key that is to be certified. `ttl` None: as long as the cluster allows."""

    user: str
    password: str = field(repr=False)
    otp: str = field(repr=False)
    public_key: str
    ttl: timedelta | None = None
