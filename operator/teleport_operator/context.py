"""What every handler works with; main.py puts it into kopf's memo as `context`."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.backend.base import Backend
from runtime.core.clock import Clock


@dataclass(frozen=True, slots=True)
class Context:
    """The open backend, and the time."""

    backend: Backend
    clock: Clock
