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
from runtime.service.directory import Directory
from runtime.service.following import Following
from runtime.service.identity import StoredIdentity
from runtime.service.lifecycle import DRAIN_SECONDS
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
SESSION_SECONDS = DRAIN_SECONDS - 6
"""How long sessions through the proxy may go on when it stops: what is left of its time is for good-byes."""


class ProxyRole:
    """The proxy, and what goes on around it."""

    def __init__(self, settings: Settings, member: Member, surroundings: Surroundings, *, addr: Address) -> None:
        """Others reach its SSH port at `addr`."""
        proxy = settings.proxy_service
        self._settings = settings
        self._member = member
        self._clock = surroundings.clock
        self._name = surroundings.name
        self._addr = addr
        self._web = replace(proxy.web_listen_addr, host=addr.host)
        self._following = Following(member.auth, surroundings.data_dir, FOLLOWED_FILE)
        self._directory = Directory(member.auth)
        self._audit = RemoteAudit(member.auth, surroundings.clock, open_queue(settings, CallerKind.PROXY))
        targets = Targets(self._directory, proxy.openssh_servers)
        self._view = ClusterView(
            name=member.identity.cluster,
            trust=lambda: member.identity.trust,
            people=self._following,
            nodes=targets.all,
            audit=self._audit,
        )
        self._ssh = SSHPort(ssh_options(settings), view=self._view, targets=targets, clock=surroundings.clock)
        self._https: ProxyService | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.where = ""

    def presence(self) -> tuple[str, Mapping[str, str]]:
        """Return the SSH address, and the one of HTTPS as a label."""
        return str(self._addr), {WEB_LABEL: str(self._web)}

    async def start(self) -> None:
        """Know who may come in, and serve SSH and HTTPS. Raises InvalidSettings, InvalidInput, Unavailable."""
        self._tasks = [
            asyncio.create_task(work) for work in (self._following.run(), self._directory.run(), self._audit.run())
        ]
        await self._following.ready(PATIENCE_SECONDS)
        ssh = await self._ssh.start(**_host(self._member.identity))
        self._addr = replace(self._addr, port=ssh.port)
        self._https = ProxyService(
            proxy_options(self._settings, self._name, self._addr),
            auth=self._member.auth,
            view=self._view,
            clock=self._clock,
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
        """Show the new host certificate on the SSH port; HTTPS has certificates of its own."""
        await self._ssh.renew(**_host(identity))

    async def stop(self) -> None:
        """Finish what is being answered, let sessions go on as long as there is time, and stop."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ssh.stop(grace=SESSION_SECONDS))
            if self._https is not None:
                group.create_task(self._https.stop())
        await self._audit.flush(FLUSH_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._audit.close()


def proxy_options(settings: Settings, name: str, addr: Address) -> ProxyOptions:
    """Return what HTTPS needs of teleport.yaml. People reach it as `addr`'s host and under its name."""
    proxy = settings.proxy_service
    return ProxyOptions(
        web_address=proxy.web_listen_addr,
        data_dir=Path(settings.teleport.data_dir),
        names=tuple(dict.fromkeys((addr.host, name))),
        https_key_file=Path(proxy.https_key_file) if proxy.https_key_file else None,
        https_cert_file=Path(proxy.https_cert_file) if proxy.https_cert_file else None,
        ssh_port=addr.port,
        limits=WebLimits(max_connections=settings.teleport.connection_limits.max_connections),
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
