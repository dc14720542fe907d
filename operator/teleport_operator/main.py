"""The operator's process: `python -m teleport_operator`, configured by TELEPORT_OPERATOR_… (docs/operator.md).

    settings → log → probes → backend → Lease → kopf, until SIGTERM

A replica that waits for the Lease watches nothing. One that loses it replaces itself by a fresh process in the same
place, so that nothing it has begun goes on: every write is a compare-and-swap, and what was half done is found and
finished by whoever leads next.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import kopf

from runtime.backend.base import Backend
from runtime.backend.open import open_backend
from runtime.backend.options import Options
from runtime.core.clock import SystemClock
from runtime.core.errors import AccessDenied, InvalidInput, TeleportError, Unavailable
from runtime.service.health import Diagnostics
from runtime.service.metrics import CountedBackend
from runtime.service.settings import Settings
from teleport_operator import logs
from teleport_operator.context import Context
from teleport_operator.facts import Facts
from teleport_operator.handlers import drift, roles, tokens, trusted_clusters, users
from teleport_operator.kubernetes import documents
from teleport_operator.kubernetes.api_server import ApiServer
from teleport_operator.kubernetes.lease import Election, disarm
from teleport_operator.kubernetes.watches import Watches
from teleport_operator.metrics import OperatorMetrics
from teleport_operator.settings import OperatorSettings, kopf_settings, read_settings

__all__ = ["drift", "roles", "tokens", "trusted_clusters", "users"]  # importing a handler's module registers it

logger = logging.getLogger(__name__)

SERVED = ("users", "roles", "tokens", "trustedclusters")
"""The plurals of the kinds that have handlers: without a watch on each of them a leader is not ready."""

UNREADY_SECONDS = 90.0
"""Silence of a watch after which the leader is not ready: bookmarks come each minute, and kopf acts after 70 s."""

DEAD_SECONDS = 240.0
"""Silence of a watch after which only a new process helps."""

BACKEND_RETRY_SECONDS = 2.0
LOGIN_SECONDS = 5.0
"""The least time between two logins to the API server: a credential that is refused is not tried without pause."""

_IDENTITY = "TELEPORT_OPERATOR_REPLICA"
"""Carries our name in the Lease over to the process that replaces this one: `PID:NAME`."""


@dataclass
class Operator:
    """The parts of one running operator."""

    api: ApiServer
    watches: Watches
    metrics: OperatorMetrics
    election: Election
    backend: Backend | None = None

    async def ready(self) -> str:
        """Return why this replica does not do what it is there for."""
        if self.backend is None:
            return "the backend is not open"
        if not self.election.leading:
            return self.election.trouble and f"the lease {self.election.where}: {self.election.trouble}"
        return "; ".join([*self.watches.missing(SERVED), *self.watches.silent(UNREADY_SECONDS)])

    async def alive(self) -> str:
        """Return why only a new process would help: a watch is dead while the API server answers, by the Lease."""
        if not self.election.leading or self.election.trouble:
            return ""
        return "; ".join(self.watches.silent(DEAD_SECONDS))

    async def prepare(self, options: Options) -> None:
        """Open the backend, and wait for the Lease. Raises InvalidSettings."""
        self.backend = CountedBackend(await _open(options), self.metrics)
        logger.info("the backend is open: %s", type(options).__name__.removesuffix("Options").lower())
        await self.election.campaign()
        self.metrics.leader.set(1)


@kopf.on.login(errors=kopf.ErrorsMode.TEMPORARY, backoff=LOGIN_SECONDS)
async def log_in(memo: kopf.Memo, **_: Any) -> kopf.AiohttpSession:
    """Give kopf a connection pool whose watches are listened to; asked for again when its credentials were refused."""
    operator: Operator = memo.operator
    if "logged_in" in memo:
        await asyncio.sleep(LOGIN_SECONDS)
    memo.logged_in = True
    session = operator.api.kopf_session(operator.watches.listen)
    return kopf.AiohttpSession(
        server=operator.api.url, aiohttp_session=session, default_namespace=operator.api.namespace
    )


def main() -> NoReturn:
    """Run until SIGTERM or SIGINT; exits with 0 then, 1 when something failed, 2 when the settings are wrong."""
    try:
        settings = read_settings()
        cluster = settings.cluster()
        watches = Watches()
        metrics = OperatorMetrics(watches)
        logs.configure(settings.log(cluster), metrics.throttled)
        code = asyncio.run(_run(settings, cluster, watches, metrics))
    except TeleportError as error:
        sys.stderr.write(f"ERROR: {error}\n" + (f"{error.hint}\n" if error.hint else ""))
        sys.exit(2 if isinstance(error, InvalidInput) else 1)
    sys.exit(code)


async def _run(settings: OperatorSettings, cluster: Settings, watches: Watches, metrics: OperatorMetrics) -> int:
    """Run everything, and return the exit code. Raises InvalidSettings, and Unavailable for a port that is taken."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as running:
        api = await ApiServer.connect()
        running.push_async_callback(api.close)
        namespace, _, name = settings.lease.rpartition("/")
        election = Election(
            api, namespace=namespace or api.namespace, name=name, identity=_identity(), clock=SystemClock()
        )
        operator = Operator(api, watches, metrics, election)
        if address := settings.diagnostics():
            diagnostics = Diagnostics(address, metrics, alive=[operator.alive])
            await diagnostics.start()
            running.push_async_callback(diagnostics.stop)
            diagnostics.ready([operator.ready])
            logger.info("%s", diagnostics.where)
        try:
            if not await _unless(stop, operator.prepare(cluster.backend)):
                return 0
            return await _lead(operator, settings)
        finally:
            await election.release()
            if operator.backend is not None:
                await operator.backend.close()


