"""The backend is waited for: the operator may be there before it, or before auth has made it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from runtime.backend.base import Backend
from runtime.backend.memory import MemoryBackend
from runtime.backend.options import MemoryOptions
from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied, InvalidSettings, TeleportError, Unavailable
from teleport_operator import main


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[TeleportError | Backend]:
    """Say what opening the backend gives, one after the other; there are no pauses."""
    given: list[TeleportError | Backend] = []
    following: Iterator[TeleportError | Backend] = iter(given)

    async def opened(*_: object, **__: object) -> Backend:
        answer = next(following)
        if isinstance(answer, TeleportError):
            raise answer
        return answer

    monkeypatch.setattr(main, "open_backend", opened)
    monkeypatch.setattr(main, "BACKEND_RETRY_SECONDS", 0.0)
    return given


async def test_the_backend_is_waited_for(
    answers: list[TeleportError | Backend], caplog: pytest.LogCaptureFixture
) -> None:
    """While it is away, and while it is not there and not the operator's to make; each reason is said once."""
    backend = MemoryBackend(clock=ManualClock(datetime(2027, 1, 2, tzinfo=UTC)))
    answers += [Unavailable("away"), Unavailable("away"), AccessDenied("no table"), AccessDenied("no table"), backend]
    assert await main._open(MemoryOptions()) is backend
    said = [record.getMessage() for record in caplog.records]
    assert said == ["waiting for the backend: away", "waiting for the backend: no table"]
    await backend.close()


async def test_settings_that_cannot_be_right_are_not_waited_for(answers: list[TeleportError | Backend]) -> None:
    """Time does not mend them."""
    answers += [InvalidSettings("another's table")]
    with pytest.raises(InvalidSettings):
        await main._open(MemoryOptions())
