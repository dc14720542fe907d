"""Users and roles of the cluster as auth last told them, so that access goes on while it is away."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import Generic, TypeVar

from runtime.api.client import AuthClient
from runtime.api.resource_messages import ResourceEvent
from runtime.core.errors import AccessDenied, InvalidResource, TeleportError, Unavailable
from runtime.core.resources import Resource, Role, User, decode
from runtime.service.identity import DataDir

logger = logging.getLogger(__name__)

KEEP_SECONDS = 1.0
"""Changes of so long are written to the disk in one go."""

AnyResource = TypeVar("AnyResource", bound=Resource)


class Followed(Generic[AnyResource]):
    """The resources of one kind. One that cannot be read is as good as none: who needs it is refused."""

    def __init__(self, model: type[AnyResource]) -> None:
        self.model = model
        self.by_name: dict[str, AnyResource] = {}
        self.documents: dict[str, str] = {}
        """The same as JSON text, as auth told it."""

    @property
    def kind(self) -> str:
        """The kind as documents name it."""
        return self.model.__name__

    def take(self, event: ResourceEvent) -> None:
        """Let a change hold."""
        if event.snapshot is not None:
            self.replace(document.document for document in event.snapshot)
        if event.put is not None:
            self._put(event.put.document)
        if event.deleted is not None:
            self._drop(event.deleted)

    def replace(self, documents: Iterable[str]) -> None:
        """Take these documents for all there are."""
        self.by_name.clear()
        self.documents.clear()
        for document in documents:
            self._put(document)

    def _put(self, document: str) -> None:
        try:
            resource = decode(self.model, document.encode())
        except InvalidResource as error:
            logger.error("following: %s", error.in_full)  # noqa: TRY400 - no bug of ours
            self._drop(_name_in(document))
            return
        self.by_name[resource.name] = resource
        self.documents[resource.name] = document

    def _drop(self, name: str) -> None:
        self.by_name.pop(name, None)
        self.documents.pop(name, None)


class Following:
    """What decides who gets in: users and roles, followed from auth and kept in `file` of data_dir."""

    def __init__(self, auth: AuthClient, data_dir: DataDir, file: str) -> None:
        self._auth = auth
        self._data_dir = data_dir
        self._file = file
        self._users = Followed(User)
        self._roles = Followed(Role)
        self._heard: set[str] = set()
        self._ready = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def users(self) -> Mapping[str, User]:
        """All users, by name."""
        return self._users.by_name

    @property
    def roles(self) -> Mapping[str, Role]:
        """All declared roles, by name."""
        return self._roles.by_name

    def user(self, name: str) -> User:
        """Return a user. Raises AccessDenied for one that does not exist, or no longer."""
        try:
            return self.users[name]
        except KeyError:
            raise AccessDenied(f"there is no user {name}", hint="Was it deleted? Ask an administrator.") from None

    async def ready(self, seconds: float) -> None:
        """Wait until auth has told of all; after `seconds` what was kept has to do, and the log says so."""
        try:
            async with asyncio.timeout(seconds):
                await self._ready.wait()
        except TimeoutError:
            if self._load():
                logger.warning("auth is away: users and roles are those of the last time, in %s", self._file)
            else:
                logger.warning("auth is away, and nothing is known of users and roles: nobody gets in until it is back")

    async def run(self) -> None:
        """Follow, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(self._users))
            group.create_task(self._follow(self._roles))
            group.create_task(self._keep())

    async def _follow(self, followed: Followed[AnyResource]) -> None:
        async with aclosing(self._auth.watch(followed.kind)) as events:
            async for event in events:
                followed.take(event)
                self._heard.add(followed.kind)
                if len(self._heard) == 2:  # half of the truth is not kept
                    self._ready.set()
                    self._changed.set()

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(KEEP_SECONDS)
            self._changed.clear()
            kept = {each.kind: list(each.documents.values()) for each in (self._users, self._roles)}
            try:
                await asyncio.to_thread(self._write, kept)
            except Unavailable as error:
                logger.error("users and roles are not kept: %s", error.in_full)  # noqa: TRY400 - no bug of ours

    def _write(self, kept: Mapping[str, list[str]]) -> None:
        self._data_dir.write(self._file, json.dumps(kept).encode())

    def _load(self) -> bool:
        """Take what was kept; return whether there was anything."""
        try:
            content = self._data_dir.read(self._file)
            kept = json.loads(content) if content else None
        except (TeleportError, ValueError) as error:
            logger.error("%s cannot be used: %s", self._file, error)  # noqa: TRY400 - no bug of ours
            return False
        if not isinstance(kept, dict) or not all(isinstance(each, list) for each in kept.values()):
            return False
        for followed in (self._users, self._roles):
            if followed.kind not in self._heard:
                followed.replace(filter(_is_text, kept.get(followed.kind, [])))
        return True


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _name_in(document: str) -> str:
    try:
        return str(json.loads(document)["metadata"]["name"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
