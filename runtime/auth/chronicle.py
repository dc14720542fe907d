"""Changes of declared resources that did not pass through auth's API: the operator writes to the storage itself.

    audit/told/KIND/NAME    the resource as the audit log was last told of it, and what it is yet to be told

Every auth server watches; whoever swaps this record tells the log. The record has the event before the log has, so that
a change is told although its teller is killed: by the next start of any auth server, with the same id, which the view
over all auth servers shows once. It is compared with at each start, so what changed while no auth server ran is told,
too. Changes by tctl only pass into the record: whoever asked for them, the API has told.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import zlib
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.api.resource_messages import ResourceDocument
from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.auth.changes import changes
from runtime.auth.declared import Declared
from runtime.backend.base import Backend, Item
from runtime.core.errors import AlreadyExists, CompareFailed, InvalidResource, NotFound, TeleportError
from runtime.core.keys import AUDIT, resource
from runtime.core.resources import DECLARED, Origin, Resource, decode
from runtime.core.uuid7 import Uuid7

logger = logging.getLogger(__name__)

TOLD = f"{AUDIT}/told/"
CLAIM = timedelta(minutes=1)
"""How long a change may take to be told by who claimed it; then a start of another auth server does it."""
REMEMBERED = timedelta(days=1)
"""How long it is known that a resource was deleted: a server that is behind must not bring it back."""
MAX_PAUSE_SECONDS = 60.0
_TRIES = 100


class Change(BaseModel):
    """An event that the log is yet to be told."""

    model_config = ConfigDict(frozen=True)

    uid: UUID
    time: datetime
    event: EventType
    by: str
    changes: list[str]


class Told(BaseModel):
    """What the log knows of a resource."""

    model_config = ConfigDict(frozen=True)

    document: str | None = None
    """None: it was deleted."""
    revision: int = 0
    """Of the document; later ones are news."""
    untold: tuple[Change, ...] = ()


class Chronicle:
    """Tells the audit log what was declared, by whom, and what changed."""

    def __init__(
        self,
        backend: Backend,
        declared: Declared,
        audit: Audit,
        now: Callable[[], datetime],
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._backend = backend
        self._declared = declared
        self._audit = audit
        self._now = now
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._ids = Uuid7(secrets.randbits)

    async def run(self) -> None:
        """Follow all kinds, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind in DECLARED:
                group.create_task(self._run(kind))

    async def follow(self, kind: str) -> None:
        """Follow one kind, for ever. Raises TeleportError, OSError where the log or the storage takes nothing."""
        async with aclosing(self._declared.follow(kind)) as events:
            async for event in events:
                if event.snapshot is not None:
                    await self._compare(kind, event.snapshot)
                elif event.put is not None:
                    await self._put(kind, event.put)
                elif event.deleted is not None:
                    await self._look(kind, event.deleted, None)

    async def _run(self, kind: str) -> None:
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self.follow(kind)
            except (TeleportError, OSError) as error:
                failures = 1 if asyncio.get_running_loop().time() - began > MAX_PAUSE_SECONDS else failures + 1
                logger.warning("changes of kind %s are told later: %s", kind, error)
            await asyncio.sleep(self._rng.uniform(0, min(MAX_PAUSE_SECONDS, 2.0 ** min(failures, 10))))

    async def _compare(self, kind: str, documents: tuple[ResourceDocument, ...]) -> None:
        """Tell what changed while we did not watch, and what others have left untold."""
        prefix = f"{TOLD}{kind}/"
        known = {item.key.removeprefix(prefix): (item, _read(item)) for item in await self._range(prefix)}
        names = set()
        for document in documents:
            name = await self._put(kind, document, known)
            names.add(name)
        for name, (_, told) in known.items():
            if name not in names and told.document is not None:
                await self._look(kind, name, None)
            for change in told.untold:
                if self._now() - change.time >= CLAIM:
                    await self._tell(kind, name, change)

    async def _put(
        self, kind: str, document: ResourceDocument, known: dict[str, tuple[Item, Told]] | None = None
    ) -> str | None:
        try:
            after = decode(DECLARED[kind], document.document.encode())
        except InvalidResource as error:
            logger.warning("a change is not told: %s", error)
            return None
        if known is None or after.name not in known or known[after.name][1].revision < document.revision:
            await self._look(kind, after.name, after, document)
        return after.name

    async def _look(
        self, kind: str, name: str, after: Resource | None, document: ResourceDocument | None = None
    ) -> None:
        """Tell of a change, unless it is told already."""
        for _ in range(_TRIES):
            item, told = await self._told(kind, name)
            if document is None and (told.document is None or await self._is_there(kind, name)):
                return
            if document is not None and document.revision <= told.revision:
                return
            change = self._change(kind, told, after)
            new = Told(
                document=document.document if document else None,
                revision=document.revision if document else told.revision,
                untold=(*told.untold, *([change] if change else [])),
            )
            try:
                await self._keep(kind, name, item, new)
            except (CompareFailed, AlreadyExists):
                continue
            if change is not None:
                await self._tell(kind, name, change)
            return
        logger.error("%s %s changes all the time: not all of it is told", kind, name)

    def _change(self, kind: str, told: Told, after: Resource | None) -> Change | None:
        """Return the event, None where the API has told it or nothing is different."""
        before = _document(kind, told)
        resource = after or before
        if resource is None or resource.metadata.origin is Origin.TCTL or not (said := changes(before, after)):
            return None
        now = self._now()
        return Change(
            uid=self._ids(now),
            time=now,
            event=EventType.RESOURCE_WRITTEN if after is not None else EventType.RESOURCE_REMOVED,
            by=str(resource.metadata.origin or "somebody who writes to the storage"),
            changes=said,
        )

    async def _tell(self, kind: str, name: str, change: Change) -> None:
        self._audit.emit(
            change.event,
            uid=str(change.uid),
            time=f"{change.time:%Y-%m-%dT%H:%M:%SZ}",
            kind=kind,
            name=name,
            changes=change.changes,
            by=change.by,
        )
        await self._audit.durable()
        for _ in range(_TRIES):
            item, told = await self._told(kind, name)
            left = tuple(each for each in told.untold if each.uid != change.uid)
            if item is None or left == told.untold:
                return
            try:
                await self._keep(kind, name, item, told.model_copy(update={"untold": left}))
            except (CompareFailed, AlreadyExists):
                continue
            return

    # --- records -----------------------------------------------------------------------------------------------------

    async def _is_there(self, kind: str, name: str) -> bool:
        """Tell whether a resource is there, after it was deleted: then what comes next tells of it."""
        try:
            await self._backend.get(resource(kind, name))
        except NotFound:
            return False
        return True

    async def _told(self, kind: str, name: str) -> tuple[Item | None, Told]:
        try:
            item = await self._backend.get(f"{TOLD}{kind}/{name}")
        except NotFound:
            return None, Told()
        return item, _read(item)

    async def _keep(self, kind: str, name: str, item: Item | None, told: Told) -> None:
        value = zlib.compress(told.model_dump_json().encode())
        is_over = told.document is None and not told.untold
        expires = self._now() + REMEMBERED if is_over else None
        if item is None:
            await self._backend.create(f"{TOLD}{kind}/{name}", value, expires=expires)
        else:
            await self._backend.compare_and_swap(item.key, value, revision=item.revision, expires=expires)

    async def _range(self, prefix: str) -> tuple[Item, ...]:
        return tuple((await self._backend.range(prefix)).items)


def _read(item: Item) -> Told:
    try:
        return Told.model_validate_json(zlib.decompress(item.value))
    except (zlib.error, ValidationError):
        logger.warning("%s in the storage cannot be read: the resource is told of as a new one", item.key)
        return Told()


def _document(kind: str, told: Told) -> Resource | None:
    if told.document is None:
        return None
    try:
        return decode(DECLARED[kind], told.document.encode())
    except InvalidResource:
        return None
