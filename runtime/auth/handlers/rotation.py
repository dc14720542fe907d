"""The methods on the cluster's own authorities: who follows them, and who rotates them."""

from __future__ import annotations

from contextlib import aclosing

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.rotation_messages import RotateRequest, RotationStatuses
from runtime.auth.dispatch import Dispatcher, EmitPiece
from runtime.auth.handlers.parts import Parts
from runtime.auth.rotation_status import states_of
from runtime.core.callers import Caller


class RotationHandlers:
    """Authorities as members follow them, and their rotation by administrators."""

    def __init__(self, parts: Parts) -> None:
        self._rotations = parts.rotations
        self._watchers = 0

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on_stream(methods.AUTHORITIES_WATCH, self.watch)
        dispatcher.on(methods.AUTHORITIES_ROTATE, self.rotate)
        dispatcher.on(methods.AUTHORITIES_ROTATION, self.status)

    async def watch(self, caller: Caller, params: Nothing, emit: EmitPiece) -> Nothing:
        """Send the authorities, and again after each change, until the caller gives up."""
        self._watchers += 1
        try:
            async with aclosing(self._rotations.live.follow()) as changes:
                async for authorities in changes:
                    await emit(states_of(authorities, self._watchers))
        finally:
            self._watchers -= 1
        return Nothing()

    async def rotate(self, caller: Caller, params: RotateRequest) -> RotationStatuses:
        """Begin a rotation or take its next step. Raises InvalidInput, AlreadyExists, CorruptState, Unavailable."""
        await self._rotations.rotate(params, str(caller))
        return await self._rotations.status()

    async def status(self, caller: Caller, params: Nothing) -> RotationStatuses:
        """Return how it stands with the authorities. Raises CorruptState, Unavailable."""
        return await self._rotations.status()
