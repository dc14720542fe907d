"""The flags of `teleport start`, which win over the file (manual, "Configuration Flags")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from pydantic import SecretStr

from runtime.core import defaults
from runtime.core.errors import InvalidInput, InvalidSettings
from runtime.service import values
from runtime.service.labels import Labels, parse_labels
from runtime.service.schema import Section
from runtime.service.sections.teleport import LogOutput, Severity
from runtime.service.settings import Settings
from runtime.service.values import Address, Role

S = TypeVar("S", bound=Section)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says; None where it says nothing."""

    debug: bool = False
    roles: frozenset[Role] | None = None
    advertise_ip: str | None = None
    listen_ip: str | None = None
    auth_server: Address | None = None
    token: SecretStr | None = None
    ca_pin: str | None = None
    nodename: str | None = None
    labels: Labels | None = None
    diag_addr: Address | None = None
    config: str | None = None


NO_FLAGS = Flags()


def parse_flags(
    *,
    debug: bool = False,
    roles: str | None = None,
    advertise_ip: str | None = None,
    listen_ip: str | None = None,
    auth_server: str | None = None,
    token: str | None = None,
    ca_pin: str | None = None,
    nodename: str | None = None,
    labels: str | None = None,
    diag_addr: str | None = None,
    config: str | None = None,
) -> Flags:
    """Return the flags from their texts; None is a flag that was not given.

    Raises InvalidSettings, which names each flag that cannot be understood and shows no secret.
    """
    mistakes: list[str] = []

    def read(name: str, text: str | None, parse: Callable[[str], T]) -> T | None:
        try:
            return None if text is None else parse(text)
        except InvalidInput as error:
            mistakes.append(f"{name}: {error}")
            return None

    flags = Flags(
        debug=debug,
        roles=read("--roles", roles, values.parse_roles),
        advertise_ip=read("--advertise-ip", advertise_ip, values.parse_advertised_ip),
        listen_ip=read("--listen-ip", listen_ip, values.parse_ip),
        auth_server=read("--auth-server", auth_server, partial(values.parse_peer, default_port=defaults.AUTH_PORT)),
        token=read("--token", token, values.parse_secret),
        ca_pin=read("--ca-pin", ca_pin, values.parse_ca_pin_or_file),
        nodename=read("--nodename", nodename, values.parse_name),
        labels=read("--labels", labels, parse_labels),
        diag_addr=read("--diag-addr", diag_addr, partial(values.parse_address, default_port=defaults.DIAG_PORT)),
        config=read("--config", config, values.parse_text),
    )
    if mistakes:
        raise InvalidSettings(
            one_or_all(mistakes, "the command line"), hint="Nothing was started. --help lists the flags."
        )
    return flags


def one_or_all(mistakes: list[str], source: str) -> str:
    """Return the message of an error that tells these mistakes: the one, or all below a line that counts them."""
    return mistakes[0] if len(mistakes) == 1 else "\n".join([f"{source} has {len(mistakes)} mistakes:", *mistakes])


def with_flags(settings: Settings, flags: Flags) -> Settings:
    """Return the settings as the flags change them.

    `--listen-ip` changes the address of every listener and leaves its port; `--labels` replaces labels and commands.
    """
    teleport, auth, ssh, proxy = (
        settings.teleport,
        settings.auth_service,
        settings.ssh_service,
        settings.proxy_service,
    )
    if flags.debug:
        log = _changed(teleport.log, severity=Severity.DEBUG, output=LogOutput.STDERR)
        teleport = _changed(teleport, log=log)
    teleport = _changed(
        teleport,
        nodename=flags.nodename,
        advertise_ip=flags.advertise_ip,
        auth_token=flags.token,
        ca_pin=flags.ca_pin,
        auth_servers=(flags.auth_server,) if flags.auth_server else None,
        diag_addr=flags.diag_addr,
    )
    if flags.labels is not None:
        ssh = _changed(ssh, labels=flags.labels.static, commands=flags.labels.commands)
    if flags.roles is not None:
        auth = _changed(auth, enabled=Role.AUTH in flags.roles)
        ssh = _changed(ssh, enabled=Role.NODE in flags.roles)
        proxy = _changed(proxy, enabled=Role.PROXY in flags.roles)
    if flags.listen_ip is not None:
        ip = flags.listen_ip
        auth = _changed(auth, listen_addr=replace(auth.listen_addr, host=ip))
        ssh = _changed(ssh, listen_addr=replace(ssh.listen_addr, host=ip))
        proxy = _changed(
            proxy,
            listen_addr=replace(proxy.listen_addr, host=ip),
            tunnel_listen_addr=replace(proxy.tunnel_listen_addr, host=ip),
            web_listen_addr=replace(proxy.web_listen_addr, host=ip),
        )
    return _changed(settings, teleport=teleport, auth_service=auth, ssh_service=ssh, proxy_service=proxy)


def _changed(section: S, **changes: object) -> S:
    """Return a copy with the changes that are not None; the values are ready ones, so nothing is checked again."""
    return section.model_copy(update={key: value for key, value in changes.items() if value is not None})
