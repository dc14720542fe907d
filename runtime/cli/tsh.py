"""tsh: the user's client.

What a command needs is imported inside it: `tsh version` and shell completion load click and nothing else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from runtime.cli import completion, console
from runtime.cli.common import program
from runtime.cli.tsh_join import add_joining
from runtime.cli.tsh_ls import add_lists
from runtime.cli.tsh_options import CLUSTER, FORMAT, INSECURE, PROXY, TTL, USER, before, now
from runtime.cli.tsh_recordings import add_recordings
from runtime.cli.tsh_sessions import Tsh, add_sessions

if TYPE_CHECKING:
    from datetime import timedelta

    from runtime.cli.profile import Home, Keys, Profile


# The manual writes these before the command; after it they work too.
tsh = PROXY(USER(CLUSTER(TTL(INSECURE(program("tsh", "Log in to a Teleport cluster and reach its nodes.", Tsh))))))
tsh.epilog = "Keys and certificates are kept in ~/.tsh, or in the folder that TELEPORT_HOME names."
completion.add_completion(tsh)
add_lists(tsh)
add_recordings(tsh)


@tsh.command()
@PROXY
@USER
@TTL
@INSECURE
@click.option("--pin", metavar="FINGERPRINT", help="Trust the proxy's certificate with this SHA-256 fingerprint.")
@click.option("--password-stdin", is_flag=True, help="Read password and one-time code from stdin, a line each.")
@click.option("--no-agent", is_flag=True, help="Do not load the key into a running ssh-agent.")
@FORMAT
@click.pass_context
def login(
    context: click.Context,
    /,
    *,
    proxy: str | None,
    user: str | None,
    ttl: timedelta | None,
    insecure: bool,
    pin: str | None,
    password_stdin: bool,
    no_agent: bool,
    output: str,
) -> None:
    """Log in through a proxy: a key and its certificate in ~/.tsh, and in a running ssh-agent."""
    from runtime.cli import tsh_login, tsh_status
    from runtime.cli.profile import Wish
    from runtime.cli.tsh_terminal import Pipe, Terminal

    wish = Wish(
        proxy=proxy or before(context, "proxy"),
        user=user or before(context, "user"),
        ttl=ttl or before(context, "ttl"),
        pin=pin,
        insecure=insecure or before(context, "insecure"),
    )
    home = _home()
    profile, keys = tsh_login.log_in(wish, home=home, asker=Pipe() if password_stdin else Terminal(), now=now)
    if not no_agent:
        _load_into_agent(profile, keys)
    status = tsh_status.status_of(home, profile, current=True, keys=keys)
    console.out(_json(tsh_status.as_json(status, now())) if output == "json" else tsh_status.as_text(status, now()))


@tsh.command()
@PROXY
@USER
@FORMAT
@click.pass_context
def logout(context: click.Context, /, *, proxy: str | None, user: str | None, output: str) -> None:
    """Delete keys and certificates, here and in a running ssh-agent: all of them, or those of a proxy or a user.

    The pinned certificate of a proxy is kept.
    """
    from runtime.cli.tsh_address import Address
    from runtime.core.errors import NotFound

    home = _home()
    proxy, user = proxy or before(context, "proxy"), user or before(context, "user")
    profiles = home.profiles()
    if proxy is not None:
        address = Address.parse(proxy)
        profiles = [profile for profile in profiles if profile.proxy == address]
        if not profiles:
            raise NotFound(f"proxy {address} is not known here", hint="What is known shows: tsh status")
    gone: list[str] = []
    for profile in profiles:
        users = [name for name in home.users(profile.proxy) if user in (None, name)]
        gone += _unload_from_agent(profile, users)
        gone += [str(path) for path in home.forget(profile, users)]
    if output == "json":
        console.out(_json({"removed": gone}))
        return
    for what in gone:
        console.out(f"removed {console.visible(what)}")
    if not gone:
        console.say("Nobody was logged in.")


@tsh.command()
@PROXY
@FORMAT
@click.pass_context
def status(context: click.Context, /, *, proxy: str | None, output: str) -> None:
    """Show who is logged in where, and until when.

    The exit code is 0 if the login at the current proxy, or at the one that is named, is valid.
    """
    from runtime.cli import tsh_status
    from runtime.cli.tsh_address import Address
    from runtime.core.errors import AccessDenied

    home = _home()
    moment = now()
    current = home.current()
    proxy = proxy or before(context, "proxy")
    profiles = home.profiles()
    if proxy is not None:
        address = Address.parse(proxy)
        profiles = [profile for profile in profiles if profile.proxy == address]
    found = [tsh_status.status_of(home, profile, current=profile == current) for profile in profiles]
    if output == "json":
        console.out(_json([tsh_status.as_json(each, moment) for each in found]))
    elif found:
        console.out("\n\n".join(tsh_status.as_text(each, moment) for each in found))
    if not found:
        raise AccessDenied("not logged in", hint="Log in: tsh --proxy=HOST --user=NAME login")
    # The current one comes first.
    if error := found[0].error(moment):
        raise error


@tsh.command()
@PROXY
@USER
@click.option("--kill", is_flag=True, help="End the agent that SSH_AGENT_PID names.")
@FORMAT
@click.pass_context
def agent(context: click.Context, /, *, proxy: str | None, user: str | None, kill: bool, output: str) -> None:
    """Start an ssh-agent that holds your key, and print its environment: eval "$(tsh agent)".

    The key leaves it when the certificate ends; the agent itself ends with eval "$(tsh agent --kill)".
    """
    from runtime.cli import tsh_agent, tsh_status
    from runtime.cli.profile import choose_profile
    from runtime.core.errors import NotFound

    if kill:
        pid, lines = tsh_agent.kill(os.environ)
        console.out(_json({"killed": pid}) if output == "json" else lines)
        return
    home = _home()
    profile = choose_profile(home, proxy or before(context, "proxy"), user or before(context, "user"))
    keys = home.keys(profile.proxy, profile.user)
    if error := tsh_status.status_of(home, profile, current=True, keys=keys).error(now()):
        raise error
    if keys is None:  # which is an error above; said again for the type checker
        raise NotFound("not logged in")
    started = tsh_agent.start(profile, keys, now())
    console.out(_json(started.as_json()) if output == "json" else started.as_shell())


def _load_into_agent(profile: Profile, keys: Keys) -> None:
    """Load a login into the agent of this session, if there is one. An agent that is away is worth a warning only."""
    from runtime.cli import tsh_agent
    from runtime.core.errors import TeleportError

    if not (socket := os.environ.get("SSH_AUTH_SOCK")):
        return
    try:
        tsh_agent.add(Path(socket), profile, keys, now())
    except TeleportError as error:
        console.say(f"warning: the key was not loaded into an agent: {error}")


def _unload_from_agent(profile: Profile, users: list[str]) -> list[str]:
    from runtime.cli import tsh_agent
    from runtime.core.errors import TeleportError

    if not users or not (socket := os.environ.get("SSH_AUTH_SOCK")):
        return []
    try:
        return [f"{comment} from the ssh-agent" for comment in tsh_agent.remove(Path(socket), profile, users)]
    except TeleportError as error:
        console.say(f"warning: no key was removed from an agent: {error}")
        return []


def _home() -> Home:
    from runtime.cli.profile import Home

    return Home.find(os.environ)


def _json(value: object) -> str:
    import json

    return json.dumps(value, indent=2)


add_sessions(tsh, now, _load_into_agent)
add_joining(tsh, now, _load_into_agent)


def main() -> NoReturn:
    """Run tsh as a process."""
    completion.run(tsh)
