"""The rotation of the cluster's authorities: steps asked for, or taken by themselves, each a compare-and-swap.

An authority's record is all that there is of a rotation. Whoever dies between two steps, or between the user and the
host authority, leaves a state that is whole; the same command, or any auth server, goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from runtime.api.rotation_messages import RotateRequest, RotationStatuses
from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.auth import authority_steps
from runtime.auth.authorities import LiveAuthorities, read_record
from runtime.auth.authority_record import LocalAuthority, encode_authority
from runtime.auth.presence import Follower, PresenceStore
from runtime.auth.rotation_status import status_of, stragglers
from runtime.backend.base import Backend
from runtime.core import keys, rotation
from runtime.core.errors import AlreadyExists, CompareFailed, InvalidInput, TeleportError
from runtime.core.resources.authority import AuthorityType
from runtime.core.rotation import Mode, Phase
from runtime.pki.keys import KeyAlgorithm, PrivateKey, generate_key

logger = logging.getLogger(__name__)

FORCED_WAIT = timedelta(seconds=10)
"""How long a rotation that was forced waits in each phase for members that have not followed."""
LOOK_SECONDS = 1.0
"""Between two looks at a rotation that is due and waits; for each 500 members as much again."""
MEMBERS_A_LOOK = 500
NAMES_SHOWN = 10
"""Names of members in an error and in the log; the status has all of them."""
WARN_AFTER = timedelta(seconds=30)
"""How long a step is due before the log says for whom it waits."""
AUTO = "auto"
"""Who took a step that came by itself, in the audit log."""


@dataclass(frozen=True, slots=True)
class _Record:
    """An authority as it was read, and the revision to swap it at."""

    authority: LocalAuthority
    revision: int


class Rotations:
    """Takes the steps of rotations. `live` is told by the backend, not from here."""

    def __init__(
        self,
        backend: Backend,
        live: LiveAuthorities,
        presence: PresenceStore,
        audit: Audit,
        now: Callable[[], datetime],
        *,
        algorithm: KeyAlgorithm = KeyAlgorithm.ED25519,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """Take what the steps work with; new keys are of `algorithm`."""
        self._backend = backend
        self.live = live
        self._presence = presence
        self._audit = audit
        self._now = now
        self._algorithm = algorithm
        self._new_id = new_id
        self._warned: set[tuple[AuthorityType, int]] = set()

    async def status(self) -> RotationStatuses:
        """Return how it stands with both authorities, as the backend has them. Raises Unavailable, CorruptState."""
        members = await self._presence.followers()
        read = await self._read(AuthorityType)
        return RotationStatuses(authorities=tuple(status_of(record.authority, members) for record in read.values()))

    async def rotate(self, request: RotateRequest, by: str) -> None:
        """Begin, or take the step that is asked for; what is done already, of a command that was cut short, stays.

        Raises InvalidInput, AlreadyExists, Unavailable, CorruptState.
        """
        if request.phase in (None, Phase.INIT):
            await self._begin(request, by)
        else:
            await self._go(request, request.phase, by)

    # --- by command -----------------------------------------------------------------------------------------------

    async def _begin(self, request: RotateRequest, by: str) -> None:
        rotation.check_grace(request.grace)
        name = self._new_id()
        mode = Mode.MANUAL if request.manual else Mode.AUTO
        while True:
            read = await self._read(request.types)
            running = {each: record.authority for each, record in read.items() if record.authority.rotation}
            begun = [authority.rotation for authority in running.values() if authority.rotation is not None]
            if len(running) == len(read) and all(each.id == name for each in begun):
                return
            if len(running) == len(read) or any(each.phase is not Phase.INIT for each in begun):
                raise _runs_already(running.values())
            if begun and begun[0].id != name:
                # The command that began these was cut short: this one ends it.
                name, mode = begun[0].id, begun[0].mode
                request = request.model_copy(update={"grace": begun[0].grace, "force": begun[0].force})
            with suppress(CompareFailed):
                for each, record in read.items():
                    if each in running:
                        continue
                    key = await self._new_key()
                    after = authority_steps.begin(
                        record.authority,
                        key,
                        name=name,
                        now=self._now(),
                        mode=mode,
                        grace=request.grace,
                        force=request.force,
                    )
                    await self._swap(record, after, by)
                return

    async def _go(self, request: RotateRequest, to: Phase, by: str) -> None:
        while True:
            read = await self._read(request.types)
            rotating = {each: record for each, record in read.items() if record.authority.rotation is not None}
            if not rotating:
                rotation.step(None, to, now=self._now())
            steps = {each: self._stepped(record.authority, to, request) for each, record in rotating.items()}
            if not request.force and to is not Phase.ROLLBACK:
                moved = [
                    rotating[each].authority
                    for each, after in steps.items()
                    if _phase(after) is not _phase(rotating[each].authority)
                ]
                await self._check_followed(moved, to)
            with suppress(CompareFailed):
                for each, after in steps.items():
                    if after is not rotating[each].authority:
                        await self._swap(rotating[each], after, by)
                return

    def _stepped(self, authority: LocalAuthority, to: Phase, request: RotateRequest) -> LocalAuthority:
        """Return the authority after the step; the same if there is nothing to do. Raises InvalidInput."""
        after = authority
        if _phase(authority) is not to:
            after = authority_steps.step(authority, to, now=self._now())
        if request.manual and after.rotation is not None and after.rotation.mode is not Mode.MANUAL:
            after = replace(after, rotation=replace(after.rotation, mode=Mode.MANUAL), serial=authority.serial + 1)
        return after

    async def _check_followed(self, authorities: Sequence[LocalAuthority], to: Phase) -> None:
        """Raise InvalidInput while a member that is online has not followed."""
        members = await self._presence.followers()
        for authority in authorities:
            if waiting := stragglers(authority, members):
                raise InvalidInput(
                    f"the {authority.type} CA cannot go on to phase {to}: {len(waiting)} of {len(members)} members have"
                    f" not followed phase {_phase(authority)} yet: {_names(waiting)}",
                    hint="Wait until they have (tctl auth rotate --status); or stop them, or go on with --force: then"
                    " they may have to join anew.",
                )

    # --- by itself ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take the steps that are due, for ever. Of several auth servers one takes each."""
        changed = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(changed))
            while True:
                changed.clear()
                try:
                    pause = await self._look()
                except TeleportError as error:
                    logger.warning("the rotation of authorities waits: %s", error)
                    pause = LOOK_SECONDS
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await changed.wait()

    async def _listen(self, changed: asyncio.Event) -> None:
        async with aclosing(self.live.follow()) as changes:
            async for _ in changes:
                changed.set()

    async def _look(self) -> float | None:
        """Take the steps that are due now; return the seconds until the next look, None: until something changes."""
        now = self._now()
        running = [
            (authority, authority.rotation)
            for authority in (self.live.user, self.live.host)
            if authority.rotation is not None and authority.rotation.due is not None
        ]
        if not running:
            return None
        later = [(running.due - now).total_seconds() for _, running in running if running.due and running.due > now]
        due = [(authority, running) for authority, running in running if running.due and running.due <= now]
        if not due:
            # The clock may be set meanwhile.
            return min(*later, 60.0)
        members = await self._presence.followers()
        for authority, at in due:
            waiting = stragglers(authority, members)
            if waiting and not (at.force and now >= at.changed + FORCED_WAIT):
                if at.due is not None and now >= at.due + WARN_AFTER:
                    self._warn(authority, waiting, len(members))
                continue
            if waiting:
                logger.warning("the %s CA goes on without %s", authority.type, _names(waiting))
            await self._step_once(authority)
        return LOOK_SECONDS * (1 + len(members) / MEMBERS_A_LOOK)

    async def _step_once(self, seen: LocalAuthority) -> None:
        """Take the next step of an authority unless it has changed since it was looked at."""
        authority, revision = await read_record(self._backend, seen.type)
        if authority.serial != seen.serial or authority.rotation is None:
            return
        after = authority_steps.step(authority, authority.rotation.next, now=self._now())
        with suppress(CompareFailed):  # another auth server has taken it
            await self._swap(_Record(authority, revision), after, AUTO)

    def _warn(self, authority: LocalAuthority, waiting: Sequence[Follower], members: int) -> None:
        """Say once for each phase that it waits."""
        if (seen := (authority.type, authority.serial)) not in self._warned:
            self._warned.add(seen)
            logger.warning(
                "the rotation of the %s CA waits in phase %s: %d of %d members have not followed: %s",
                authority.type,
                _phase(authority),
                len(waiting),
                members,
                _names(waiting),
            )

    # --- the backend ----------------------------------------------------------------------------------------------

    async def _read(self, types: Iterable[AuthorityType]) -> Mapping[AuthorityType, _Record]:
        """Return the records of these types, the user CA first."""
        return {each: _Record(*await read_record(self._backend, each)) for each in AuthorityType if each in types}

    async def _swap(self, before: _Record, after: LocalAuthority, by: str) -> None:
        """Write the next record and tell of it. Raises CompareFailed, Unavailable."""
        key = keys.local_authority(after.type)
        await self._backend.compare_and_swap(key, encode_authority(after), revision=before.revision)
        running = after.rotation or before.authority.rotation
        logger.warning("the rotation of the %s CA is in phase %s, by %s", after.type, _phase(after), by)
        self._audit.emit(
            EventType.CA_ROTATED,
            type=after.type.value,
            phase=_phase(after).value,
            by=by,
            mode=running.mode.value if running else "",
            rotation=running.id if running else "",
            fingerprints=[each.public.fingerprint for each in after.generations],
        )

    async def _new_key(self) -> PrivateKey:
        return await asyncio.to_thread(generate_key, self._algorithm)


def _phase(authority: LocalAuthority) -> Phase:
    return authority.rotation.phase if authority.rotation is not None else Phase.STANDBY


def _names(members: Sequence[Follower]) -> str:
    shown = [f"{each.kind} {each.name}" for each in members[:NAMES_SHOWN]]
    return ", ".join(shown) + (f" and {len(members) - NAMES_SHOWN} more" if len(members) > NAMES_SHOWN else "")


def _runs_already(authorities: Iterable[LocalAuthority]) -> AlreadyExists:
    running = [f"the {each.type} CA is in phase {_phase(each)}" for each in authorities]
    return AlreadyExists(
        f"a rotation is running already: {', '.join(running)}",
        hint="Look at it with tctl auth rotate --status. Go on with --phase=PHASE, go back with --phase=rollback, or"
        " rotate the other authority alone: --type=user or --type=host.",
    )
