"""Words with which a client says that it comes to join a running session; tsh and nodes have them from here.

The way in is SSH: a session channel on the node, with the session's id in an environment variable before the shell. One
logs in as who one may be there, or, with no login of one's own there, as JOIN_LOGIN, which opens nothing else.
"""

from __future__ import annotations

from enum import StrEnum

JOIN_LOGIN = "join:teleport.internal"
"""A principal of people's certificates that no system can have as a user: a colon ends the name in passwd(5).

So no sshd that trusts the user CA lets it in (it cuts a login at the first colon, besides, and compares the rest with
the principals), and an older node, which does not know it, refuses it.
"""
SESSION_VARIABLE = "TELEPORT_SESSION"
"""The id of the session to join."""
MODE_VARIABLE = "TELEPORT_SESSION_MODE"
"""How: a `Mode`. Without it as a peer if that is allowed, else as an observer."""


class Mode(StrEnum):
    """What somebody does in a session that another one has opened."""

    PEER = "peer"
    """Takes part: types, and has a say in the terminal's size."""
    OBSERVER = "observer"
    """Watches."""
