"""What auth needs before it can serve: its storage, the configuration that holds, and the cluster's authorities."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.api import cluster_messages
from runtime.auth.authorities import LocalAuthorities
from runtime.auth.configuration import Configuration, publish, settle
from runtime.auth.declared import Declared
from runtime.auth.server import AuthOptions, open_authorities
from runtime.auth.tokens import JoinToken
from runtime.backend.base import Backend
from runtime.backend.open import open_backend
from runtime.core.clock import Clock
from runtime.core.errors import Unavailable
from runtime.service.key_files import check_foreign, read_trusted_clusters
from runtime.service.metrics import CountedBackend, Metrics
from runtime.service.sections.auth import SecondFactor
from runtime.service.settings import Settings

logger = logging.getLogger(__name__)

MAX_PAUSE_SECONDS = 30.0
"""Longest pause between two tries while the storage is away."""

_SECOND_FACTORS: Mapping[SecondFactor, cluster_messages.SecondFactor] = {
    SecondFactor.OFF: "off",
    SecondFactor.OTP: "otp",
    SecondFactor.U2F: "u2f",
}


@dataclass(frozen=True, slots=True)
class Storage:
    """An open storage, and what it said. Who gets it closes the backend."""

    backend: Backend
    options: AuthOptions
    configuration: Configuration
    authorities: LocalAuthorities


async def open_storage(
    settings: Settings, clock: Clock, metrics: Metrics, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> Storage:
    """Open the storage and read what auth starts with. While the storage is away it tries on, and says so.

    Raises TeleportError for settings that cannot be right, and for content that cannot be used.
    """
    wait = 1.0
    while True:
        try:
            return await _open(settings, clock, metrics)
        except Unavailable as error:
            logger.error("the storage cannot be used yet: %s. %s Trying again.", error, error.hint)  # noqa: TRY400
        await pause(wait)
        wait = min(MAX_PAUSE_SECONDS, 2 * wait)


async def _open(settings: Settings, clock: Clock, metrics: Metrics) -> Storage:
    backend = CountedBackend(await open_backend(settings.backend, clock=clock), metrics)
    try:
        options = auth_options(settings)
        if not settings.dynamic_config:
            await publish(Declared(backend), ())
        file = Configuration(
            second_factor=options.second_factor,
            static_tokens=options.static_tokens,
            trusted_clusters=options.trusted_clusters,
        )
        configuration = await settle(backend, file, dynamic=settings.dynamic_config)
        options = replace(
            options,
            second_factor=configuration.second_factor,
            static_tokens=configuration.static_tokens,
            trusted_clusters=configuration.trusted_clusters,
        )
        authorities = await open_authorities(backend, options, clock)
        check_foreign(file.trusted_clusters, authorities.cluster, authorities.trust)
    except BaseException:
        await backend.close()
        raise
    return Storage(backend, options, configuration, authorities)


def auth_options(settings: Settings) -> AuthOptions:
    """Return what the service needs of teleport.yaml."""
    auth, audit = settings.auth_service, settings.audit
    return AuthOptions(
        address=auth.listen_addr.host,
        port=auth.listen_addr.port,
        cluster_name=auth.cluster_name,
        second_factor=_SECOND_FACTORS[auth.authentication.second_factor],
        dynamic_config=settings.dynamic_config,
        static_tokens=tuple(
            JoinToken(token=token.value.get_secret_value(), roles=tuple(sorted(map(str, token.roles))), static=True)
            for token in auth.tokens
        ),
        trusted_clusters=read_trusted_clusters(auth.trusted_clusters),
        key_algorithm=auth.ca_key_algorithm,
        recordings=Path(settings.teleport.data_dir) / "log" / "sessions" / "default",
        recordings_retention=audit.recordings_retention,
        recordings_limit=None if audit.recordings_limit is None else audit.recordings_limit * 1024 * 1024,
    )
