"""What `tsh ssh`, `tsh scp` and `tsh sftp` do, once the command line is read."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import NoReturn

from runtime.cli import console, tsh_openssh, tsh_ssh
from runtime.cli.profile import Home, Keys, Profile, Wish
from runtime.cli.tsh_asked import AskedCopy, AskedSession
from runtime.cli.tsh_ssh import Destination, Entry, Place
from runtime.core.errors import InvalidInput, NotFound

LoggedIn = Callable[[Profile, Keys], None]


def session(home: Home, wish: Wish, asked: AskedSession, *, now: Callable[[], datetime], logged_in: LoggedIn) -> int:
    """Hand over to ssh; or run on every node with some labels, or with our own client, and return the exit code.

    Raises TeleportError when there is no session.
    """
    destination = Destination.parse(asked.destination)
    if not destination.is_selector:
        tsh_openssh.check_host(destination.host)
    entry = enter(home, wish, now, logged_in)
    login = tsh_ssh.login_for(entry, destination.login, asked.login)
    host = destination.host
    if destination.is_selector:
        from runtime.cli import tsh_many

        found = tsh_many.select(entry, destination.host, cluster=asked.cluster, insecure=wish.insecure, now=now())
        if asked.command:
            configuration = tsh_ssh.configure(home, entry, asked.cluster)
            return tsh_many.run_on_all(found, configuration, login, asked)
        if len(found) > 1:
            names = "\n".join(f"  {console.visible(node.name)}  {node.id}" for node in found)
            raise InvalidInput(
                f"{len(found)} nodes have the labels {destination.host}:\n{names}",
                hint="Name one of them, or give a command to run on all.",
            )
        host = found[0].id
    if asked.builtin or shutil.which("ssh") is None:
        from runtime.cli import tsh_client

        return tsh_client.session(entry, asked, login=login, host=host)
    configuration = tsh_ssh.configure(home, entry, asked.cluster)
    return tsh_ssh.hand_over(tsh_ssh.ssh_command(configuration, asked.ssh_options(), login, host, asked.command))


def copy(home: Home, wish: Wish, asked: AskedCopy, *, now: Callable[[], datetime], logged_in: LoggedIn) -> int:
    """Hand over to scp, or copy with our own client and return the exit code. Raises TeleportError."""
    # What is wrong with a name shows before anybody is asked for a password.
    places = [Place.parse(word) for word in asked.files]
    if not any(place.host for place in places):
        raise InvalidInput("none of the files is on a node", hint="Write one as [LOGIN@]NODE:PATH")
    entry = enter(home, wish, now, logged_in)
    places = [_with_login(place, entry, asked) for place in places]
    if asked.builtin or shutil.which("scp") is None:
        from runtime.cli import tsh_client

        return tsh_client.copy(entry, asked, places)
    configuration = tsh_ssh.configure(home, entry, asked.cluster)
    files = [place.word() for place in places]
    return tsh_ssh.hand_over(tsh_openssh.arguments("scp", configuration, asked.openssh_options(), ["--", *files]))


def browse(home: Home, wish: Wish, asked: AskedCopy, *, now: Callable[[], datetime], logged_in: LoggedIn) -> NoReturn:
    """Hand over to sftp. Raises TeleportError."""
    place = Place.parse_for_sftp(asked.files[0])
    if shutil.which("sftp") is None:
        raise NotFound("sftp is not installed", hint="It is part of OpenSSH: apt-get install openssh-client")
    entry = enter(home, wish, now, logged_in)
    word = _with_login(place, entry, asked).word().removesuffix(":")
    configuration = tsh_ssh.configure(home, entry, asked.cluster)
    tsh_ssh.hand_over(tsh_openssh.arguments("sftp", configuration, asked.openssh_options(), ["--", word]))


def _with_login(place: Place, entry: Entry, asked: AskedCopy) -> Place:
    return replace(place, login=tsh_ssh.login_for(entry, place.login, asked.login)) if place.host else place


def enter(home: Home, wish: Wish, now: Callable[[], datetime], logged_in: LoggedIn) -> Entry:
    """Return the login to work with, as `tsh_ssh.enter` does, and tell `logged_in` of a new one."""
    entry = tsh_ssh.enter(home, wish, at_terminal=tsh_ssh.is_at_terminal(), now=now)
    if entry.fresh:
        logged_in(entry.profile, entry.keys)
        sys.stderr.flush()
    return entry
