"""tctl tokens: invitations that are open (manual, "Revoking Invitations")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from runtime.cli import console
from runtime.cli.tables import table
from runtime.cli.tctl.connection import ask, connecting, with_auth
from runtime.cli.tctl.output import format_option, plain, show

if TYPE_CHECKING:
    from datetime import datetime

    from runtime.api.client import AuthClient
    from runtime.api.messages import TokenEntry


@connecting
@click.group()
def tokens() -> None:
    """List and revoke invitations of nodes and users."""


@connecting
@tokens.command()
@format_option
def ls(shape: str) -> None:
    """List the tokens that are good now, in full; of a declared one the name, for its value is in its Secret."""
    from runtime.api import messages, methods

    entries = ask(methods.TOKENS_LIST, messages.Nothing()).tokens
    show(shape, lambda: tokens_table(entries), lambda: plain(entries))


@connecting
@tokens.command("del")
@click.argument("values", metavar="TOKEN...", nargs=-1, required=True)
def delete(values: tuple[str, ...]) -> None:
    """Revoke tokens, of nodes or of users who were to sign up."""
    from pydantic import SecretStr

    from runtime.api import messages, methods

    async def work(auth: AuthClient) -> None:
        for value in values:
            await auth.call(methods.TOKENS_DELETE, messages.TokenValue(token=SecretStr(value)))
            console.out(f"Token {console.visible(value)} has been deleted")

    with_auth(work)


def tokens_table(entries: Iterable[TokenEntry]) -> str:
    """Return tokens as the manual's table."""
    rows = (
        (entry.token or f"Token {entry.name}", ",".join(map(_title, entry.roles)), _expiry(entry.expires))
        for entry in entries
    )
    return table(("Token", "Role", "Expiry Time (UTC)"), rows)


def _title(role: str) -> str:
    """Return a role as the table has it: Node, Proxy, Auth, Signup, TrustedCluster."""
    return "".join(word.capitalize() for word in role.split("_"))


def _expiry(expires: datetime | None) -> str:
    """Return `17 May 16 03:51 UTC` (RFC 822 with the year in two digits), or `never`."""
    from datetime import UTC

    return "never" if expires is None else f"{expires.astimezone(UTC):%d %b %y %H:%M UTC}"
