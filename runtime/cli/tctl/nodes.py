"""tctl nodes: members of the cluster (manual, "Adding Nodes to the Cluster")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runtime.cli.node_table import node_table
from runtime.cli.tctl.connection import ask, connecting
from runtime.cli.tctl.invitation import invitation, known_roles, ttl_option
from runtime.cli.tctl.output import Words, format_option, plain, show

if TYPE_CHECKING:
    from datetime import timedelta


@connecting
@click.group()
def nodes() -> None:
    """Invite nodes to the cluster and list those that are in it."""


@connecting
@nodes.command()
@click.option(
    "--roles",
    type=Words(),
    default="node",
    show_default=True,
    help="What may join, with commas: node, proxy, auth; or trusted_cluster.",
)
@ttl_option
@click.option("--token", "value", metavar="VALUE", help="The token itself [default: a random one, which is safer].")
@click.option("--max-uses", type=click.IntRange(min=1), help="How many may join with it [default: any number].")
@click.option("--labels", metavar="LABELS", help="Labels that whoever joins with it has, whatever it says: env=prod.")
@format_option
def add(
    roles: tuple[str, ...], ttl: timedelta, value: str | None, max_uses: int | None, labels: str | None, shape: str
) -> None:
    """Make an invite token and print the command that joins with it."""
    from pydantic import SecretStr

    from runtime.api import methods
    from runtime.api.token_messages import TokenRequest

    request = TokenRequest.model_validate(
        {
            "roles": known_roles(roles),
            "ttl": ttl,
            "value": None if value is None else SecretStr(value),
            "max_uses": max_uses,
            "labels": _static_labels(labels),
        }
    )
    created = ask(methods.TOKENS_CREATE, request)
    show(shape, lambda: invitation(created, ttl), lambda: created.model_dump(mode="json"))


@connecting
@nodes.command()
@format_option
def ls(shape: str) -> None:
    """List the nodes that are online."""
    from runtime.api import methods
    from runtime.api.member_messages import PresenceQuery
    from runtime.core.callers import CallerKind

    members = ask(methods.PRESENCE, PresenceQuery(kind=CallerKind.NODE)).members
    show(shape, lambda: node_table(each.presence for each in members), lambda: plain(members))


def _static_labels(text: str | None) -> dict[str, str]:
    from runtime.core.errors import InvalidInput
    from runtime.service.labels import parse_labels

    if text is None:
        return {}
    try:
        labels = parse_labels(text)
    except InvalidInput as error:
        raise click.BadParameter(str(error), param_hint="'--labels'") from error
    if labels.commands:
        raise click.BadParameter("a token cannot impose labels that are commands.", param_hint="'--labels'")
    return dict(labels.static)
