"""tsh join and tsh sessions: sessions that run now. Only click is loaded to know the commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from runtime.cli import console
from runtime.cli.tsh_options import FORMAT, INSECURE, PROXY, TTL, USER, is_insecure, now, open_session
from runtime.cli.tsh_sessions import as_ssh, find_home, wish_of

if TYPE_CHECKING:
    from datetime import datetime


def add_joining(tsh: click.Group, clock: Callable[[], datetime], logged_in: Callable[[Any, Any], None]) -> None:
    """Give tsh the commands `join` and `sessions`. `logged_in` is told of a login on the way."""
    tsh.add_command(sessions)

    @tsh.command()
    @click.argument("session", metavar="SID")
    @click.option(
        "--mode",
        type=click.Choice(["peer", "observer"]),
        help="Take part with the keyboard, or only watch [default: take part if you may, else watch].",
    )
    @PROXY
    @USER
    @TTL
    @INSECURE
    @click.option("--builtin", is_flag=True, help="Use tsh's own client, as where no OpenSSH is installed.")
    @click.pass_context
    def join(context: click.Context, /, **given: Any) -> None:
        """Join a running session: the same terminal, for several people.

        SID is the session's id or its beginning, see tsh sessions ls; in the session it is $SSH_SESSION_ID.

        \b
        tsh join 3f0c8b1e
        tsh join --mode=observer 3f0c8b1e-6f0e-4c7e-9d55-0f3a2f6f1f2a

        Everybody in the session is told that you come, and what you type is recorded as yours. The terminal becomes as
        large as the smallest of those who take part. Leave with Enter ~ . as any ssh session; watching, also with
        Ctrl-C. The session goes on without you, and ends with the person whose it is.
        """  # noqa: D301 - the character \b tells click to leave lines as they are
        from runtime.cli import tsh_joining

        with as_ssh():
            code = tsh_joining.join(
                find_home(),
                wish_of(context, given),
                given["session"],
                mode=given["mode"],
                builtin=given["builtin"],
                inside=os.environ.get("SSH_SESSION_ID", ""),
                now=clock,
                logged_in=logged_in,
            )
            context.exit(code)


@click.group()
def sessions() -> None:
    """See which sessions run now."""


@sessions.command()
@PROXY
@USER
@INSECURE
@FORMAT
@click.pass_context
def ls(context: click.Context, /, *, proxy: str | None, user: str | None, insecure: bool, output: str) -> None:
    """List running sessions and who has joined them, the oldest first: your own, and others where a role allows it.

    A command without a terminal is listed once it has run for a second or two. To join one: tsh join SID
    """
    import json

    from runtime.cli import tsh_joining

    session = open_session(context, proxy, user)
    found = tsh_joining.sessions(session, insecure=is_insecure(context, session, insecure), now=now())
    console.out(json.dumps(tsh_joining.as_json(found), indent=2) if output == "json" else tsh_joining.as_table(found))
