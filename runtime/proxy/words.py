"""What the proxy's SSH tells people, and the audit log of them: the same words at our port and through a tunnel."""

from __future__ import annotations

from runtime.core.errors import TeleportError
from runtime.pki.identity import UserIdentity
from runtime.service.logs import one_line
from runtime.service.values import Address
from runtime.transport.capture import Proved
from runtime.transport.guards import Peer

OK, ENDED = 0, 1
"""Exit statuses. Who gets 1 was told why, or the node said the last word; 255 is ssh's own for not getting here."""


def told(error: TeleportError) -> str:
    """Return an error as the lines that a person reads on a terminal."""
    lines = [*str(error).split("\n"), *filter(None, [error.hint])]
    return "\r\n".join(f"teleport: {one_line(line)}" for line in lines)


def who(proved: Proved[UserIdentity]) -> dict[str, str]:
    """Return the fields of an audit event that say who somebody at our port is."""
    return {
        "user": proved.identity.user,
        "login": proved.login,
        **addresses(proved.peer, proved.local),
    }


def addresses(peer: Peer, local: Peer) -> dict[str, str]:
    """Return the fields that say from where somebody came, and to which address of ours."""
    return {"addr.remote": str(Address(*peer)), "addr.local": str(Address(*local))}
