"""`teleport status`: which session this is, from what the node has put into its environment."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from runtime.cli.console import visible
from runtime.core.errors import NotFound


def status(environment: Mapping[str, str], *, host: str | None = None) -> str:
    """Return the lines to show, for the machine named `host` (by default, this one).

    Raises NotFound outside of a session.
    """
    names = {
        "user": "SSH_TELEPORT_USER",
        "cluster": "SSH_TELEPORT_CLUSTER_NAME",
        "host_id": "SSH_TELEPORT_HOST_UUID",
        "session": "SSH_SESSION_ID",
        "connection": "SSH_CONNECTION",
        "login": "LOGNAME",
    }
    found = {what: visible(environment[name]) for what, name in names.items() if name in environment}
    if found.keys() != names.keys():
        raise NotFound(
            "this is not a session of Teleport",
            hint="The command tells about the session that it is run in: tsh ssh HOST teleport status",
        )
    origin = found["connection"].split(" ")[0]
    rows = {
        "User": f"{found['user']}, logged in as {found['login']} from {origin}",
        "Cluster": found["cluster"],
        "Node": f"{visible(host or socket.gethostname())} ({found['host_id']})",
        "Session": found["session"],
    }
    return "".join(f"{name:<8}: {value}\n" for name, value in rows.items())
