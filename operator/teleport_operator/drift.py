"""Follows the backend: what somebody else changes there is put back or told of, in seconds.

The same watch tells when a role comes or goes, so that who names it is looked at again. What this process wrote itself
it knows, and leaves alone.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from datetime import datetime

from runtime.backend.base import Delete, Put, Snapshot
from runtime.core.errors import NotFound, TeleportError
from runtime.core.keys import RESOURCES
from runtime.core.resources import API_VERSION, GROUP, VERSION
from teleport_operator.conditions import has_turned
from teleport_operator.context import Context
from teleport_operator.judging import Body, conditions_of, judge, status_after
from teleport_operator.objects import Ref

logger = logging.getLogger(__name__)

PLURALS = {"User": "users", "Role": "roles", "Token": "tokens", "TrustedCluster": "trustedclusters"}

SETTLE_SECONDS = 0.3
"""Between a change and the look at it: an own write is known by then, and of a burst only the last counts."""
RETRY_SECONDS = 2.0
"""Between a look that failed and the next: the API server or the backend is away."""
WORKERS = 8
_PREFIX = f"{RESOURCES}/"


class Drift:
    """Looks again at objects whose backend resource somebody else has changed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: dict[Ref, bytes | None] = {}
        self._queue: asyncio.Queue[Ref] = asyncio.Queue()

    async def run(self) -> None:
        """Follow the backend for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())
            group.create_task(self._follow())

    async def _follow(self) -> None:
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
            value = values.get(f"{_PREFIX}{ref.kind}/{ref.name}")
            if value != known.stored or known.roles:
                self._look(ref, value, force=bool(known.roles))

    def _changed(self, key: str, value: bytes | None) -> None:
        kind, _, name = key.removeprefix(_PREFIX).partition("/")
        for ref, known in self._context.objects.called(kind, name):
            if value != known.stored:
                self._look(ref, value)
        if kind == "Role":
            for ref, known in self._context.objects.naming(name):
                if (value is None) is (name not in known.missing):
                    self._look(ref, None, force=True)

    def _look(self, ref: Ref, value: bytes | None, *, force: bool = False) -> None:
        """Have an object looked at, once for all that happens until then."""
        if ref not in self._waiting:
            self._queue.put_nowait(ref)
        self._waiting[ref] = _ANYTHING if force else value

    async def _work(self) -> None:
        while True:
            ref = await self._queue.get()
            await asyncio.sleep(SETTLE_SECONDS)
            value = self._waiting.pop(ref)
            known = self._context.objects.get(ref)
            if known is None or value == known.stored:
                continue  # deleted meanwhile, or our own write
            try:
                await self.look_again(ref)
            except TeleportError as error:
                logger.warning("%s %s cannot be looked at again yet: %s", ref.kind.lower(), ref.name, error)
                await asyncio.sleep(RETRY_SECONDS)
                self._look(ref, None, force=True)

    async def look_again(self, ref: Ref) -> None:
        """Reconcile an object as it is now, and say in its status and by an Event what was found.

        Raises CompareFailed if it was changed meanwhile, and what the API server raises.
        """
        context = self._context
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{ref.namespace}/{PLURALS[ref.kind]}/{ref.name}"
        try:
            body = await context.api.get(path)
        except NotFound:
            context.objects.forget(ref)
            return
        if body["metadata"].get("deletionTimestamp"):
            return  # its finalizer does the rest
        before = context.objects.get(ref)
        verdict, _ = await judge(context, ref.kind, body)
        turned = has_turned(verdict.ready, conditions_of(body))
        if verdict.result == "written" and before is not None and before.stored is not None:
            context.metrics.drift.labels(ref.kind, "corrected").inc()
            logger.warning("%s %s was changed elsewhere, and put back", ref.kind.lower(), ref.name)
            await self._tell(body, "DriftCorrected", verdict.changed)
        elif verdict.result == "drifted" and turned:
            context.metrics.drift.labels(ref.kind, "reported").inc()
        if turned:
            await self._tell(body, verdict.ready.reason.value, verdict.ready.message, warning=not verdict.ready.status)
        if status := status_after(context, body, verdict):
            # Of this version only: what kopf found of a newer one stands.
            version = body["metadata"]["resourceVersion"]
            await context.api.patch(f"{path}/status", {"metadata": {"resourceVersion": version}, "status": status})

    async def _tell(self, body: Body, reason: str, message: str, *, warning: bool = True) -> None:
        """Post an Event; that it cannot be posted is no reason to stop."""
        metadata = body["metadata"]
        now = _time(self._context.clock.now())
        event = {
            "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": body["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message[:1024],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "teleport-operator"},
        }
        with suppress(TeleportError):
            await self._context.api.create(f"/api/v1/namespaces/{metadata['namespace']}/events", event)


_ANYTHING = b"\0"
"""A value that no resource has: look, whatever is there."""


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
