"""tctl events: what happened in the cluster, as all its auth servers logged it."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from runtime.cli import console
from runtime.cli.tctl.connection import connecting, with_auth
from runtime.cli.tctl.output import Moment, lines_option

if TYPE_CHECKING:
    from datetime import datetime

    from runtime.api.client import AuthClient

_SHOWN_FIRST = ("user", "login", "server_id", "sid")
_NOT_SHOWN = frozenset({"event", "time", "uid", "prev", "namespace", *_SHOWN_FIRST})


@connecting
@click.group()
def events() -> None:
    """See what happened in the cluster."""


@connecting
@events.command()
@click.option("--type", "types", metavar="TYPE", multiple=True, help="Type of event; may be given several times.")
@click.option("--user", metavar="NAME", help="Teleport user.")
@click.option("--login", metavar="NAME", help="OS login.")
@click.option("--server", metavar="ID", help="Id of the node or proxy.")
@click.option("--sid", metavar="ID", help="Id of the session.")
@click.option("--search", metavar="TEXT", default="", help="Text anywhere in the event.")
@click.option("--from", "since", type=Moment(), help="From this time (UTC) on, or ago [default: 24h].")
@click.option("--to", "until", type=Moment(), help="Before this time (UTC), or ago.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@lines_option("the lines of the log as they are.")
def ls(
    types: tuple[str, ...],
    user: str | None,
    login: str | None,
    server: str | None,
    sid: str | None,
    search: str,
    since: datetime | None,
    until: datetime | None,
    shape: str,
    *,
    follow: bool,
) -> None:
    """List events of all auth servers, oldest first, as the cluster's storage has them."""
    from runtime.api import methods
    from runtime.api.event_messages import EventPage, EventQuery
    from runtime.core.errors import InvalidInput

    if follow and until is not None:
        raise InvalidInput("--follow goes on, and --to ends", hint="Leave one of them out.")
    fields = {"user": user, "login": login, "server_id": server, "sid": sid}
    query = EventQuery(
        types=types,
        fields={name: value for name, value in fields.items() if value is not None},
        text=search,
        since=since,
        until=until,
        follow=follow,
    )

    async def work(auth: AuthClient) -> None:
        async with aclosing(auth.pieces(methods.EVENTS, query, EventPage)) as pages:
            async for page in pages:
                for line in page.lines:
                    console.out(line if shape == "json" else as_text(line))

    with_auth(work)


def as_text(line: str) -> str:
    """Return an event on one line: time, type, who and where, and the rest as name=value."""
    try:
        event = json.loads(line)
    except ValueError:
        return console.visible(line)
    if not isinstance(event, dict):
        return console.visible(line)
    names = [name for name in _SHOWN_FIRST if event.get(name)] + [name for name in event if name not in _NOT_SHOWN]
    words = [
        str(event.get("time", "")),
        str(event.get("event", "")),
        *(f"{name}={_shown(event[name])}" for name in names),
    ]
    return console.visible("  ".join(words))


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text else text
