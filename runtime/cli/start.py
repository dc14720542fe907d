"""`teleport start`: the roles of one process put together and kept alive (manual, "Teleport Daemon")."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.cli.start_auth import AuthPart
from runtime.cli.start_member import JoinPart, MemberPart, Service
from runtime.cli.surroundings import Surroundings
from runtime.core.callers import CallerKind
from runtime.core.clock import Clock, SystemClock
from runtime.core.errors import TeleportError
from runtime.core.version import __version__
from runtime.core.yaml_marks import show_path
from runtime.service import logs
from runtime.service.addresses import advertised, node_name
from runtime.service.checks import warnings
from runtime.service.identity import DataDir
from runtime.service.lifecycle import Part, live
from runtime.service.member import Member
from runtime.service.metrics import Metrics
from runtime.service.open_files import allow_connections
from runtime.service.sections.teleport import LogOutput
from runtime.service.settings import Settings
from runtime.service.values import Role

if TYPE_CHECKING:
    from runtime.service.health import Diagnostics

logger = logging.getLogger(__name__)

READY = "ready: "
"""How the message begins that the log shows once everything serves: `ready: auth on 127.0.0.1:3025; node`."""


def start(settings: Settings, *, reread: Callable[[], Settings]) -> None:
    """Run the roles that the settings enable until a signal ends them; `reread` reads file and flags anew.

    Raises TeleportError when they cannot start, or one of them fails.
    """
    logs.configure(settings.teleport.log)
    for path, message in warnings(settings):
        logger.warning("%s: %s", show_path(path), message)
    data_dir = DataDir(Path(settings.teleport.data_dir))
    data_dir.open()
    allow_connections(settings.teleport.connection_limits.max_connections)
    clock, metrics = SystemClock(), Metrics()
    parts = assemble(settings, data_dir=data_dir, clock=clock, metrics=metrics)
    diagnostics: Diagnostics | None = None
    if settings.teleport.diag_addr is not None:
        from runtime.service import health  # here: a web server's import is for those who run one

        diagnostics = health.Diagnostics(settings.teleport.diag_addr, metrics)
        parts.insert(0, diagnostics)

    def ready() -> None:
        logger.info("%s%s", READY, "; ".join(part.where for part in parts if part.where))
        if diagnostics is not None:
            diagnostics.ready([part.check for part in parts if isinstance(part, AuthPart)])

    def reload() -> None:
        logs.set_severity(reread().teleport.log.severity)

    def stopping() -> None:
        if diagnostics is not None:
            diagnostics.stopping()

    logger.info("teleport %s starts: %s", __version__, ", ".join(sorted(settings.roles)))
    try:
        drain = settings.teleport.drain_timeout.total_seconds()
        asyncio.run(live(parts, ready=ready, reload=reload, stopping=stopping, drain_seconds=drain))
    except TeleportError as error:
        if settings.teleport.log.output is not LogOutput.STDERR:  # where it is printed in any case
            logger.error("teleport ends: %s", error.in_full)  # noqa: TRY400 - no bug of ours
        raise
    except Exception as error:
        logger.exception("teleport has failed")
        raise TeleportError(
            f"teleport has failed: {type(error).__name__}: {error}", hint="This is a mistake in teleport: report it."
        ) from error
    logger.info("teleport has stopped")


def assemble(settings: Settings, *, data_dir: DataDir, clock: Clock, metrics: Metrics) -> list[Part]:
    """Return the parts of a process with these settings, in the order in which they start. Raises InvalidSettings."""
    name = node_name(settings)
    addresses = {
        CallerKind.AUTH: settings.auth_service.listen_addr,
        CallerKind.PROXY: settings.proxy_service.listen_addr,
        CallerKind.NODE: settings.ssh_service.listen_addr,
    }
    with_auth = Role.AUTH in settings.roles
    towards = None if with_auth else settings.teleport.auth_servers[0].host
    reached = {
        kind: advertised(listen, settings.teleport.advertise_ip, towards)
        for kind, listen in addresses.items()
        if Role(kind) in settings.roles
    }
    hosts = tuple(dict.fromkeys(addr.host for addr in reached.values()))
    surroundings = Surroundings(name=name, hosts=hosts, data_dir=data_dir, clock=clock, metrics=metrics)
    cluster = (
        AuthPart(settings, surroundings, host=reached[CallerKind.AUTH].host)
        if with_auth
        else JoinPart(settings, tuple(reached), surroundings)
    )

    def member(kind: CallerKind, service: Callable[[Member], Service]) -> MemberPart:
        return MemberPart(kind, cluster, service, surroundings)

    parts: list[Part] = [cluster]
    if Role.PROXY in settings.roles:
        from runtime.cli.start_proxy import ProxyRole  # here: a web server's import is for those who run one

        addr = reached[CallerKind.PROXY]
        parts.append(member(CallerKind.PROXY, lambda member: ProxyRole(settings, member, surroundings, addr=addr)))
    if Role.NODE in settings.roles:
        from runtime.cli.start_node import NodeRole  # here: an SSH server's import is for those who run one

        parts.append(
            member(
                CallerKind.NODE,
                lambda member: NodeRole(settings, member, surroundings, addr=reached[CallerKind.NODE]),
            )
        )
    return parts