async def _lead(operator: Operator, settings: OperatorSettings) -> int:
    """Reconcile until we are told to stop, and return the exit code. Losing the Lease ends the process itself."""
    assert operator.backend is not None  # noqa: S101 (prepare has opened it)
    holding = asyncio.create_task(_hold(operator.election))  # before kopf, which cancels what was started after it
    facts = Facts(proxy_addr=settings.proxy_addr, auth_servers=settings.auth_servers)
    with suppress(TeleportError):  # they are followed, which tells why not; what is known later completes Secrets then
        await facts.read(operator.backend)
    context = Context(operator.backend, SystemClock(), operator.api, operator.metrics, facts=facts)
    declaring = asyncio.create_task(_declare(operator, settings))
    try:
        await kopf.operator(
            settings=kopf_settings(settings),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            memo=kopf.Memo(context=context, operator=operator, own_settings=settings),
        )
    except Exception:
        logger.exception("the operator cannot go on")
        return 1
    finally:
        holding.cancel()
        declaring.cancel()
    return 0


async def _declare(operator: Operator, settings: OperatorSettings) -> None:
    """Keep the objects that the release declares, if it declares any."""
    if settings.documents is not None:
        name = settings.lease.rpartition("/")[2]
        await documents.keep(operator.api, documents.Folder(settings.documents, operator.api.namespace, name))


async def _hold(election: Election) -> None:
    """Keep the Lease; when it is lost, begin anew as a fresh process in this one's place, and wait for it again."""
    reason = await election.hold()
    logger.error("the lease %s is lost: %s; starting anew", election.where, reason)
    logging.shutdown()
    disarm()
    os.environ[_IDENTITY] = f"{os.getpid()}:{election.identity}"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (our own command line)


async def _open(options: Options) -> Backend:
    """Open the backend, however long it is away, or not ours to make: auth makes it. Raises InvalidSettings."""
    said = ""
    while True:
        try:
            return await open_backend(options, clock=SystemClock())
        except (AccessDenied, Unavailable) as error:
            if str(error) != said:
                said = str(error)
                logger.warning("waiting for the backend: %s", said)
            await asyncio.sleep(BACKEND_RETRY_SECONDS)


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do the work unless `stop` is set before it is done, and return whether it is. Raises what it raises."""
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        done = task.done()
        task.cancel()
    if done:
        task.result()
    else:
        await asyncio.wait({task})
    return done and not stop.is_set()


def _identity() -> str:
    """Return what this replica is called in the Lease; the process that replaces one goes by the same name."""
    pid, _, name = os.environ.pop(_IDENTITY, "").partition(":")
    return name if pid == str(os.getpid()) else f"{socket.gethostname()}_{secrets.token_hex(4)}"
