"""tctl recordings: sessions that were recorded, and their export for other players."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli import console
from runtime.cli.tables import table
from runtime.cli.tctl.connection import ask, connecting
from runtime.cli.tctl.output import Moment, format_option, lines_option, plain, show

if TYPE_CHECKING:
    from datetime import datetime

    from runtime.api.recording_messages import RecordingEntry

_VERIFIES = """tctl recordings verify
tctl recordings verify 4c146ec8-eab6-41e6-b1b3-40167e68e931"""
FORMATS = ("asciicast", "html", "text", "bytes", "log")
_EXPORTS = """tctl recordings export --format=html -o session.html 4c146ec8-eab6-41e6-b1b3-40167e68e931
tctl recordings export 4c146ec8-eab6-41e6-b1b3-40167e68e931 | asciinema play -"""

_SEARCHES = """tctl recordings search "permission denied" --user=joe --from=7d
tctl recordings search --regex "rm -rf +/(?!tmp)" --node=db1 --format=json"""


@connecting
@click.group()
def recordings() -> None:
    """List, export, search and verify recorded sessions."""


@connecting
@recordings.command()
@click.option("--user", metavar="NAME", default="", help="Those of one Teleport user.")
@format_option
def ls(user: str, shape: str) -> None:
    """List recordings, the latest first."""
    from runtime.api import methods
    from runtime.api.recording_messages import RecordingQuery

    entries = ask(methods.RECORDINGS_LIST, RecordingQuery(user=user)).recordings
    show(shape, lambda: recordings_table(entries), lambda: plain(entries))


@connecting
@recordings.command(epilog=f"Examples:\n\n\b\n{_EXPORTS}")
@click.argument("sid", type=click.UUID)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="File to write, which is there as a whole or not at all; - for stdout [default: stdout].",
)
@click.option(
    "--format",
    "shape",
    type=click.Choice(FORMATS),
    default="asciicast",
    show_default=True,
    help="asciicast: version 2, for asciinema. html: one page that plays in any browser, without a network. text: what "
    "was shown, as lines, without control sequences. bytes, log: the recording's own files.",
)
@click.option(
    "--idle-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Let players show no pause that is longer (asciicast, html) [default: as they were].",
)
def export(sid: uuid.UUID, output: Path | None, shape: str, idle_limit: float | None) -> None:
    """Write a recording for other programs. SID is the session's id, see tctl recordings ls.

    A session that still runs is written as far as it has come. What would set a viewer's clipboard or title, or ask the
    viewer's terminal something, is in --format=bytes only.
    """
    from runtime.cli.tctl.exporting import target, writer
    from runtime.cli.tctl.source import reading
    from runtime.core.errors import InvalidInput

    if idle_limit is not None and shape not in ("asciicast", "html"):
        raise InvalidInput(f"--idle-limit is for players, and {shape} is for none", hint="Leave it out.")
    to_stdout = output is None or str(output) == "-"
    write = writer(shape, idle_limit=idle_limit, to_terminal=to_stdout and sys.stdout.isatty())
    with target(output) as file:
        reading(sid, lambda source: write(source, file))
    if not to_stdout:
        console.say(f"written to {output}")


@connecting
@recordings.command(epilog=f"Examples:\n\n\b\n{_SEARCHES}")
@click.argument("text")
@click.option("--regex", is_flag=True, help="TEXT is a regular expression (Python's), for one line.")
@click.option("-i", "--ignore-case", is_flag=True, help="Small letters are capitals, too.")
@click.option("--user", metavar="NAME", default="", help="Sessions of one Teleport user.")
@click.option("--node", metavar="NAME|ID", default="", help="Sessions on one node.")
@click.option("--sid", "sids", type=click.UUID, multiple=True, help="This session; may be given several times.")
@click.option("--from", "since", type=Moment(), help="Sessions that began at this time (UTC) or later, or ago (2h).")
@click.option("--to", "until", type=Moment(), help="Sessions that began before this time (UTC), or ago.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Stop after so many matches."
)
@lines_option("an object for each match, one a line.")
def search(
    text: str,
    user: str,
    node: str,
    sids: tuple[uuid.UUID, ...],
    since: datetime | None,
    until: datetime | None,
    limit: int,
    shape: str,
    *,
    regex: bool,
    ignore_case: bool,
) -> None:
    """Find text in what sessions printed, as people saw it; the latest recordings first.

    Each match is told with its session, how long after its begin the text stood there, whose it was, and the line.
    Colours and other control sequences are left out, backspaces carried out. A match is within one line; what programs
    such as editors draw here and there on the screen is found as it was drawn, piece by piece.
    """
    from runtime.api.search_messages import MAX_TEXT, RecordingSearch
    from runtime.cli.tctl.searching import run
    from runtime.core.errors import InvalidInput

    if not 0 < len(text) <= MAX_TEXT:
        raise InvalidInput(f"TEXT has to have 1 to {MAX_TEXT} characters", hint="Say what to look for.")
    wanted = RecordingSearch(
        text=text,
        regex=regex,
        ignore_case=ignore_case,
        user=user,
        node=node,
        sids=sids,
        since=since,
        until=until,
        limit=limit,
    )
    run(wanted, as_json=shape == "json")


@connecting
@recordings.command(epilog=f"Examples:\n\n\b\n{_VERIFIES}")
@click.argument("sids", metavar="[SID]...", nargs=-1, type=click.UUID)
@click.option("--user", metavar="NAME", default="", help="Those of one Teleport user.")
@format_option
def verify(sids: tuple[uuid.UUID, ...], user: str, shape: str) -> None:
    """Check that recordings are as the nodes wrote them; of all sessions that are over, if none is named.

    Each line of a recording's log names the one before it and what was printed, and the cluster's storage has the head
    of each log: a recording whose two files were both written anew is found, too. The exit code is 1 if one is not as
    it was.
    """
    from runtime.api import methods
    from runtime.api.recording_messages import RecordingQuery
    from runtime.cli.tctl.verifying import judge
    from runtime.core.errors import CorruptState, NotFound

    entries = ask(methods.RECORDINGS_LIST, RecordingQuery(user=user)).recordings
    known = {entry.session.sid: entry for entry in entries}
    if unknown := [sid for sid in sids if sid not in known]:
        raise NotFound(f"there is no recording of session {unknown[0]}", hint="See tctl recordings ls.")
    chosen = [known[sid] for sid in dict.fromkeys(sids)] if sids else list(entries)
    verdicts = [judge(entry) for entry in chosen if entry.over]
    show(
        shape,
        lambda: f"{len(verdicts)} checked, {sum(bool(each.problems) for each in verdicts)} not as written",
        lambda: [
            {"sid": str(each.sid), "compared": each.compared, "problems": list(each.problems)} for each in verdicts
        ],
    )
    for verdict in verdicts:
        for problem in verdict.problems:
            console.say(f"{verdict.sid}: {problem}")
        if not verdict.problems and not verdict.compared:
            console.say(f"{verdict.sid}: not compared: the storage has no head of it")
    for entry in chosen:
        if not entry.over:
            console.say(f"{entry.session.sid}: not checked: it is not over")
    if any(verdict.problems for verdict in verdicts):
        raise CorruptState("recordings are not as they were written", hint="Compare with a copy of data_dir/log.")


def recordings_table(entries: Iterable[RecordingEntry]) -> str:
    """Return recordings as a table."""
    rows = (
        (
            str(entry.session.sid),
            entry.session.user,
            entry.session.login,
            f"{entry.session.started:%Y-%m-%d %H:%M:%S}",
            str(entry.size) if entry.over else "(live)",
            entry.session.command[:60],
        )
        for entry in entries
    )
    return table(("Session ID", "User", "Login", "Started (UTC)", "Bytes", "Command"), rows)
