"""Session: a terminal or command that runs on a node, and who is in it."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from runtime.core.resources.model import Model
from runtime.core.resources.names import Login, Name

Cells = Annotated[int, Field(strict=True, ge=1, le=4096)]


class TerminalSize(Model):
    """Character cells of a terminal."""

    columns: Cells
    rows: Cells


class Party(Model):
    """Somebody who is in a session."""

    id: UUID
    user: Name
    joined: AwareDatetime


class Session(Model):
    """A running session; `user` started it, `parties` are those in it now. A command without a terminal has no size."""

    kind: Literal["Session"] = "Session"
    id: UUID
    user: Name
    login: Login
    node: UUID
    started: AwareDatetime
    terminal: TerminalSize | None = None
    parties: Annotated[tuple[Party, ...], Field(max_length=256)] = ()

    @property
    def name(self) -> str:
        """Its id."""
        return str(self.id)
