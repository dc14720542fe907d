"""Lists of thousands of members, made while others are served."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

from runtime.api.member_messages import Presence
from runtime.auth.presence import AT_A_TIME, PresenceStore
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import Caller, CallerKind
from runtime.core.clock import SystemClock


async def test_a_long_list_lets_others_in_between() -> None:
    """The loop turns at least once for each hundred entries, and the list is whole and in order."""
    clock = SystemClock()
    backend = MemoryBackend(clock=clock)
    store = PresenceStore(backend, clock)
    count = 10 * AT_A_TIME
    for number in range(count):
        node = uuid.uuid4()
        presence = Presence(id=node, kind=CallerKind.NODE, name=f"node{number:04}", addr="10.0.0.1:3022")
        await store.heartbeat(
            Caller(CallerKind.NODE, str(node), "10.0.0.1"), presence, timedelta(seconds=60), imposed={}
        )
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    busy = asyncio.create_task(others())
    listed = await store.list(CallerKind.NODE)
    busy.cancel()
    assert turns >= count / AT_A_TIME
    assert [entry.presence.name for entry in listed] == [f"node{number:04}" for number in range(count)]
    await backend.close()
