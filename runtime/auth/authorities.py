"""The cluster's two authorities in the backend: created once, by whichever auth service comes first, and then read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from runtime.auth.authority_record import LocalAuthority, decode_authority, encode_authority, new_authority
from runtime.backend.base import Backend, Delete, Item, Snapshot
from runtime.core import keys
from runtime.core.clock import Clock
from runtime.core.errors import AlreadyExists, CorruptState, InvalidInput, InvalidSettings, NotFound
from runtime.core.resources.authority import AuthorityType
from runtime.pki.keys import KeyAlgorithm, generate_key
from runtime.pki.trust import Trust, keys_of

_log = logging.getLogger(__name__)


class Authorities(Protocol):
    """The user CA and the host CA of this cluster, able to sign: of one moment, or of each (`LiveAuthorities`)."""

    @property
    def user(self) -> LocalAuthority:
        """The user CA."""
        ...

    @property
    def host(self) -> LocalAuthority:
        """The host CA."""
        ...

    @property
    def cluster(self) -> str:
        """The cluster that both sign for."""
        ...

    @property
    def trust(self) -> Trust:
        """What verifies the certificates of this cluster."""
        ...


@dataclass(frozen=True, slots=True)
class LocalAuthorities:
    """The user CA and the host CA of this cluster as they are at one moment."""

    user: LocalAuthority
    host: LocalAuthority

    @property
    def cluster(self) -> str:
        """The cluster that both sign for."""
        return self.user.cluster

    @property
    def trust(self) -> Trust:
        """What verifies the certificates of this cluster."""
        return Trust([*keys_of(self.user.public), *keys_of(self.host.public)])


class LiveAuthorities:
    """The authorities as the backend has them now. Each change takes the place of the whole, between two requests."""

    def __init__(self, current: LocalAuthorities, backend: Backend) -> None:
        self._current = current
        self._backend = backend
        self._trust = current.trust
        self._waiting: set[asyncio.Event] = set()

    @property
    def current(self) -> LocalAuthorities:
        """The authorities of this moment, which do not change while somebody works with them."""
        return self._current

    @property
    def user(self) -> LocalAuthority:
        """The user CA."""
        return self._current.user

    @property
    def host(self) -> LocalAuthority:
        """The host CA."""
        return self._current.host

    @property
    def cluster(self) -> str:
        """The cluster that both sign for."""
        return self._current.cluster

    @property
    def trust(self) -> Trust:
        """What verifies the certificates of this cluster."""
        return self._trust

    def take(self, authority: LocalAuthority) -> None:
        """Let a record hold from now on. Raises CorruptState when it does not fit to the other."""
        before = self._of(authority.type)
        if (authority.serial, authority.rotation, authority.public) == (before.serial, before.rotation, before.public):
            return
        current = replace(self._current, **{authority.type.value: authority})
        self._trust = _checked(current).trust
        self._current = current
        for event in self._waiting:
            event.set()

    async def follow(self) -> AsyncGenerator[LocalAuthorities, None]:
        """Yield the authorities now and after each change; changes in between are one."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            while True:
                event.clear()
                yield self._current
                await event.wait()
        finally:
            self._waiting.discard(event)

    async def run(self) -> None:
        """Follow the records in the backend for ever. One that cannot be used changes nothing, and the log says so."""
        async with aclosing(self._backend.watch(keys.LOCAL_AUTHORITIES)) as events:
            async for event in events:
                if isinstance(event, Delete):
                    _log.error("the authority %s was deleted from the backend: restore it from a backup", event.key)
                    continue
                for item in event.items if isinstance(event, Snapshot) else (event.item,):
                    try:
                        self.take(_decoded(item, AuthorityType(item.key.rpartition("/")[2])))
                    except (CorruptState, ValueError) as error:
                        _log.error("the authorities stay as they were: %s", error)

    def _of(self, authority_type: AuthorityType) -> LocalAuthority:
        return self.user if authority_type is AuthorityType.USER else self.host


async def ensure_authorities(
    backend: Backend, cluster: str, *, clock: Clock, algorithm: KeyAlgorithm = KeyAlgorithm.ED25519
) -> LocalAuthorities:
    """Return the cluster's authorities, creating those that the backend does not have.

    Of several auth services that start at once, one creates each authority and the others take it as it is. Only the
    backend's own word that a record is absent leads to a new one. The user CA comes first, so that of two services
    with different cluster names one ends here before it has written anything.

    Raises InvalidSettings when the backend belongs to a cluster of another name, CorruptState when a record cannot
    be used, Unavailable when the backend does not answer.
    """
    user = await _ensure(backend, AuthorityType.USER, cluster, clock, algorithm)
    return _pair(user, await _ensure(backend, AuthorityType.HOST, cluster, clock, algorithm))


async def read_authorities(backend: Backend) -> LocalAuthorities:
    """Return the authorities that the backend holds, whatever the cluster's name.

    Raises NotFound when one is missing, CorruptState when a record cannot be used, Unavailable.
    """
    return _pair(await _read(backend, AuthorityType.USER), await _read(backend, AuthorityType.HOST))


async def _ensure(
    backend: Backend, authority_type: AuthorityType, cluster: str, clock: Clock, algorithm: KeyAlgorithm
) -> LocalAuthority:
    try:
        authority = await _read(backend, authority_type)
    except NotFound:
        # RSA keys take about a second of CPU.
        key = await asyncio.to_thread(generate_key, algorithm)
        authority = new_authority(authority_type, cluster, key, created=clock.now())
        try:
            await backend.create(keys.local_authority(authority_type), encode_authority(authority))
            _log.info("created the %s, %s", authority.signer.public, key.public)
        except AlreadyExists:
            authority = await _read(backend, authority_type)
    if authority.cluster != cluster:
        raise InvalidSettings(
            f"the backend holds the {authority.signer.public}, but cluster_name is {cluster}",
            hint=f"Set cluster_name: {authority.cluster} in auth_service. To rename the cluster after all, give it an"
            " empty backend: its keys and all certificates become invalid.",
        )
    return authority


async def read_record(backend: Backend, authority_type: AuthorityType) -> tuple[LocalAuthority, int]:
    """Return one authority and the revision of its record. Raises NotFound, CorruptState, Unavailable."""
    item = await backend.get(keys.local_authority(authority_type))
    return _decoded(item, authority_type), item.revision


async def _read(backend: Backend, authority_type: AuthorityType) -> LocalAuthority:
    return (await read_record(backend, authority_type))[0]


def _decoded(item: Item, authority_type: AuthorityType) -> LocalAuthority:
    try:
        return decode_authority(item.value, authority_type)
    except InvalidInput as error:
        raise CorruptState(
            f"the {authority_type} CA in the backend, key {item.key}, cannot be used: {error}",
            hint="Nothing was overwritten. Restore the key from a backup; or stop all auth services and delete it: a"
            " new CA is then made, and every certificate of the old one becomes invalid.",
        ) from error


def _pair(user: LocalAuthority, host: LocalAuthority) -> LocalAuthorities:
    return _checked(LocalAuthorities(user, host))


def _checked(pair: LocalAuthorities) -> LocalAuthorities:
    """Return the pair if its keys and names go together. Raises CorruptState."""
    user, host = pair.user, pair.host
    if user.cluster != host.cluster:
        raise CorruptState(
            f"the backend holds the {user.signer.public} and the {host.signer.public}: two clusters in one backend",
            hint="Give each cluster a backend, or a prefix or table, of its own.",
        )
    try:
        _ = pair.trust
    except InvalidInput as error:
        raise CorruptState(f"the authorities in the backend are mixed up: {error}", hint=error.hint) from error
    return pair
