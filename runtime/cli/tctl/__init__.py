"""tctl: administers a cluster, from the machine on which auth runs or with an identity that was signed there.

One module for each group of commands. What takes long to import (asyncssh) is imported when auth is called, so that
help, completion and mistakes in the command line answer at once.
"""

from __future__ import annotations

from typing import NoReturn

from runtime.cli import completion
from runtime.cli.common import program
from runtime.cli.tctl import (
    audit,
    authorities,
    events,
    nodes,
    plan,
    recordings,
    resources,
    rotating,
    sessions,
    tokens,
    tunnels,
    users,
)
from runtime.cli.tctl.connection import connecting

tctl = connecting(program("tctl", "Administer a Teleport cluster."))
authorities.auth.add_command(rotating.rotate)
for command in (
    users.users,
    nodes.nodes,
    tokens.tokens,
    authorities.auth,
    tunnels.tunnels,
    audit.audit,
    events.events,
    recordings.recordings,
    sessions.sessions,
    resources.get,
    resources.create,
    resources.remove,
    plan.plan,
    plan.apply,
):
    tctl.add_command(command)
completion.add_completion(tctl)


def main() -> NoReturn:
    """Run tctl as a process."""
    completion.run(tctl)
