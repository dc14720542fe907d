"""Where auth's configuration comes from: teleport.yaml or the storage (manual, `dynamic_config`).

It is the second factor, the static tokens, the trusted clusters by key_file, and the declared resources that
teleport.yaml can hold. With dynamic_config

    no     the file is the truth: at each start what it says is put into the storage, in place of what an earlier file
           said. Resources that tctl or Kubernetes declared stay.
    yes    the storage is the truth: the file counts once, where the storage has nothing yet. A change in the storage
           takes effect at once. It is made by starting an auth server with `no` on that storage (manual, "Permissions
           with Trusted Clusters": "set dynamic_config: false to make sure your changes are propagated").
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.api.cluster_messages import SecondFactor
from runtime.api.trust_messages import TrustedPeer
from runtime.auth.declared import Declared, kind_of
from runtime.auth.tokens import JoinToken
from runtime.backend.base import Backend, Item, Put, Snapshot
from runtime.core.errors import AlreadyExists, CompareFailed, CorruptState, NotFound
from runtime.core.keys import SECRETS
from runtime.core.resources import DECLARED, Origin, Resource

logger = logging.getLogger(__name__)

_PREFIX = f"{SECRETS}/configuration/"
KEY = f"{_PREFIX}auth"


class Configuration(BaseModel):
    """What can be changed while auth runs."""

    model_config = ConfigDict(frozen=True)

    second_factor: SecondFactor = "otp"
    static_tokens: tuple[JoinToken, ...] = ()
    trusted_clusters: tuple[TrustedPeer, ...] = ()


async def settle(backend: Backend, file: Configuration, *, dynamic: bool) -> Configuration:
    """Return the configuration that holds at a start, and have it in the storage. Raises CorruptState."""
    content = file.model_dump_json().encode()
    try:
        item = await backend.create(KEY, content)
    except AlreadyExists:
        item = await backend.get(KEY)
    if not dynamic:
        if item.value != content:
            await backend.put(KEY, content)
        return file
    stored = _decode(item)
    if stored != file:
        logger.warning(
            "second_factor, tokens or trusted_clusters of teleport.yaml are not what the storage holds, and the "
            "storage counts: start once with dynamic_config: no to publish the file"
        )
    return stored


async def follow(backend: Backend, apply: Callable[[Configuration], None]) -> None:
    """Apply the stored configuration now and at each change, until cancelled."""
    async with aclosing(backend.watch(_PREFIX)) as events:
        async for event in events:
            match event:
                case Snapshot(items):
                    found = [item for item in items if item.key == KEY]
                case Put(item):
                    found = [item] if item.key == KEY else []
                case _:
                    found = []  # deleted by hand: what held holds on
            for item in found:
                try:
                    apply(_decode(item))
                except CorruptState as error:
                    logger.error("%s", error.in_full)  # noqa: TRY400 - no bug of ours


async def publish(declared: Declared, resources: Sequence[Resource]) -> None:
    """Make these the resources of teleport.yaml: written anew, and those that an earlier file had deleted.

    One whose name is taken by tctl or Kubernetes is left out, and the log says so.
    """
    wanted = {(resource.kind, resource.name) for resource in resources}
    for model in DECLARED.values():
        for old in await declared.all(model):
            if old.metadata.origin is Origin.CONFIG and (kind_of(model), old.name) not in wanted:
                try:
                    await declared.remove(kind_of(model), old.name, Origin.CONFIG)
                except (NotFound, CompareFailed):
                    continue  # another auth server did it, or somebody took it over
    for resource in resources:
        try:
            await declared.write(resource.with_origin(Origin.CONFIG), revision=0, overwrite=True)
        except CompareFailed as error:
            logger.error("teleport.yaml: %s", error.in_full)  # noqa: TRY400 - no bug of ours


def _decode(item: Item) -> Configuration:
    try:
        return Configuration.model_validate_json(item.value)
    except ValidationError as error:
        raise CorruptState(
            f"auth's configuration in the storage cannot be read: {error.error_count()} mistakes",
            hint="Start an auth server with dynamic_config: no on it to write it anew.",
        ) from None
