"""Recordings of sessions: how a node sends them, and how they are listed and read."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field

from runtime.api.messages import Message, Text
from runtime.api.people_messages import SignedRequest

MAX_RECORDING_BYTES = 512 * 1024
"""Of one call."""

RecordingPart = Literal["bytes", "log"]
"""The two files of a recording (`runtime.audit.recording`)."""
RecordingFile = Literal[RecordingPart, "index"]
"""Those, and what auth derives from them (`runtime.audit.index`)."""


class RecordingSession(Message):
    """What a recording is of."""

    sid: UUID
    user: Text
    login: Text
    started: AwareDatetime
    command: Text = ""
    """Empty for a shell."""


class RecordingPiece(Message):
    """More of a recording: bytes from `offset` on of one of its files."""

    session: RecordingSession
    part: RecordingPart
    offset: int = Field(ge=0)
    data: Annotated[bytes, Field(max_length=MAX_RECORDING_BYTES)]
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class RecordingSize(Message):
    """How many bytes auth has of that file now: where to go on."""

    size: int


class RecordingEnd(Message):
    """A recording is over; so many bytes its files have."""

    session: RecordingSession
    sizes: dict[RecordingPart, int]


class RecordingQuery(Message):
    """Which recordings to list; those of all users if none is named."""

    user: Text = ""
    signed: SignedRequest | None = None
    """What the person signed for whom a proxy asks: those that this one may read."""


class RecordingEntry(Message):
    """A recording that auth knows; `over` once all of it is there."""

    session: RecordingSession
    node: Text
    over: bool
    size: int
    auth: Text
    head: str = ""
    """The link that a line after the log's last would name, as the storage has it; empty if it does not."""


class RecordingList(Message):
    """Recordings, the latest first."""

    recordings: tuple[RecordingEntry, ...]


class RecordingRead(Message):
    """Which bytes of a recording to read."""

    sid: UUID
    part: RecordingFile
    offset: int = Field(default=0, ge=0, lt=2**53)
    size: int = Field(default=MAX_RECORDING_BYTES, ge=1, le=MAX_RECORDING_BYTES)
    signed: SignedRequest | None = None
    """What the person signed for whom a proxy asks."""


class RecordingData(Message):
    """Bytes of a recording; none at its end."""

    data: bytes
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
