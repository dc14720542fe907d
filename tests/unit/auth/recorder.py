"""An audit log that remembers, for tests of auth."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.audit.events import EventType
from runtime.audit.log import Field


@dataclass
class Recorder:
    """Keeps audit events."""

    events: list[tuple[EventType, dict[str, Field]]] = field(default_factory=list)

    def emit(self, event: EventType, **fields: Field) -> None:
        """Keep the event."""
        self.events.append((event, fields))

    async def durable(self) -> None:
        """Return at once."""

    def kinds(self) -> list[str]:
        """Return the types of all events."""
        return [str(event) for event, _ in self.events]

    def of(self, *kinds: EventType) -> list[dict[str, Field]]:
        """Return the fields of all events of these kinds."""
        return [fields for event, fields in self.events if event in kinds]
