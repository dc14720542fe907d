"""What the search through recordings takes and gives (`runtime.api.methods`)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from runtime.api.messages import Message, Text
from runtime.api.recording_messages import RecordingEntry

MAX_MATCHES = 1000
"""Of one search."""
MAX_TEXT = 1024
"""Characters of what is looked for."""


class RecordingSearch(Message):
    """What to look for, and in which recordings: those of which all is true that is said."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    regex: bool = False
    """The text is a regular expression (Python's `re`), for one line."""
    ignore_case: bool = False
    user: Text = ""
    node: Text = ""
    """A node's id, or the name of one that is there."""
    sids: Annotated[tuple[UUID, ...], Field(max_length=1000)] = ()
    since: AwareDatetime | None = None
    """Sessions that began then or later."""
    until: AwareDatetime | None = None
    """Sessions that began before that."""
    limit: int = Field(default=100, ge=1, le=MAX_MATCHES)


class RecordingMatch(Message):
    """A line of a session with a match, and when all of it had been printed: milliseconds since the session began."""

    ms: int
    line: str


class RecordingFinding(Message):
    """What was found in one recording; the last one, of none, says how much was looked through."""

    recording: RecordingEntry | None = None
    matches: tuple[RecordingMatch, ...] = ()
    problem: str = ""
    """What is wrong with the recording, so that something may not have been found."""
    searched: bool = True
    """Whether it was looked through, as far as it goes."""
    recordings: int = 0
    """That were looked through so far."""
    bytes: int = 0
    """Of those."""
    limited: bool = False
    """There were as many matches as were asked for, so that the rest was not looked through."""
