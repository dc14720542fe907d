"""tsh's own SSH client, where no OpenSSH is installed: the same way, through the proxy, end to end to the node.

It knows servers by their host certificates only, judged by the function that every service uses
(`runtime.pki.verify`); a plain sshd, which has none, is reached with OpenSSH.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runtime.cli import console
from runtime.cli.tsh_asked import AskedCopy, AskedSession
from runtime.cli.tsh_openssh import HOP, check_host, known_hosts
from runtime.cli.tsh_ssh import Entry, Place
from runtime.core.clock import SystemClock
from runtime.core.defaults import NODE_SSH_PORT
from runtime.core.errors import InvalidInput
from runtime.core.resources.authority import AuthorityType
from runtime.pki.keys import parse_public_key
from runtime.pki.trust import AuthorityKey, Trust
from runtime.pki.verify import verify_host
from runtime.transport import remote
from runtime.transport.client import ClientConnection, VerifyHost, connect
from runtime.transport.through import connect_through

_HOST = r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.*-]*"
_FORWARD = re.compile(rf"(?:(?P<bind>{_HOST}):)?(?P<port>[0-9]+):(?P<host>{_HOST}):(?P<to>[0-9]+)")
_SOCKS = re.compile(rf"(?:(?P<bind>{_HOST}):)?(?P<port>[0-9]+)")
_IGNORED = frozenset({"-C", "-q", "-v", "-s"})
"""What changes nothing here: no compression, nothing said on the way, SFTP always."""


@dataclass(frozen=True, slots=True)
class Forward:
    """A port that is listened on, and where its connections lead; for SOCKS the client says where."""

    bind: str
    port: int
    host: str = ""
    to: int = 0

    @classmethod
    def parse(cls, text: str, *, socks: bool = False) -> Forward:
        """Return what ssh reads in `[BIND:]PORT:HOST:PORT`, or in `[BIND:]PORT` for SOCKS. Raises InvalidInput.

        Without an address to bind it is loopback; an empty one or `*` is every address.
        """
        found = (_SOCKS if socks else _FORWARD).fullmatch(text)
        if (
            found is None
            or int(found["port"]) > 65535
            or not (socks or (found["host"] and 0 < int(found["to"]) < 65536))
        ):
            form = "[BIND:]PORT" if socks else "[BIND:]PORT:HOST:PORT"
            raise InvalidInput(f"{text[:80]!a} cannot be forwarded: expected {form}")
        bind = {None: "localhost", "*": "", "": ""}.get(found["bind"], found["bind"])
        if socks:
            return cls(bind.strip("[]"), int(found["port"]))
        return cls(bind.strip("[]"), int(found["port"]), found["host"].strip("[]"), int(found["to"]))


@dataclass(slots=True)
class Settings:
    """ssh's options, as far as this client has them."""

    terminal: bool | None = None
    """None: a terminal where there is one here and no command."""
    agent: bool = False
    nothing: bool = False
    """Run nothing: -N."""
    no_input: bool = False
    recurse: bool = False
    preserve: bool = False
    here: list[Forward] = field(default_factory=list)
    there: list[Forward] = field(default_factory=list)
    socks: list[Forward] = field(default_factory=list)

    @classmethod
    def parse(cls, options: Sequence[str]) -> Settings:
        """Take OpenSSH's options apart. Raises InvalidInput for one that is not known here."""
        made = cls()
        forwards = {"-L": made.here, "-R": made.there, "-D": made.socks}
        flags = {"-A": "agent", "-N": "nothing", "-n": "no_input", "-r": "recurse", "-p": "preserve"}
        words = iter(options)
        for word in words:
            if word in forwards:
                forwards[word].append(Forward.parse(next(words), socks=word == "-D"))
            elif word in flags:
                setattr(made, flags[word], True)
            elif word in {"-t", "-T"}:
                made.terminal = word == "-t"
            elif word not in _IGNORED:
                raise InvalidInput(
                    f"tsh's own client has no option {word}", hint="Install OpenSSH, or leave out --builtin."
                )
        return made


