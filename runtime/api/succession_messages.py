"""What another cluster tells of the keys of its authorities, as a proxy heard it: it proves itself, or is nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from runtime.api.messages import Message, Text
from runtime.core.succession import MAX_CHARACTERS, MAX_STATEMENTS

Statement = Annotated[str, Field(max_length=MAX_CHARACTERS)]
"""The text of a `runtime.core.succession.Succession`."""
Statements = Annotated[tuple[Statement, ...], Field(max_length=MAX_STATEMENTS)]


class Successions(Message):
    """What `cluster` says, whoever carried it here."""

    cluster: Text
    statements: Statements
