"""What becomes of recordings that are over: each is verified and indexed, and brought to the object store."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from functools import partial
from uuid import UUID

from runtime.auth.recording_files import ALL, name_of
from runtime.auth.recordings import Place, Record, Recordings
from runtime.core.errors import CompareFailed, NotFound, TeleportError

logger = logging.getLogger(__name__)

MAX_PAUSE_SECONDS = 300.0
"""Longest pause before what failed is tried again; each is a random part of a bound that doubles up to it."""


class Filing:
    """Files the recordings of this auth server, one after the other."""

    def __init__(self, recordings: Recordings, *, rng: random.Random | None = None) -> None:
        self._recordings = recordings
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self.waiting: set[UUID] = set()
        """Recordings that are over, and still to be verified or brought to the object store."""
        self.failures = 0
        """How often one could not be."""

    async def run(self) -> None:
        """File what there is and what comes, until cancelled; what cannot be filed is kept, and tried again."""
        in_vain = 0
        scanned = False
        while True:
            self._recordings.changed.clear()
            try:
                if not scanned:
                    self.waiting |= await self._left_over()
                    scanned = True
                failed = await self.step()
            except TeleportError as error:
                failed = error
            if failed is None:
                if in_vain:
                    logger.warning("recordings are filed again")
                in_vain = 0
                await self._recordings.changed.wait()
                continue
            in_vain += 1
            if in_vain == 1:
                logger.error("%d recordings wait on this disk: %s. %s", len(self.waiting), failed, _hint(failed))
            pause = self._rng.uniform(0, min(MAX_PAUSE_SECONDS, 2.0 ** min(in_vain, 10)))
            with suppress(TimeoutError):  # what comes meanwhile can be verified
                await asyncio.wait_for(self._recordings.changed.wait(), pause)

    async def step(self) -> Exception | None:
        """File what waits; return the first reason why some of it could not be.

        What is only verified is so also while the object store is away, which is asked once.
        """
        self.waiting |= self._recordings.ended
        self._recordings.ended.clear()
        failed: Exception | None = None
        away = False
        for sid in sorted(self.waiting):
            try:
                if await self._file(sid, put=not away):
                    self.waiting.discard(sid)
            except (TeleportError, OSError) as error:
                self.failures += 1
                failed = failed or error
                away = away or isinstance(error, TeleportError)
                logger.info("recording %s is not filed yet: %s", sid, error)
        return failed

    async def _left_over(self) -> set[UUID]:
        """Return what a process before this one did not file, and what was over before there was an object store."""
        try:
            here = await asyncio.to_thread(self._recordings.folder.sizes)
        except OSError as error:
            logger.error("recordings cannot be listed: %s", error)  # noqa: TRY400 - no bug of ours
            return set()
        found = set()
        for record in await self._recordings.records():
            if record.session.sid in here:
                await self._claim(record)
                if self._is_due(record):
                    found.add(record.session.sid)
        return found

    async def _claim(self, record: Record) -> None:
        """Note that a recording is here, if the storage says that it is elsewhere: this server has another address."""
        address = self._recordings.here
        if record.over and record.place is Place.DISK and address and record.auth != address:
            with suppress(NotFound, CompareFailed, OSError):
                if await asyncio.to_thread(self._recordings.is_whole, record):
                    await self._recordings.change(record.session.sid, auth=address)

    def _is_due(self, record: Record) -> bool:
        kept_twice = record.place is Place.OBJECTS
        return record.over and (not record.verified or self._recordings.objects is not None or kept_twice)

    async def _file(self, sid: UUID, *, put: bool) -> bool:
        """Verify a recording, put it into the object store if there is one, and delete it here once it is there.

        Return whether that was it: without `put` it only is where there is no such store.
        """
        recordings, folder = self._recordings, self._recordings.folder
        try:
            record, _ = await recordings.record(sid)
            if record.place is Place.DISK:
                if not await asyncio.to_thread(recordings.is_whole, record):
                    logger.warning("of recording %s some is on this disk, and not all: it stays there", sid)
                    return True
                if not record.verified:
                    for problem in await asyncio.to_thread(folder.verify, sid):
                        logger.error("recording %s of node %s: %s", sid, record.node, problem)
                    head = await asyncio.to_thread(folder.head, sid)
                    await recordings.change(sid, verified=True, head=head)
                if recordings.objects is None or not put:
                    return recordings.objects is None
                sizes = [
                    await recordings.objects.put(name_of(sid, part), partial(folder.open, sid, part)) for part in ALL
                ]
                await recordings.change(sid, place=Place.OBJECTS, total=sum(sizes))
            await asyncio.to_thread(folder.unlink, sid)
        except (NotFound, CompareFailed, FileNotFoundError) as error:
            logger.warning("recording %s is not filed from here any more: %s", sid, error)
            await self._tidy(sid)
        return True

    async def _tidy(self, sid: UUID) -> None:
        """Delete from the object store what was just put there of a recording that is deleted."""
        objects = self._recordings.objects
        if objects is None:
            return
        try:
            await self._recordings.record(sid)
        except NotFound:
            for part in ALL:
                await objects.delete(name_of(sid, part))


def _hint(error: Exception) -> str:
    return error.hint if isinstance(error, TeleportError) else "Look at the disk of this auth server."
