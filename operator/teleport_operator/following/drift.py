"""Follows the backend: what somebody else changes there is put back or told of, in seconds.

The same watch tells when a role comes or goes, so that who names it is looked at again. What this process wrote itself
it knows, and leaves alone.
"""

from __future__ import annotations

from contextlib import aclosing

from runtime.backend.base import Delete, Put, Snapshot
from runtime.core.keys import RESOURCES
from teleport_operator.context import Context
from teleport_operator.following.looking import BACKEND, ROLES, Looking
from teleport_operator.objects import Ref

_PREFIX = f"{RESOURCES}/"


class Drift:
    """Has objects looked at whose backend resource somebody else has changed."""

    def __init__(self, context: Context, looking: Looking) -> None:
        self._context = context
        self._looking = looking

    async def run(self) -> None:
        """Follow the backend for ever."""
        async with aclosing(self._context.backend.watch(_PREFIX)) as events:
            async for event in events:
                match event:
                    case Snapshot(items):
                        self._all({item.key: item.value for item in items})
                    case Put(item):
                        self._changed(item.key, item.value)
                    case Delete(key):
                        self._changed(key, None)

    def _all(self, values: dict[str, bytes]) -> None:
        """Take in all that there is: what happened before, nobody told."""
        for ref, known in self._context.objects.all():
            self._compare(ref, values.get(f"{_PREFIX}{ref.kind}/{ref.name}"))
            if known.roles:
                self._looking.look(ref, ROLES)

    def _changed(self, key: str, value: bytes | None) -> None:
        kind, _, name = key.removeprefix(_PREFIX).partition("/")
        for ref, _ in self._context.objects.called(kind, name):
            self._compare(ref, value)
        if kind == "Role":
            for ref, known in self._context.objects.naming(name):
                if (value is None) is (name not in known.missing):
                    self._looking.look(ref, ROLES)

    def _compare(self, ref: Ref, value: bytes | None) -> None:
        """Have it looked at, unless this turns out to be an own write."""

        def differs() -> bool:
            known = self._context.objects.get(ref)
            return known is not None and (known.refused or value != known.stored)

        if differs():
            self._looking.look(ref, BACKEND, differs)
