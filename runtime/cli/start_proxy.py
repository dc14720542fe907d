"""The proxy role of `teleport start`: the proxy service with its settings, and what it tells of itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runtime.api.client import AuthClient
from runtime.core.clock import Clock
from runtime.proxy.limits import WebLimits
from runtime.proxy.service import ProxyOptions, ProxyService
from runtime.service.settings import Settings
from runtime.service.values import Address

logger = logging.getLogger(__name__)

WEB_LABEL = "web"
"""The label in which a proxy tells its HTTPS address; auth makes sign-up URLs from it."""


class ProxyRole:
    """The proxy's HTTPS part. Its SSH port (`addr`) is told already, and does not listen yet."""

    def __init__(self, settings: Settings, auth: AuthClient, *, name: str, addr: Address, clock: Clock) -> None:
        self._addr = addr
        self._web = replace(settings.proxy_service.web_listen_addr, host=addr.host)
        self._service = ProxyService(proxy_options(settings, name, addr), auth=auth, clock=clock)
        self.where = ""

    def presence(self) -> tuple[str, Mapping[str, str]]:
        """Return the SSH address, and the one of HTTPS as a label."""
        return str(self._addr), {WEB_LABEL: str(self._web)}

    async def start(self) -> None:
        """Serve HTTPS. Raises InvalidSettings, Unavailable."""
        host, port = await self._service.start()
        self._web = replace(self._web, port=port)
        self.where = f"proxy on https://{Address(host, port)}"
        logger.warning(
            "the proxy serves sign-up and login; its SSH port %d comes with a later release", self._addr.port
        )

    async def run(self) -> None:
        """Nothing but what the service does by itself."""
        await asyncio.Event().wait()

    async def reload(self) -> None:
        """Take the certificate for HTTPS as it is now."""
        await self._service.reload()

    async def stop(self) -> None:
        """Finish what is being answered, and stop."""
        await self._service.stop()


def proxy_options(settings: Settings, name: str, addr: Address) -> ProxyOptions:
    """Return what the service needs of teleport.yaml. People reach it as `addr`'s host and under its name."""
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
