"""tctl users: people who may log in (manual, "Adding and Deleting Users")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

import click

from runtime.cli import console
from runtime.cli.tables import table
from runtime.cli.tctl.connection import ask, connecting, with_auth
from runtime.cli.tctl.output import Lifetime, Words, format_option, plain, show
from runtime.core import defaults
from runtime.core.durations import format_duration

if TYPE_CHECKING:
    from datetime import timedelta

    from runtime.api.client import AuthClient
    from runtime.api.people_messages import Invite, UserEntry

OtpType: TypeAlias = Literal["totp", "hotp"]


@connecting
@click.group()
def users() -> None:
    """Add, list, reset and delete users."""


_ttl = click.option(
    "--ttl",
    type=Lifetime(),
    default=format_duration(defaults.SIGNUP_TTL),
    show_default=True,
    help="How long the sign-up URL is good for, 1m to 30h.",
)
_otp = click.option(
    "--otp",
    type=click.Choice(["totp", "hotp"]),
    default="totp",
    show_default=True,
    help="One-time passwords by the clock (totp), or by counting, for tokens without one (hotp).",
)


@connecting
@users.command()
@click.argument("name")
@click.argument("logins", type=Words(), required=False, default=())
@_ttl
@_otp
@format_option
def add(name: str, logins: tuple[str, ...], ttl: timedelta, otp: OtpType, shape: str) -> None:
    """Add a user and print the URL with which it signs up.

    LOGINS are the OS users it may log in to nodes as, with commas: joe,root. Without them it is NAME.
    """
    from runtime.api import methods
    from runtime.api.people_messages import UserRequest

    invite = ask(methods.USERS_CREATE, UserRequest(name=name, logins=logins, ttl=ttl, otp=otp))
    _show_invite(invite, ttl, shape)


@connecting
@users.command()
@click.argument("name")
@_ttl
@_otp
@format_option
def reset(name: str, ttl: timedelta, otp: OtpType, shape: str) -> None:
    """Invite a user anew; the old password ends.

    Password and second factor are taken away and a new sign-up URL is printed. This also unlocks a user who is locked
    after too many failed logins.
    """
    from runtime.api import methods
    from runtime.api.people_messages import InviteRequest

    _show_invite(ask(methods.USERS_RESET, InviteRequest(name=name, ttl=ttl, otp=otp)), ttl, shape)


@connecting
@users.command()
@click.option("--all", "everybody", is_flag=True, help="Also users who did not sign up yet; shows each one's status.")
@format_option
def ls(*, everybody: bool, shape: str) -> None:
    """List users who have signed up.

    With each stand the OS users that it may log in to nodes as.
    """
    from runtime.api import methods
    from runtime.api.messages import Nothing

    entries = [
        user for user in ask(methods.USERS_LIST, Nothing()).users if everybody or user.status in ("active", "locked")
    ]
    show(shape, lambda: _table(entries, everybody=everybody), lambda: plain(entries))


@connecting
@users.command("del")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def delete(names: tuple[str, ...]) -> None:
    """Delete users, with their passwords and open invitations."""
    from runtime.api import methods
    from runtime.api.messages import Name

    async def work(auth: AuthClient) -> None:
        for name in names:
            await auth.call(methods.USERS_DELETE, Name(name=name))
            console.out(f"User '{console.visible(name)}' has been deleted")

    with_auth(work)


def _table(entries: list[UserEntry], *, everybody: bool) -> str:
    header = ["User", "Allowed to Login as", *(["Status"] if everybody else [])]
    rows = ([user.name, ",".join(user.logins), user.status][: len(header)] for user in entries)
    return table(header, rows)


def _show_invite(invite: Invite, ttl: timedelta, shape: str) -> None:
    show(shape, lambda: invite_text(invite, ttl), lambda: invite.model_dump(mode="json"))


def invite_text(invite: Invite, ttl: timedelta) -> str:
    """Return what an administrator is to be told of an invite."""
    urls = invite.urls or (f"https://<proxy>:{defaults.PROXY_WEB_PORT}/web/newuser/{invite.token}",)
    hosts = " or ".join(urlsplit(url).hostname or "<proxy>" for url in urls) if invite.urls else "<proxy>"
    return (
        f"Signup token has been created and is valid for {int(ttl.total_seconds())} seconds."
        " Share this URL with the user:\n"
        + "".join(f"{console.visible(url)}\n" for url in urls)
        + f"\nNOTE: make sure the {console.visible(hosts)} host is accessible.\n"
    )
