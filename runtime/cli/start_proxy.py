"""The proxy role of `teleport start`: its SSH and HTTPS ports with their settings, and what it follows of auth."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runtime.cli.start_audit import open_queue
from runtime.cli.surroundings import Surroundings
from runtime.core.callers import CallerKind
from runtime.proxy.cluster import ClusterView
from runtime.proxy.limits import WebLimits
from runtime.proxy.service import ProxyOptions, ProxyService
from runtime.proxy.ssh import SSHOptions, SSHPort
from runtime.proxy.targets import Targets
from runtime.proxy.tunnels import TUNNEL_LABEL, TunnelOptions, Tunnels
from runtime.service.directory import Directory
from runtime.service.following import Following
from runtime.service.identity import StoredIdentity
from runtime.service.member import Member
from runtime.service.remote_audit import RemoteAudit
from runtime.service.settings import Settings
from runtime.service.values import Address
from runtime.transport.limits import Limits

WEB_LABEL = "web"
"""The label in which a proxy tells its HTTPS address; auth makes sign-up URLs from it."""

FOLLOWED_FILE = "proxy.people.json"
"""In data_dir: users and roles as the proxy last heard of them."""
PATIENCE_SECONDS = 5.0
"""How long a start waits for users and roles; then those of the last time have to do."""
FLUSH_SECONDS = 2.0
"""How long a stop waits for auth to take the last audit events."""
GOOD_BYE_SECONDS = 6.0
"""How much of the time that a stop may take is for good-byes: sessions through the proxy go on until then."""


class ProxyRole:
    """The proxy, and what goes on around it."""

    def __init__(self, settings: Settings, member: Member, surroundings: Surroundings, *, addr: Address) -> None:
        """Others reach its SSH port at `addr`."""
        proxy = settings.proxy_service
        self._settings = settings
        self._grace = settings.teleport.drain_timeout.total_seconds() - GOOD_BYE_SECONDS
        self._member = member
        self._clock = surroundings.clock
        self._name = surroundings.name
        self._addr = addr
        self._web = replace(proxy.web_listen_addr, host=addr.host)
        self._following = Following(member.auth, surroundings.data_dir, FOLLOWED_FILE)
        self._directory = Directory(member.auth)
        self._audit = RemoteAudit(member.auth, surroundings.clock, open_queue(settings, CallerKind.PROXY))
        self._tunnels = Tunnels(
            tunnel_options(settings, surroundings.name, addr),
            auth=member.auth,
            identity=lambda: member.identity,
            data_dir=surroundings.data_dir,
            audit=self._audit,
            clock=surroundings.clock,
        )
        surroundings.metrics.watch_tunnels(self._tunnels)
        targets = Targets(self._directory, proxy.openssh_servers)
        self._view = ClusterView(
            name=member.identity.cluster,
            trust=lambda: member.identity.trust,
            authorities=lambda: member.identity.authorities,
            known=lambda: member.identity.known,
            people=self._following,
            nodes=targets.all,
            audit=self._audit,
            others=self._tunnels.others,
        )
        self._ssh = SSHPort(ssh_options(settings), view=self._view, targets=targets, clock=surroundings.clock)
        self._https: ProxyService | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.where = ""

    def presence(self) -> tuple[str, Mapping[str, str]]:
        """Return the SSH address, and as labels those of HTTPS and for tunnels."""
        return str(self._addr), {
            WEB_LABEL: str(self._settings.proxy_service.public_addr or self._web),
            TUNNEL_LABEL: str(self._tunnels.address),
        }

    async def start(self) -> None:
        """Know who may come in, and serve SSH and HTTPS. Raises InvalidSettings, InvalidInput, Unavailable."""
        self._tasks = [
            asyncio.create_task(work) for work in (self._following.run(), self._directory.run(), self._audit.run())
        ]
        await self._following.ready(PATIENCE_SECONDS)
        ssh = await self._ssh.start(**_host(self._member.identity))
        self._addr = replace(self._addr, port=ssh.port)
        await self._tunnels.start(self._view, self._ssh.connector)
        self._tasks.append(asyncio.create_task(self._tunnels.run()))
        self._https = ProxyService(
            proxy_options(self._settings, self._name, self._addr),
            auth=self._member.auth,
            view=self._view,
            clock=self._clock,
            identity=lambda: self._member.identity,
        )
        host, port = await self._https.start()
        self._web = replace(self._web, port=port)
        self.where = f"proxy on {ssh} and https://{Address(host, port)}"

    async def run(self) -> None:
        """Serve, until cancelled, or until something fails. What is followed and told goes on until `stop`."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def reload(self) -> None:
        """Take the certificate for HTTPS as it is now."""
        if self._https is not None:
            await self._https.reload()

    async def renewed(self, identity: StoredIdentity) -> None:
        """Show the new certificates on the SSH port and to tunnels; HTTPS has certificates of its own."""
        await self._ssh.renew(**_host(identity))
        await self._tunnels.renewed(identity)

    async def stop(self) -> None:
        """Finish what is being answered, let sessions go on as long as there is time, and stop."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ssh.stop(grace=self._grace))
            group.create_task(self._tunnels.drain(self._grace))
            if self._https is not None:
                group.create_task(self._https.stop())
        await self._tunnels.stop()
        await self._audit.flush(FLUSH_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._audit.close()


def proxy_options(settings: Settings, name: str, addr: Address) -> ProxyOptions:
    """Return what HTTPS needs of teleport.yaml. People reach it as `addr`'s host, under its name and where it says."""
    proxy = settings.proxy_service
    public = proxy.public_addr
    return ProxyOptions(
        web_address=proxy.web_listen_addr,
        data_dir=Path(settings.teleport.data_dir),
        names=tuple(dict.fromkeys((*([public.host] if public else []), addr.host, name))),
        public_address=public,
        https_key_file=Path(proxy.https_key_file) if proxy.https_key_file else None,
        https_cert_file=Path(proxy.https_cert_file) if proxy.https_cert_file else None,
        ssh_port=(proxy.ssh_public_addr or addr).port,
        ssh_host=str(proxy.ssh_public_addr).rpartition(":")[0] if proxy.ssh_public_addr else "",
        limits=WebLimits(max_connections=settings.teleport.connection_limits.max_connections),
    )


def tunnel_options(settings: Settings, name: str, addr: Address) -> TunnelOptions:
    """Return what tunnels need of teleport.yaml. Leaves reach this proxy on `addr`'s host, unless it says where."""
    proxy = settings.proxy_service
    return TunnelOptions(
        listen=proxy.tunnel_listen_addr,
        host=proxy.public_addr.host if proxy.public_addr else addr.host,
        name=name,
        public=proxy.tunnel_public_addr,
        max_connections=settings.teleport.connection_limits.max_connections,
        own=(proxy.listen_addr, proxy.web_listen_addr),
    )


def ssh_options(settings: Settings) -> SSHOptions:
    """Return what the SSH port needs of teleport.yaml."""
    proxy, limits = settings.proxy_service, settings.teleport.connection_limits
    own = [proxy.web_listen_addr, proxy.tunnel_listen_addr]
    if settings.auth_service.enabled:
        own.append(settings.auth_service.listen_addr)
    if settings.teleport.diag_addr is not None:
        own.append(settings.teleport.diag_addr)
    return SSHOptions(
        address=proxy.listen_addr,
        limits=Limits(max_connections=limits.max_connections, max_users=limits.max_users),
        own=tuple(own),
    )


def _host(identity: StoredIdentity) -> dict[str, bytes]:
    return {
        "host_key": identity.key.get_secret_value().encode(),
        "host_certificate": identity.host_certificate.encode(),
    }
