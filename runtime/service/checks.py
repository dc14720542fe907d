"""What settings must agree on across sections once the flags are in, and what is allowed but deserves a word.

Each check is small, pure and named for what it looks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from runtime.core.yaml_marks import Path, show_path
from runtime.service.flags import Flags
from runtime.service.sections.audit import StdoutSink, SyslogSink
from runtime.service.sections.storage import EtcdStorage, SqliteStorage
from runtime.service.sections.teleport import LogOutput
from runtime.service.settings import Settings
from runtime.service.values import Address, Role, is_loopback

Finding = tuple[Path, str]
"""A key, and what is to be said about it."""

_WEAK_TOKEN = 32
"""Characters that a static token should have (manual, "Configuration File": "32+ byte length")."""
_ANY_HOST = frozenset({"0.0.0.0", "::"})  # noqa: S104 — compared with, not bound to


def contradictions(settings: Settings, flags: Flags) -> list[Finding]:
    """Return why these settings cannot run; nothing if they can. The flags are already in the settings."""
    return [
        *_nothing_to_run(settings),
        *_two_auth_servers_at_once(settings, flags),
        *_no_auth_server(settings),
        *_one_port_twice(settings),
    ]


def warnings(settings: Settings) -> list[Finding]:
    """Return what will run but deserves a word to whoever starts it."""
    return [
        *_old_storage_name(settings),
        *_insecure_etcd(settings),
        *_weak_tokens(settings),
        *_public_diagnostics(settings),
        *_events_in_the_clear(settings),
        *_events_within_the_log(settings),
    ]


def _nothing_to_run(settings: Settings) -> Iterator[Finding]:
    if not settings.roles:
        yield (
            ("auth_service", "enabled"),
            "no service is enabled here: enable auth_service, ssh_service or proxy_service",
        )


def _two_auth_servers_at_once(settings: Settings, flags: Flags) -> Iterator[Finding]:
    if flags.auth_server and flags.roles is None and Role.AUTH in settings.roles:
        yield (
            (),
            "--auth-server names an auth server to join, but auth runs here too: add --roles, as in --roles=node,proxy",
        )


def _no_auth_server(settings: Settings) -> Iterator[Finding]:
    if settings.roles and Role.AUTH not in settings.roles and not settings.teleport.auth_servers:
        yield (
            ("teleport", "auth_servers"),
            "auth does not run here, so this list (or --auth-server) must say where it runs",
        )


def _one_port_twice(settings: Settings) -> Iterator[Finding]:
    for (taken, first), (path, second) in combinations(_listeners(settings), 2):
        if first.port == second.port != 0 and (first.host == second.host or {first.host, second.host} & _ANY_HOST):
            yield path, f"port {second.port} is taken by {show_path(taken)}"


def _listeners(settings: Settings) -> list[tuple[Path, Address]]:
    auth, ssh, proxy = settings.auth_service, settings.ssh_service, settings.proxy_service
    listeners: list[tuple[Path, Address]] = []
    if auth.enabled:
        listeners += [(("auth_service", "listen_addr"), auth.listen_addr)]
    if ssh.enabled:
        listeners += [(("ssh_service", "listen_addr"), ssh.listen_addr)]
    if proxy.enabled:
        listeners += [
            (("proxy_service", "listen_addr"), proxy.listen_addr),
            (("proxy_service", "tunnel_listen_addr"), proxy.tunnel_listen_addr),
            (("proxy_service", "web_listen_addr"), proxy.web_listen_addr),
        ]
    if settings.teleport.diag_addr:
        listeners += [(("teleport", "diag_addr"), settings.teleport.diag_addr)]
    return listeners


def _old_storage_name(settings: Settings) -> Iterator[Finding]:
    storage = settings.teleport.storage
    if isinstance(storage, SqliteStorage) and storage.type != "sqlite":
        yield ("teleport", "storage", "type"), f"{storage.type} is an old name: the storage will be sqlite, and new"


def _insecure_etcd(settings: Settings) -> Iterator[Finding]:
    storage = settings.teleport.storage
    if isinstance(storage, EtcdStorage) and storage.insecure:
        yield ("teleport", "storage", "insecure"), "etcd's certificate is not checked: whoever answers is believed"


def _public_diagnostics(settings: Settings) -> Iterator[Finding]:
    address = settings.teleport.diag_addr
    if address is not None and not is_loopback(address.host):
        yield ("teleport", "diag_addr"), "it is no loopback address: whoever reaches it may read it"


def _weak_tokens(settings: Settings) -> Iterator[Finding]:
    for place, token in enumerate(settings.auth_service.tokens):
        if len(token.value.get_secret_value()) < _WEAK_TOKEN:
            yield (
                ("auth_service", "tokens", place),
                f"the token has fewer than {_WEAK_TOKEN} characters: whoever guesses it joins the cluster",
            )


def _events_in_the_clear(settings: Settings) -> Iterator[Finding]:
    for place, sink in enumerate(settings.audit.sinks):
        if isinstance(sink, SyslogSink) and not sink.is_local:
            yield ("audit", "sinks", place, "address"), "events travel in the clear: take a network that you trust"


def _events_within_the_log(settings: Settings) -> Iterator[Finding]:
    if settings.teleport.log.output is LogOutput.STDOUT:
        for place, sink in enumerate(settings.audit.sinks):
            if isinstance(sink, StdoutSink):
                yield ("audit", "sinks", place), "the log goes to stdout too: its lines stand between the events"