def session(entry: Entry, asked: AskedSession, *, login: str, host: str) -> int:
    """Open a session and return its exit code. Raises TeleportError when there is none."""
    settings = Settings.parse(asked.options)
    return asyncio.run(_session(entry, asked, settings, login=login, host=host))


def copy(entry: Entry, asked: AskedCopy, places: Sequence[Place]) -> int:
    """Copy files between here and one node, and return 0. Raises TeleportError."""
    settings = Settings.parse(asked.options)
    *sources, target = places
    nodes = {(place.host, place.login) for place in places if place.host}
    if len(nodes) != 1 or any(bool(source.host) is bool(target.host) for source in sources):
        raise InvalidInput(
            "tsh's own client copies between here and one node, in one direction",
            hint="Install OpenSSH, or leave out --builtin.",
        )
    asyncio.run(_copy(entry, asked, settings, sources, target))
    return 0


async def _copy(entry: Entry, asked: AskedCopy, settings: Settings, sources: Sequence[Place], target: Place) -> None:
    node = target if target.host else sources[0]
    how = {"recurse": settings.recurse, "preserve": settings.preserve}
    async with _connected(entry, node.host, node.login or "", asked.port, asked.cluster) as connection:
        if target.host:
            await remote.send(connection, [Path(source.path) for source in sources], target.path, **how)
        else:
            await remote.fetch(connection, [source.path or "." for source in sources], Path(target.path), **how)


async def _session(entry: Entry, asked: AskedSession, settings: Settings, *, login: str, host: str) -> int:
    agent = os.environ.get("SSH_AUTH_SOCK") if settings.agent else None
    if settings.agent and not agent:
        console.say("warning: there is no ssh-agent to forward: SSH_AUTH_SOCK is not set")
    async with _connected(entry, host, login, asked.port, asked.cluster, agent=agent) as connection:
        for forward in settings.here:
            await remote.forward_here(connection, forward.bind, forward.port, forward.host, forward.to)
        for forward in settings.there:
            await remote.forward_there(connection, forward.bind, forward.port, forward.host, forward.to)
        for forward in settings.socks:
            await remote.forward_socks(connection, forward.bind, forward.port)
        if settings.nothing:
            await connection.wait_closed()
            return remote.NO_STATUS
        command = " ".join(asked.command) or None
        terminal = settings.terminal
        if terminal is None:
            terminal = command is None and sys.stdin.isatty()
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123, ASYNC230 — a device, never slow
            stdin = nothing.fileno() if settings.no_input else 0
            return await remote.run(
                connection,
                command,
                stdin=stdin,
                stdout=1,
                stderr=2,
                terminal=terminal,
                variables=dict(asked.variables),
            )


@asynccontextmanager
async def _connected(
    entry: Entry, host: str, login: str, port: int | None, cluster: str | None, *, agent: str | None = None
) -> AsyncIterator[ClientConnection]:
    profile = entry.profile
    target = cluster or profile.cluster
    suffix = "" if target == profile.cluster else f"@{target}"
    host = check_host(host)
    key, certificate = entry.keys.private.encode(), entry.keys.certificate.encode()
    proxy = await connect(
        profile.ssh_address,
        profile.ssh_port,
        name=HOP,
        login=login,
        key=key,
        certificate=certificate,
        verify_host=_verifier(entry, profile.cluster),
    )
    async with proxy:
        node = await connect_through(
            proxy,
            f"proxy:{host}:{port or NODE_SSH_PORT}{suffix}",
            name=host,
            login=login,
            key=key,
            certificate=certificate,
            verify_host=_verifier(entry, target),
            agent_path=agent,
        )
        async with node:
            yield node


def _verifier(entry: Entry, cluster: str) -> VerifyHost:
    """Return what judges host certificates of a cluster. Raises NotFound for one that the login does not know."""
    lines = known_hosts(entry.profile, cluster).splitlines()
    trust = Trust(
        AuthorityKey(AuthorityType.HOST, cluster, parse_public_key(" ".join(line.split()[2:4]))) for line in lines
    )
    clock = SystemClock()

    def verify(name: str, certificate: bytes) -> None:
        verify_host(certificate, name, trust, clock.now(), cluster=cluster)

    return verify
