"""Audit as the settings ask for it: the event log opened, and passed on to the storage and to whoever else is named."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from runtime.audit.log import EventLog
from runtime.audit.outlet import Outlet, Sink
from runtime.audit.queue import EventQueue
from runtime.audit.sinks.stdout import StdoutSink
from runtime.audit.sinks.syslog import SyslogSink
from runtime.auth.events import StorageSink
from runtime.backend.base import Backend
from runtime.core.callers import CallerKind
from runtime.core.clock import Clock
from runtime.core.errors import InvalidSettings
from runtime.service.sections import audit
from runtime.service.settings import Settings

OUTBOX = "outbox"
"""In data_dir: audit events that auth does not have yet, of the node and of the proxy."""


class ClosingSink(Sink, Protocol):
    """A sink that holds a connection."""

    async def close(self) -> None:
        """Close it."""
        ...


def log_folder(settings: Settings) -> Path:
    """Return where the event log is kept (manual, "SSH Events")."""
    return Path(settings.teleport.data_dir) / "log"


def open_log(settings: Settings, clock: Clock) -> EventLog:
    """Open the event log. Raises InvalidSettings when it cannot be kept."""
    folder = log_folder(settings)
    try:
        return EventLog(folder, clock, sync=settings.audit.fsync)
    except BlockingIOError as error:
        raise InvalidSettings(
            f"another process keeps its audit log in {folder}",
            hint="Is teleport running already? Two of them need a data_dir each.",
        ) from error
    except OSError as error:
        raise InvalidSettings(
            f"the audit log cannot be kept in {folder}: {error.strerror or error}",
            hint="It must be a folder that the user who starts teleport may write to.",
        ) from error


def open_queue(settings: Settings, role: CallerKind) -> EventQueue:
    """Open what keeps a node's or proxy's events until auth has them. Raises InvalidSettings when it cannot be kept."""
    folder = Path(settings.teleport.data_dir) / OUTBOX / role
    try:
        return EventQueue(folder, limit=settings.audit.spool_limit * 1024**2)
    except BlockingIOError as error:
        raise InvalidSettings(
            f"another process keeps its audit events in {folder}",
            hint="Is teleport running already? Two of them need a data_dir each.",
        ) from error
    except OSError as error:
        raise InvalidSettings(
            f"audit events cannot be kept in {folder}: {error.strerror or error}",
            hint="It must be a folder that the user who starts teleport may write to.",
        ) from error


async def pass_on(settings: Settings, backend: Backend, clock: Clock, *, server: str, host: str) -> None:
    """Pass events on to the storage and to each sink, until cancelled.

    `server` is the id of this auth server, `host` this machine's name for syslog.
    """
    folder = log_folder(settings)
    storage = StorageSink(backend, clock.now, settings.audit.retention, server=server)
    async with asyncio.TaskGroup() as group:
        group.create_task(Outlet(folder, storage).run())
        for sink in sinks(settings, host=host):
            group.create_task(_run(folder, sink))


def sinks(settings: Settings, *, host: str) -> Iterator[ClosingSink]:
    """Yield the sinks of the settings."""
    for sink in settings.audit.sinks:
        match sink:
            case audit.StdoutSink():
                yield StdoutSink()
            case audit.SyslogSink():
                yield SyslogSink(sink.address, facility=sink.facility, host=host, process=os.getpid())
            case audit.WebhookSink():
                from runtime.audit.sinks.webhook import WebhookSink  # here: an HTTP client is for those who use one

                headers = {name: value.get_secret_value() for name, value in sink.headers.items()}
                yield WebhookSink(sink.url, headers=headers, token_file=sink.token_file, ca_file=sink.ca_file)


async def _run(folder: Path, sink: ClosingSink) -> None:
    try:
        await Outlet(folder, sink).run()
    finally:
        await sink.close()
