"""`tsh ssh`, `tsh scp`, `tsh sftp`: from what is typed to a command line of the installed OpenSSH.

What can be known before it runs is checked here, and told in our words: the login, its end, whom the certificate is
for, the form of a name. Then ssh takes this process's place: terminal, signals and exit code are its own.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from runtime.cli import console, tsh_openssh, tsh_status
from runtime.cli.profile import Home, Keys, Profile, Wish, choose_profile, own_name
from runtime.cli.tsh_certificate import Login, read_login
from runtime.core.errors import AccessDenied, InvalidInput, NotFound, TeleportError
from runtime.pki.certificate import read_certificate

FAILED = 255
"""What ssh exits with when it is the connection that failed, not the command: so do we."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A login that is valid now."""

    profile: Profile
    keys: Keys
    login: Login
    fresh: bool
    """Whether the person has logged in just now."""


@dataclass(frozen=True, slots=True)
class Destination:
    """`[LOGIN@]HOST`, as it was typed."""

    login: str | None
    host: str

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Take a destination apart; whether there is such a login or host is not looked at."""
        login, at, host = text.partition("@")
        # A label's value may hold an @; no login holds an equals sign.
        return cls(login, host) if at and "=" not in login else cls(None, text)

    @property
    def is_selector(self) -> bool:
        """Whether it names nodes by labels, `env=prod,role=db`: no host has an equals sign in its name."""
        return "=" in self.host


def enter(home: Home, wish: Wish, *, at_terminal: bool, now: Callable[[], datetime]) -> Entry:
    """Return the login to work with. At a terminal, who is not logged in is asked to log in right there.

    Raises AccessDenied without a valid login, InvalidInput when no proxy is known, and what `tsh_login.log_in` raises.
    """
    profile = choose_profile(home, wish.proxy, wish.user)
    keys = home.keys(profile.proxy, profile.user)
    status = tsh_status.status_of(home, profile, current=True, keys=keys)
    error = status.error(now())
    if error is None and keys is not None and not wish.insecure:
        from runtime.cli import tsh_refresh  # here: its imports are for those who are logged in

        try:
            profile = tsh_refresh.refresh(home, profile, keys, now=now())
        except AccessDenied as outdated:
            error = outdated
    if error is not None:
        if not at_terminal:
            raise error
        from runtime.cli import tsh_login  # here: its imports are for those who log in
        from runtime.cli.tsh_terminal import Terminal

        console.say(f"{error}. Log in at proxy {profile.proxy} as {profile.user}:")
        profile, keys = tsh_login.log_in(wish, home=home, asker=Terminal(), now=now)
    if keys is None:  # which is an error above; said again for the type checker
        raise NotFound("not logged in")
    return Entry(profile, keys, read_login(read_certificate(keys.certificate.encode())), error is not None)


def is_at_terminal() -> bool:
    """Tell whether there is a person to ask: whose terminal is neither the input nor the talk of something else."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def login_for(entry: Entry, *asked: str | None) -> str:
    """Return whom to log in as: the first that is asked for, else a good default. Raises InvalidInput."""
    first = next((each for each in asked if each is not None), None)
    return tsh_openssh.choose_login(first, entry.login.logins, _own_name())


def default_login(login: Login) -> str:
    """Return whom to log in as where nobody is named."""
    return tsh_openssh.choose_login(None, login.logins, _own_name())


def configure(home: Home, entry: Entry, cluster: str | None) -> tsh_openssh.Configuration:
    """Bring OpenSSH's files up to date. Raises NotFound for an unknown cluster."""
    return tsh_openssh.write(home, entry.profile, cluster, default_login(entry.login))


def ssh_command(
    configuration: tsh_openssh.Configuration, options: Sequence[str], login: str, host: str, command: Sequence[str]
) -> list[str]:
    """Return the command line of one session. Raises InvalidInput for what cannot be a host."""
    checked = tsh_openssh.check_host(host)
    # After the host ssh reads options once more; behind `--` all is the command.
    words = ["-l", login, checked, *(["--", *command] if command else [])]
    return tsh_openssh.arguments("ssh", configuration, options, words)


_REMOTE = re.compile(r"(?P<destination>[^/:\[]*(\[[^/\]]*\])?):(?P<path>.*)", re.DOTALL)
"""As scp reads it: a colon before the first slash makes a name remote."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file to copy, or to copy to: on a node, or here (`host` is empty)."""

    path: str
    host: str = ""
    login: str | None = None

    @classmethod
    def parse(cls, text: str) -> Place:
        """Return what `[LOGIN@]NODE:PATH`, or a path here, names. Raises InvalidInput for what cannot be a node."""
        if text.startswith(("scp://", "sftp://")):
            raise InvalidInput(f"{text[:80]!a} is a URI, which tsh does not take", hint="Write [LOGIN@]NODE:PATH")
        found = _REMOTE.fullmatch(text)
        return cls._on_node(found["destination"], found["path"]) if found and found["destination"] else cls(text)

    @classmethod
    def parse_for_sftp(cls, text: str) -> Place:
        """Return what `[LOGIN@]NODE[:PATH]` names. Raises InvalidInput."""
        place = cls.parse(text)
        return place if place.host else cls._on_node(text, "")

    @classmethod
    def _on_node(cls, address: str, path: str) -> Place:
        destination = Destination.parse(address)
        return cls(path, tsh_openssh.check_host(destination.host), destination.login)

    def word(self) -> str:
        """Return it as scp and sftp take it."""
        if not self.host:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.login}@{host}:{self.path}" if self.login else f"{host}:{self.path}"


def hand_over(command: Sequence[str]) -> NoReturn:
    """Become that program. Raises NotFound when it is not installed."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(command[0], list(command))  # noqa: S606 — no shell is wanted
    except FileNotFoundError as error:
        raise NotFound(
            f"{command[0]} is not installed", hint="It is part of OpenSSH: apt-get install openssh-client"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
        raise TeleportError(f"{command[0]} cannot be run: {error}") from error


def _own_name() -> str:
    try:
        return own_name()
    except InvalidInput:
        return ""
