"""The proxy service put together: settings and a way to auth in, an HTTPS port out."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from runtime.api.client import AuthClient
from runtime.core.clock import Clock
from runtime.core.defaults import PROXY_SSH_PORT
from runtime.core.errors import TeleportError
from runtime.proxy.access_log import ACCESS_LOG, HTTP_LOG, AccessLog
from runtime.proxy.app import make_app
from runtime.proxy.authority_routes import AuthorityRoutes
from runtime.proxy.cluster import ClusterView
from runtime.proxy.limits import InFlight, WebLimits
from runtime.proxy.listener import Listener
from runtime.proxy.lists import ClusterLists
from runtime.proxy.recordings import RecordingRoutes
from runtime.proxy.running import RunningRoutes
from runtime.proxy.self_signed import ensure_self_signed
from runtime.proxy.signed import MAX_HEADER_BYTES, SignedRequests
from runtime.proxy.tls import served_digest, server_context, warn_of_dates
from runtime.proxy.trust_routes import TrustRoutes
from runtime.service.identity import DataDir, StoredIdentity
from runtime.service.values import Address

logger = logging.getLogger(__name__)

RELOAD_SECONDS = 3600.0
"""How often the certificate is looked at unasked: one that was replaced, or ends soon, is noticed within the hour."""
LINGERING_SECONDS = 2.0
"""How long the rest of a body that nobody reads is waited for, so that the client reads the answer."""
MAX_HEADERS = 64
"""Of a request; a browser sends about twenty, a proxy before us adds a few."""
HEADER_ROOM = 1024
"""How much longer a header may be that is refused with a reason, and not as no HTTP."""
FAREWELL_SECONDS = 1.0
"""How long answers that are made may take to be sent when the service stops."""


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """What the service needs of teleport.yaml (`proxy_service`)."""

    web_address: Address
    """Where to listen; port 0 picks a free one."""
    data_dir: Path
    """Where the self-signed certificate is kept, if one is needed."""
    names: tuple[str, ...]
    """Host names and IP addresses under which people reach this proxy, the one to show them first."""
    https_key_file: Path | None = None
    https_cert_file: Path | None = None
    """Both or neither."""
    public_address: Address | None = None
    """Where people reach it, if that is not `names[0]` at the port where it listens."""
    ssh_port: int = PROXY_SSH_PORT
    ssh_host: str = ""
    """Where SSH is, if not on the host that people reach HTTPS on; an IPv6 address in brackets."""
    limits: WebLimits = field(default_factory=WebLimits)


class ProxyService:
    """Serves HTTPS. `auth` is closed by who opened it; `view` is kept current by who made it."""

    def __init__(
        self,
        options: ProxyOptions,
        *,
        auth: AuthClient,
        view: ClusterView,
        clock: Clock,
        identity: Callable[[], StoredIdentity] | None = None,
    ) -> None:
        """Take what it serves with; `identity` is what it is to other clusters, without which it takes no leaves."""
        self._options = options
        self._auth = auth
        self._view = view
        self._clock = clock
        self._identity = identity
        self._context: ssl.SSLContext
        self._tls = ""
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self._in_flight = InFlight(per_source=options.limits.requests_per_source)
        self._reloading: asyncio.Task[None] | None = None

    async def start(self) -> tuple[str, int]:
        """Listen, and return the address and port that was bound.

        Raises InvalidSettings for a key or certificate that cannot be used, Unavailable when the address cannot be had.
        """
        options = self._options
        self._context = await asyncio.to_thread(self._load)
        self._listener = Listener(lambda: self._context, options.limits)
        host, port = await self._listener.bind(options.web_address.host, options.web_address.port)
        signed = SignedRequests(self._view, self._clock)
        app = make_app(
            auth=self._auth,
            lists=ClusterLists(self._view, signed),
            recordings=RecordingRoutes(self._auth, signed),
            running=RunningRoutes(self._auth, signed),
            address=str(options.public_address or Address(options.names[0], port)),
            ssh_port=options.ssh_port,
            ssh_host=options.ssh_host,
            limits=options.limits,
            in_flight=self._in_flight,
            hsts=options.https_cert_file is not None,
        )
        AuthorityRoutes(self._view, signed).add(app)
        if self._identity is not None:
            credentials = InFlight(total=options.limits.credentials)
            routes = TrustRoutes(
                self._auth, self._identity, lambda: self._tls, credentials=credentials, limits=options.limits
            )
            routes.add(app)
        server = await self._serve(app)
        self._listener.accept(server)
        self._reloading = asyncio.create_task(self._reload_now_and_then())
        return host, port

    async def reload(self) -> None:
        """Take the certificate as it is now for connections from now on; those that are open go on.

        If it cannot be used, the old one stays and the log says why.
        """
        try:
            self._context = await asyncio.to_thread(self._load)
        except (TeleportError, OSError) as error:
            hint = getattr(error, "hint", "")
            logger.error("HTTPS goes on with the certificate that it has: %s %s", error, hint)  # noqa: TRY400 - known

    async def stop(self) -> None:
        """Listen no more, finish what is being answered, and end all connections."""
        if self._reloading is not None:
            self._reloading.cancel()
            await asyncio.wait([self._reloading])
        if self._listener is not None:
            self._listener.close()
        with suppress(TimeoutError):
            # aiohttp's own way to the end reads no more bodies: those that are on their way are waited for here.
            async with asyncio.timeout(self._options.limits.drain_seconds):
                await self._in_flight.wait_idle()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._listener is not None:
            await self._listener.abort()

    def _load(self) -> ssl.SSLContext:
        options = self._options
        if options.https_cert_file is not None and options.https_key_file is not None:
            context = server_context(options.https_cert_file, options.https_key_file)
            warn_of_dates(options.https_cert_file, self._clock.now())
            self._tls = served_digest(options.https_cert_file)
            return context
        data_dir = DataDir(options.data_dir)
        data_dir.open()
        pem = ensure_self_signed(data_dir, options.names, self._clock.now())
        context = server_context(pem, pem)
        self._tls = served_digest(pem)
        return context

    async def _serve(self, app: web.Application) -> web.Server:
        """Return what makes a protocol for each connection."""
        limits = self._options.limits
        self._runner = web.AppRunner(
            app,
            access_log_class=AccessLog,
            access_log=ACCESS_LOG,
            logger=HTTP_LOG,
            keepalive_timeout=limits.read_seconds,
            lingering_time=LINGERING_SECONDS,
            max_headers=MAX_HEADERS,
            max_field_size=MAX_HEADER_BYTES + HEADER_ROOM,
            auto_decompress=False,
            shutdown_timeout=FAREWELL_SECONDS,
        )
        await self._runner.setup()
        if self._runner.server is None:
            raise RuntimeError("a runner that is set up has a server")
        return self._runner.server

    async def _reload_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            await self.reload()
