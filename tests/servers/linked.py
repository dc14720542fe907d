"""Two real clusters on this machine, a root and a leaf, with trust as it is put into their storages.

What is trusted can be changed while they run, as auth servers of one cluster change it for each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from runtime.api.trust_messages import RoleMapping, TrustedPeer
from runtime.auth.authorities import LocalAuthorities, ensure_authorities
from runtime.auth.configuration import KEY, Configuration
from runtime.auth.tokens import JoinToken
from runtime.backend.base import Backend
from runtime.backend.open import open_backend
from runtime.backend.options import SqliteOptions
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.errors import NotFound
from tests.servers.people import in_thread
from tests.servers.teleport import Config, Teleport

CLOCK = SystemClock()
TOKEN = "0123456789abcdef0123456789abcdef"
"""With which further members join either cluster."""

T = TypeVar("T")


def cluster(
    folder: Path, name: str, roles: Sequence[str] = ("auth", "proxy", "node"), config: Config | None = None
) -> Teleport:
    """Return a process that is a whole cluster, not started, whose authorities exist already."""
    teleport = Teleport(folder, roles, cluster=name, config=config)
    teleport.configure({"auth_service": {"dynamic_config": True}})
    authorities(teleport, name)
    return teleport


def authorities(teleport: Teleport, name: str) -> LocalAuthorities:
    """Return a cluster's authorities, made if there are none yet."""
    return _in_storage(teleport, lambda backend: ensure_authorities(backend, name, clock=CLOCK))


def peer(
    other: LocalAuthorities,
    *,
    tunnel_addr: str = "",
    role_map: Sequence[tuple[str, Sequence[str]]] = (),
    allow_logins: Sequence[str] = (),
    enabled: bool = True,
) -> TrustedPeer:
    """Return what it is to trust another cluster."""
    return TrustedPeer(
        cluster=other.cluster,
        enabled=enabled,
        tunnel_addr=tunnel_addr,
        user_keys=tuple(each.public.line for each in other.user.generations),
        host_keys=tuple(each.public.line for each in other.host.generations),
        role_map=tuple(RoleMapping(remote=remote, local=tuple(local)) for remote, local in role_map),
        allow_logins=tuple(allow_logins),
    )


def trust(teleport: Teleport, *peers: TrustedPeer) -> None:
    """Have a cluster trust these others from now on, and nobody else."""

    async def put(backend: Backend) -> None:
        try:
            known = Configuration.model_validate_json((await backend.get(KEY)).value)
        except NotFound:
            token = JoinToken(token=TOKEN, roles=(CallerKind.NODE, CallerKind.PROXY), static=True)
            known = Configuration(second_factor="otp", static_tokens=(token,))
        changed = known.model_copy(update={"trusted_clusters": peers})
        await backend.put(KEY, changed.model_dump_json().encode())

    _in_storage(teleport, put)


def _in_storage(teleport: Teleport, work: Callable[[Backend], Awaitable[T]]) -> T:
    async def run() -> T:
        backend = await open_backend(SqliteOptions(str(teleport.data_dir / "backend.sqlite")), clock=CLOCK)
        try:
            return await work(backend)
        finally:
            await backend.close()

    teleport.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return in_thread(run())
