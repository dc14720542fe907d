"""tsh play and tsh recordings: sessions that were recorded (manual, "Recorded Sessions")."""

from __future__ import annotations

import json
from pathlib import Path

import click

from runtime.cli import console
from runtime.cli.tables import table
from runtime.cli.tsh_options import FORMAT, INSECURE, PROXY, USER, is_insecure, now, open_session


def add_recordings(tsh: click.Group) -> None:
    """Give tsh the commands `play` and `recordings`."""
    tsh.add_command(play)
    tsh.add_command(recordings)


@click.command()
@click.argument("recording", metavar="SID|FILE")
@click.option("--speed", type=click.FloatRange(1 / 16, 16), default=1.0, show_default=True, help="How fast, at first.")
@click.option(
    "--idle",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Let no pause be longer; 0: none at all [default: as they were].",
)
@PROXY
@USER
@INSECURE
@click.pass_context
def play(
    context: click.Context,
    /,
    *,
    recording: str,
    speed: float,
    idle: float | None,
    proxy: str | None,
    user: str | None,
    insecure: bool,
) -> None:
    """Show a recorded session again: by its id, or from a file that ends in .session.bytes.

    Space pauses, the arrows go five seconds back and forth, + and - change the speed, 0 to 9 jump to so many tenths,
    q ends it. Where stdout is no terminal all is printed at once.
    """
    from runtime.audit.replay import Timeline
    from runtime.cli import tsh_play

    if tsh_play.is_sid(recording):
        session = open_session(context, proxy, user)
        insecure = is_insecure(context, session, insecure)
        log, printed = tsh_play.from_cluster(session, recording.lower(), insecure=insecure, now=now)
    else:
        log, printed = tsh_play.from_files(Path(recording))
    tsh_play.play(Timeline(log, printed, idle=idle), speed=speed)


@click.group()
def recordings() -> None:
    """See which sessions were recorded."""


@recordings.command()
@PROXY
@USER
@INSECURE
@FORMAT
@click.pass_context
def ls(context: click.Context, /, *, proxy: str | None, user: str | None, insecure: bool, output: str) -> None:
    """List recordings that you may play, the latest first: your own, and others where a role allows it."""
    from runtime.cli.tsh_lists import ask

    session = open_session(context, proxy, user)
    insecure = is_insecure(context, session, insecure)
    found = ask(session, "/webapi/recordings", [], insecure=insecure, now=now()).objects("recordings")
    names = ("sid", "user", "login", "started", "command")
    rows = [{name: each.optional_text(name) for name in names} for each in found]
    if output == "json":
        console.out(json.dumps(rows, indent=2))
        return
    titles = ("Session ID", "User", "Login", "Started", "Command")
    console.out(table(titles, (tuple(row[name][:60] for name in names) for row in rows)))
