"""Looks again at objects in which nothing was edited, but of which something else has changed: the backend, a Secret.

Each is looked at once for all that happened until then, and one that fails is looked at again, without end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from runtime.core.errors import NotFound, TeleportError, Unavailable
from runtime.core.resources import API_VERSION, GROUP, VERSION
from teleport_operator.context import Context
from teleport_operator.judging import Body, conditions_of, judge, news_of_invite, status_after
from teleport_operator.objects import Ref
from teleport_operator.verdicts.conditions import has_turned
from teleport_operator.verdicts.invitations import severity_of

logger = logging.getLogger(__name__)

PLURALS = {"User": "users", "Role": "roles", "Token": "tokens", "TrustedCluster": "trustedclusters"}

SETTLE_SECONDS = 0.3
"""Between a change and the look at it: an own write is known by then, and of a burst only the last counts."""
RETRY_SECONDS = 2.0
"""Between a look that failed and the next: the API server or the backend is away."""
WORKERS = 8

BACKEND = "backend"
ROLES = "roles"
SECRETS = "secrets"
"""What a look may be about."""

Needed = Callable[[], bool]
"""Whether what was seen is still a reason to look, asked when the turn has come."""


def anyhow() -> bool:
    """Whatever is known by then."""
    return True


class Looking:
    """The line of objects that are to be looked at."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: dict[Ref, dict[str, Needed]] = {}
        self._queue: asyncio.Queue[tuple[Ref, float]] = asyncio.Queue()

    def look(self, ref: Ref, about: str, needed: Needed = anyhow) -> None:
        """Have an object looked at if that is still needed when its turn comes; of each matter the last word counts."""
        if ref not in self._waiting:
            self._queue.put_nowait((ref, asyncio.get_running_loop().time() + SETTLE_SECONDS))
        self._waiting.setdefault(ref, {})[about] = needed

    async def run(self) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            ref, due = await self._queue.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            matters = [about for about, needed in self._waiting.pop(ref).items() if needed()]
            if self._context.objects.get(ref) is None or not matters:
                continue  # deleted meanwhile, or our own doing
            try:
                await self.look_now(ref, drift=BACKEND in matters)
            except TeleportError as error:
                logger.warning("%s %s cannot be looked at again yet: %s", ref.kind.lower(), ref.name, error)
                await asyncio.sleep(RETRY_SECONDS)
                for about in matters:
                    self.look(ref, about)

    async def look_now(self, ref: Ref, *, drift: bool) -> None:
        """Reconcile an object as it is now, and say in its status and by an Event what was found.

        What is written because the backend had changed, with `drift`, was somebody else's doing.

        Raises CompareFailed if it was changed meanwhile, Unavailable, and what the API server raises.
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
        verdict, error = await judge(context, ref.kind, body)
        turned = has_turned(verdict.ready, conditions_of(body))
        if drift and verdict.result == "written" and before is not None and before.stored is not None:
            context.metrics.drift.labels(ref.kind, "corrected").inc()
            logger.warning("%s %s was changed elsewhere, and put back", ref.kind.lower(), ref.name)
            await self._tell(body, "DriftCorrected", verdict.changed)
        elif verdict.result == "drifted" and turned:
            context.metrics.drift.labels(ref.kind, "reported").inc()
        if turned:
            await self._tell(body, verdict.ready.reason.value, verdict.ready.message, warning=not verdict.ready.status)
        for news in news_of_invite(verdict, body):
            is_warning = severity_of(news) == "Warning"
            await self._tell(body, f"Invite{news.reason.value}", news.message, warning=is_warning)
        if status := status_after(context, body, verdict):
            # Of this version only: what kopf found of a newer one stands.
            version = body["metadata"]["resourceVersion"]
            await context.api.patch(f"{path}/status", {"metadata": {"resourceVersion": version}, "status": status})
        if isinstance(error, Unavailable):
            raise error  # kopf knows nothing of it: nobody else would look again

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


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
