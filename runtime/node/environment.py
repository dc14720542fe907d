"""The environment of a session: what the client may set, and what we tell. Pure.

What belongs to the login (HOME, USER, SHELL, PATH, …) the child makes itself, from the system's own records.
"""

from __future__ import annotations

import re
from typing import Protocol

MAX_VARIABLES = 32
"""There are 13 LC_ names in POSIX and glibc."""
MAX_VALUE_BYTES = 1024

_PERMITTED = re.compile(rb"LANG|LC_[A-Za-z0-9_]{1,32}")
"""What sshd of Debian takes (AcceptEnv). LD_PRELOAD, BASH_ENV and the like would run code of the client's choice before
a forced command."""
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


class ClientVariables:
    """The variables that one client has set, as far as they are permitted."""

    def __init__(self) -> None:
        self._variables: dict[str, str] = {}

    def take(self, name: bytes, value: bytes) -> bool:
        """Take one, or refuse it with False."""
        if not _PERMITTED.fullmatch(name) or len(value) > MAX_VALUE_BYTES or b"\0" in value:
            return False
        text = name.decode("ascii")
        if text not in self._variables and len(self._variables) >= MAX_VARIABLES:
            return False
        self._variables[text] = value.decode("utf-8", "surrogateescape")
        return True

    def all(self) -> dict[str, str]:
        """Return those taken."""
        return dict(self._variables)


def terminal_type(term: str) -> str:
    """Return what TERM is to be: as the client says if it can name a terminal, else `dumb`."""
    return term if _TERM.fullmatch(term) else "dumb"


class Address(Protocol):
    """One end of a TCP connection."""

    @property
    def host(self) -> str:
        """The IP address."""
        ...

    @property
    def port(self) -> int:
        """The port."""
        ...


def session_environment(
    *, session: str, user: str, cluster: str, host_id: str, peer: Address, local: Address
) -> dict[str, str]:
    """Return the variables with which a session knows what it is: sshd's own (ssh(1), "ENVIRONMENT"), and ours.

    `teleport status` reads them.
    """
    return {
        "SSH_CONNECTION": f"{peer.host} {peer.port} {local.host} {local.port}",
        "SSH_CLIENT": f"{peer.host} {peer.port} {local.port}",
        "SSH_SESSION_ID": session,
        "SSH_TELEPORT_USER": user,
        "SSH_TELEPORT_CLUSTER_NAME": cluster,
        "SSH_TELEPORT_HOST_UUID": host_id,
    }
