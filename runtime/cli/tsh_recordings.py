"""tsh play and tsh recordings: sessions that were recorded (manual, "Recorded Sessions")."""

from __future__ import annotations

import json
from pathlib import Path

import click

from runtime.cli import console
from runtime.cli.tables import table
from runtime.cli.tsh_options import FORMAT, INSECURE, PROXY, USER, is_insecure, now, open_session

_SKIP, _IDLE = "--skip-idle", 2.0
_EXAMPLES = """tsh play --skip-idle 4c146ec8-eab6-41e6-b1b3-40167e68e931
tsh play --speed=4 4c146ec8-eab6-41e6-b1b3-40167e68e931.session.bytes"""


def add_recordings(tsh: click.Group) -> None:
    """Give tsh the commands `play` and `recordings`."""
    tsh.add_command(play)
    tsh.add_command(recordings)


class _Play(click.Command):
    """A command whose option --skip-idle may stand without a value, which the next word never is."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        return super().parse_args(ctx, [f"{_SKIP}={_IDLE:g}" if word == _SKIP else word for word in args])


@click.command(cls=_Play, epilog=f"Examples:\n\n\b\n{_EXAMPLES}")
@click.argument("recording", metavar="SID|FILE")
@click.option("--speed", type=click.FloatRange(1 / 16, 16), default=1.0, show_default=True, help="How fast, at first.")
@click.option(
    _SKIP,
    "--idle",
    "idle",
    type=click.FloatRange(0),
    metavar="[=SECONDS]",
    help=f"Let no pause be longer than this, {_IDLE:g} if not given; 0: none at all [default: as they were].",
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

    Space pauses, the arrows go five seconds back and forth, + and - change the speed, s skips pauses, 0 to 9 jump to so
    many tenths, q ends it. A session that still runs is played on as it goes on. Where stdout is no terminal all is
    printed at once.

    A jump in a long recording shows the last few hundred KiB before that place: what was drawn longer ago and never
    again is missing on the screen.
    """
    from runtime.audit.reading import FileSource, Source
    from runtime.cli import tsh_play

    source: Source
    if from_cluster := tsh_play.is_sid(recording):
        from runtime.cli.recorded import ClusterSource, ReadAhead

        session = open_session(context, proxy, user)
        insecure = is_insecure(context, session, insecure)
        source = ReadAhead(ClusterSource(session, recording.lower(), insecure=insecure, now=now))
    else:
        source = FileSource(Path(recording))
    tsh_play.play(source, speed=speed, idle=idle, follow=from_cluster)


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
