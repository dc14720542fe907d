"""The audit log: events as members send them, as they are searched, and as the storage has them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StrictBool, StrictInt

from runtime.api.messages import Message, Text

MAX_AUDIT_EVENTS = 256
"""Events of one call."""


class AuditEvent(Message):
    """Something that happened at a member; it arrives at least once, and its uid tells when it came twice."""

    event: Text
    uid: UUID
    time: datetime
    fields: Annotated[
        dict[
            Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_.]{0,63}$")],
            Annotated[str, Field(max_length=64 * 1024)]
            | StrictBool
            | StrictInt
            | Annotated[list[Text], Field(max_length=256)],
        ],
        Field(max_length=64),
    ]


class AuditEvents(Message):
    """Events in the order in which they happened."""

    events: Annotated[tuple[AuditEvent, ...], Field(max_length=MAX_AUDIT_EVENTS)]


class EventQuery(Message):
    """Which events to tell of: all that is said must be true of one. `since` is included, `until` is not."""

    types: tuple[Text, ...] = ()
    """Any of these."""
    fields: dict[Text, Text] = Field(default_factory=dict)
    """Values of fields, such as user, login, server_id, sid."""
    text: Text = ""
    since: datetime | None = None
    """None: the last 24 hours."""
    until: datetime | None = None
    follow: bool = False
    """Go on with what happens from now on, until the caller gives up."""


class EventPage(Message):
    """Events as the log has them, lines of JSON, ordered by uid."""

    lines: tuple[str, ...]


class SegmentQuery(Message):
    """Whose segments to tell of: an auth server's, since a time."""

    server: UUID
    since: datetime


class Segment(Message):
    """Events that one auth server logged one after the other, and the link that the line after them names."""

    head: str
    first: datetime
    last: datetime
    events: int


class SegmentPage(Message):
    """Some segments, in the order in which they were put into the storage."""

    segments: tuple[Segment, ...]
