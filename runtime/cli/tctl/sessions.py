"""tctl sessions: what runs on the cluster's nodes now, and its end."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from runtime.cli import console
from runtime.cli.tables import table
from runtime.cli.tctl.connection import ask, connecting, with_auth
from runtime.cli.tctl.output import format_option, plain, show

if TYPE_CHECKING:
    from runtime.api.client import AuthClient
    from runtime.api.session_messages import SessionEntry
    from runtime.core.errors import NotFound

WAIT_SECONDS = 10.0
"""How long a kill waits for the sessions to be gone."""
LOOK_SECONDS = 0.25


@connecting
@click.group()
def sessions() -> None:
    """List and end sessions that run now."""


@connecting
@sessions.command()
@format_option
def ls(shape: str) -> None:
    """List the sessions of all nodes and who has joined them, the oldest first.

    A command is listed once it has run for a second or two.
    """
    from runtime.api import methods
    from runtime.api.session_messages import SessionQuery

    entries = ask(methods.SESSIONS_LIST, SessionQuery()).sessions
    show(shape, lambda: sessions_table(entries), lambda: plain(entries))


@connecting
@sessions.command()
@click.argument("sids", metavar="SID...", type=click.UUID, nargs=-1, required=True)
def kill(sids: tuple[uuid.UUID, ...]) -> None:
    """End sessions. The person is told, and the audit log has who did it. SID is the id, see tctl sessions ls."""
    wanted = tuple(dict.fromkeys(sids))
    unknown: list[NotFound] = []

    async def work(auth: AuthClient) -> None:
        unknown.extend(await _kill(auth, wanted))

    with_auth(work)
    for error in unknown[:-1]:
        console.fail(error)
    if unknown:
        raise unknown[-1]


async def _kill(auth: AuthClient, sids: Iterable[uuid.UUID]) -> list[NotFound]:
    """End sessions and wait until they are gone; return the errors of those that do not run. Raises Unavailable."""
    import asyncio

    from runtime.api import methods
    from runtime.api.session_messages import SessionKill, SessionQuery
    from runtime.core.errors import NotFound, Unavailable

    unknown: list[NotFound] = []
    ending: set[uuid.UUID] = set()
    for sid in sids:
        try:
            await auth.call(methods.SESSIONS_KILL, SessionKill(sid=sid))
        except NotFound as error:
            unknown.append(error)
        else:
            ending.add(sid)
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while ending:
        listed = await auth.call(methods.SESSIONS_LIST, SessionQuery())
        left = ending & {entry.session.sid for entry in listed.sessions}
        for sid in ending - left:
            console.say(f"session {sid} has ended")
        ending = left
        if ending and asyncio.get_running_loop().time() > deadline:
            for missing in unknown:
                console.fail(missing)
            raise Unavailable(
                f"not ended yet: {', '.join(map(str, sorted(ending)))}",
                hint="The order stands for a day: the node ends the session once it can be reached.",
            )
        if ending:
            await asyncio.sleep(LOOK_SECONDS)
    return unknown


def sessions_table(entries: Iterable[SessionEntry]) -> str:
    """Return running sessions as a table."""
    rows = (
        (
            str(entry.session.sid),
            entry.session.user,
            entry.session.login,
            entry.hostname or entry.node,
            f"{entry.session.started:%Y-%m-%d %H:%M:%S}",
            ", ".join(f"{each.user} ({each.mode})" for each in entry.session.parties),
            entry.session.command[:60],
        )
        for entry in entries
    )
    return table(("Session ID", "User", "Login", "Node", "Started (UTC)", "Joined", "Command"), rows)
