"""The cluster's two authorities in the backend: created once, by whichever auth service comes first, and then read."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from runtime.auth.authority_record import LocalAuthority, decode_authority, encode_authority, new_authority
from runtime.backend.base import Backend
from runtime.core import keys
from runtime.core.clock import Clock
from runtime.core.errors import AlreadyExists, CorruptState, InvalidInput, InvalidSettings, NotFound
from runtime.core.resources.authority import AuthorityType
from runtime.pki.keys import KeyAlgorithm, generate_key
from runtime.pki.trust import Trust, keys_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalAuthorities:
    """The user CA and the host CA of this cluster, able to sign."""

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


async def _read(backend: Backend, authority_type: AuthorityType) -> LocalAuthority:
    key = keys.local_authority(authority_type)
    item = await backend.get(key)
    try:
        return decode_authority(item.value, authority_type)
    except InvalidInput as error:
        raise CorruptState(
            f"the {authority_type} CA in the backend, key {key}, cannot be used: {error}",
            hint="Nothing was overwritten. Restore the key from a backup; or stop all auth services and delete it: a"
            " new CA is then made, and every certificate of the old one becomes invalid.",
        ) from error


def _pair(user: LocalAuthority, host: LocalAuthority) -> LocalAuthorities:
    if user.cluster != host.cluster:
        raise CorruptState(
            f"the backend holds the {user.signer.public} and the {host.signer.public}: two clusters in one backend",
            hint="Give each cluster a backend, or a prefix or table, of its own.",
        )
    pair = LocalAuthorities(user, host)
    try:
        _ = pair.trust
    except InvalidInput as error:
        raise CorruptState(f"the authorities in the backend are mixed up: {error}", hint=error.hint) from error
    return pair
