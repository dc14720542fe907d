"""tctl tokens: invitations that are open (manual, "Revoking Invitations")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from runtime.cli import console
from runtime.cli.tables import table
from runtime.cli.tctl.connection import ask, connecting, with_auth
from runtime.cli.tctl.invitation import cluster_token, invitation, known_roles, ttl_option
from runtime.cli.tctl.output import Words, format_option, plain, show

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from runtime.api.client import AuthClient
    from runtime.api.token_messages import TokenEntry


@connecting
@click.group()
def tokens() -> None:
    """Make, list and revoke invitations of nodes, users and clusters."""


@connecting
@tokens.command()
@click.option(
    "--type",
    "roles",
    type=Words(),
    required=True,
    help="What may join with it: trusted_cluster; or, with commas, node, proxy, auth.",
)
@ttl_option
@click.option("--value", metavar="VALUE", help="The token itself [default: a random one, which is safer].")
@format_option
def add(roles: tuple[str, ...], ttl: timedelta, value: str | None, shape: str) -> None:
    """Make a token.

    One of type trusted_cluster lets one other cluster join this one as a leaf, once: what is printed goes into a Secret
    there. For the other types it does what tctl nodes add does.

    \b
    Example:
      tctl tokens add --type=trusted_cluster --ttl=15m
    """  # noqa: D301 - \b is click's mark for lines that stay as they are
    from pydantic import SecretStr

    from runtime.api import methods
    from runtime.api.token_messages import TokenRequest

    named = known_roles(roles, option="--type")
    request = TokenRequest.model_validate(
        {"roles": named, "ttl": ttl, "value": None if value is None else SecretStr(value)}
    )
    created = ask(methods.TOKENS_CREATE, request)
    of_cluster = named == ["trusted_cluster"]
    show(
        shape,
        lambda: cluster_token(created, ttl) if of_cluster else invitation(created, ttl),
        lambda: created.model_dump(mode="json"),
    )


@connecting
@tokens.command()
@format_option
def ls(shape: str) -> None:
    """List the tokens that are good now, in full; of a declared one the name, for its value is in its Secret."""
    from runtime.api import methods
    from runtime.api.messages import Nothing

    entries = ask(methods.TOKENS_LIST, Nothing()).tokens
    show(shape, lambda: tokens_table(entries), lambda: plain(entries))


@connecting
@tokens.command("del")
@click.argument("values", metavar="TOKEN...", nargs=-1, required=True)
def delete(values: tuple[str, ...]) -> None:
    """Revoke tokens, of nodes or of users who were to sign up."""
    from pydantic import SecretStr

    from runtime.api import methods
    from runtime.api.token_messages import TokenValue

    async def work(auth: AuthClient) -> None:
        for value in values:
            await auth.call(methods.TOKENS_DELETE, TokenValue(token=SecretStr(value)))
            console.out(f"Token {console.visible(value)} has been deleted")

    with_auth(work)


def tokens_table(entries: Iterable[TokenEntry]) -> str:
    """Return tokens as the manual's table."""
    rows = (
        (
            entry.token or f"{'User' if 'signup' in entry.roles else 'Token'} {entry.name}",
            ",".join(map(_title, entry.roles)),
            _expiry(entry.expires),
        )
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
