"""Options that several commands of tsh have; the manual writes them before the command, after it they work too."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from runtime.cli import console

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from runtime.cli.tsh_lists import Session


def _ttl(context: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """Return a certificate's lifetime: minutes, or a duration with its unit."""
    if value is None:
        return None
    from runtime.core.defaults import MAX_CERTIFICATE_TTL, MIN_CERTIFICATE_TTL
    from runtime.core.durations import format_duration, parse_duration
    from runtime.core.errors import InvalidInput

    try:
        ttl = parse_duration(f"{value}m" if value.isdecimal() else value)
    except InvalidInput as error:
        raise click.BadParameter(f"{error}. Write minutes, or a duration such as 8h or 1h30m.") from error
    if not MIN_CERTIFICATE_TTL <= ttl <= MAX_CERTIFICATE_TTL:
        limits = f"{format_duration(MIN_CERTIFICATE_TTL)} to {format_duration(MAX_CERTIFICATE_TTL)}"
        raise click.BadParameter(f"{format_duration(ttl)} is outside of the limits, {limits}.")
    return ttl


PROXY = click.option("--proxy", metavar="HOST[:PORT]", help="Address of the proxy [default: the last one; port 3080].")
USER = click.option("--user", metavar="NAME", help="Teleport user [default: the last one there, else your own name].")
TTL = click.option(
    "--ttl", metavar="MINUTES", callback=_ttl, help="Lifetime of the certificate; 8h and 1h30m work too."
)
CLUSTER = click.option("--cluster", metavar="NAME", help="Cluster to look in or connect to [default: the proxy's own].")
INSECURE = click.option("--insecure", is_flag=True, help="Believe whoever answers at the proxy's address, this once.")
FORMAT = click.option(
    "--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output format."
)


def before(context: click.Context, name: str) -> Any:
    """Return an option as it was given before the command."""
    return context.find_root().params[name]


def open_session(context: click.Context, proxy: str | None, user: str | None) -> Session:
    """Return the login that a command is about, by its options after the command or before it, with keys as of now.

    Raises InvalidInput when no proxy is known, AccessDenied when nobody is logged in there, or no longer.
    """
    import os

    from runtime.cli.profile import Home
    from runtime.cli.tsh_lists import Session
    from runtime.cli.tsh_refresh import refresh

    home = Home.find(os.environ)
    session = Session.open(home, proxy or before(context, "proxy"), user or before(context, "user"), now())
    if context.params.get("insecure") or before(context, "insecure"):
        return session
    return replace(session, profile=refresh(home, session.profile, session.keys, now=now()))


def is_insecure(context: click.Context, session: Session, given: bool) -> bool:
    """Return whether --insecure was given, before the command or after it; then say what that means."""
    if not (given or before(context, "insecure")):
        return False
    console.say(f"warning: --insecure: whoever answers at {session.profile.proxy} is believed this time")
    return True


def now() -> datetime:
    """Return the time by this machine's clock."""
    from runtime.core.clock import SystemClock

    return SystemClock().now()
