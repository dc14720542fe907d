"""Messages on the audit log as the storage has it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from runtime.api.messages import Message


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
