"""What tctl recordings search finds, printed as it comes."""

from __future__ import annotations

import json
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from runtime.api import methods
from runtime.api.search_messages import RecordingFinding, RecordingMatch, RecordingSearch
from runtime.cli import console
from runtime.cli.tctl.connection import with_auth
from runtime.core.errors import Unavailable

if TYPE_CHECKING:
    from runtime.api.client import AuthClient
    from runtime.api.recording_messages import RecordingEntry

_MEGA = 1_000_000


def run(wanted: RecordingSearch, *, as_json: bool) -> None:
    """Search, and print what is found. Raises Unavailable, in the end, when some recordings were not looked through."""
    matches = not_searched = 0
    with_match: set[UUID] = set()
    last = RecordingFinding()

    async def work(auth: AuthClient) -> None:
        nonlocal matches, not_searched, last
        async with aclosing(auth.pieces(methods.RECORDINGS_SEARCH, wanted, RecordingFinding)) as findings:
            async for last in findings:
                if last.recording is None:
                    continue
                for match in last.matches:
                    console.out((_object if as_json else _line)(last.recording, match))
                    with_match.add(last.recording.session.sid)
                matches += len(last.matches)
                not_searched += not last.searched
                if last.problem:
                    told = "" if last.searched else "not searched: "
                    console.say(f"recording {last.recording.session.sid}: {told}{last.problem}")

    with_auth(work)
    found = f"{_count(matches, 'match', 'matches')} in {_count(len(with_match), 'recording', 'recordings')}"
    console.say(f"{found}; {last.recordings} looked through, {last.bytes / _MEGA:.1f} MB")
    if last.limited:
        console.say("There may be more: that is as many as --limit allows.")
    if not_searched:
        raise Unavailable(
            f"{_count(not_searched, 'recording was', 'recordings were')} not searched: what is sought may be there",
            hint="See above why.",
        )


def _line(recording: RecordingEntry, match: RecordingMatch) -> str:
    session = recording.session
    who = f"{session.user} as {session.login}"
    return console.visible(f"{session.sid}  {timedelta(seconds=match.ms // 1000)}  {who}  {match.line}")


def _object(recording: RecordingEntry, match: RecordingMatch) -> str:
    session = recording.session
    told = {
        "sid": str(session.sid),
        "ms": match.ms,
        "time": f"{session.started + timedelta(milliseconds=match.ms):%Y-%m-%dT%H:%M:%SZ}",
        "user": session.user,
        "login": session.login,
        "node": recording.node,
        "command": session.command,
        "line": match.line,
    }
    return json.dumps(told)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
