"""The limit of open files: many systems start a process with 1,024 and let it take more (RLIMIT_NOFILE)."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)

FILES_A_CONNECTION = 4
"""Its socket, and the other end of what is relayed or the pipes of a program."""
OTHER_FILES = 1024
"""Connections that wait to log in, and all that a process has open whoever is connected."""


def allow_connections(connections: int) -> None:
    """Raise the limit as far as that many connections may need; what the machine denies is logged."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections * FILES_A_CONNECTION + OTHER_FILES
    raised = raised_limit(soft, hard, wanted)
    if raised != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    if raised != resource.RLIM_INFINITY and raised < wanted:
        logger.warning(
            "%d files may be open at once; %d connections (connection_limits.max_connections) may need %d: "
            "raise the limit (LimitNOFILE= of systemd, ulimit -n)",
            raised,
            connections,
            wanted,
        )


def raised_limit(soft: int, hard: int, wanted: int) -> int:
    """Return what the soft limit is to be: never less than it is, never more than the hard one."""
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
