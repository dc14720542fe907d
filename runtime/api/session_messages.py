"""Running sessions: what nodes report of them, and what they are told to end."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from runtime.api.messages import Message, Text
from runtime.api.people_messages import SignedRequest

MAX_RUNNING_SESSIONS = 2048
"""Sessions of one report: as many as a message can surely hold."""

MAX_PARTICIPANTS = 4096
"""People who have joined sessions that one report tells of; it has to be one message."""


class Participant(Message):
    """Somebody who has joined a session."""

    user: Text
    mode: Literal["peer", "observer"]


class RunningSession(Message):
    """A session that runs on a node."""

    sid: UUID
    user: Text
    login: Text
    started: AwareDatetime
    command: Text = ""
    """Empty for a shell."""
    interactive: bool
    """The log has a session.start of it, and is owed a session.end; of others it is told when the command ends."""
    joinable: bool = False
    """It has a terminal."""
    parties: Annotated[tuple[Participant, ...], Field(max_length=MAX_PARTICIPANTS)] = ()
    """Those who have joined, without whose session it is."""


class SessionReport(Message):
    """All sessions that run on a node and started up to `time`, by the node's clock.

    The end of any other session that started before has been logged already, if the node knew of it: what is missing
    here and has no end was lost.
    """

    boot: UUID
    """The node's process: another one knows nothing of its predecessor's sessions."""
    time: datetime
    sessions: Annotated[tuple[RunningSession, ...], Field(max_length=MAX_RUNNING_SESSIONS)]
    complete: bool = True
    """False: there are more, and nothing follows from one that is missing."""


class SessionQuery(Message):
    """Which running sessions to list: all, or one."""

    sid: UUID | None = None
    signed: SignedRequest | None = None
    """What the person signed for whom a proxy asks: those that this one may list, or the one that it may know of."""


class SessionEntry(Message):
    """A running session, and where it runs; `hostname` is empty when the node is not known now."""

    session: RunningSession
    node: Text
    hostname: Text = ""


class SessionList(Message):
    """Running sessions, the oldest first."""

    sessions: tuple[SessionEntry, ...]


class SessionKill(Message):
    """A session to end."""

    sid: UUID


class SessionOrder(Message):
    """Sessions that a node has to end, as a piece of the answer to sessions.orders."""

    sids: tuple[UUID, ...]
