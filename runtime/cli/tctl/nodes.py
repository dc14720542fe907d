"""tctl nodes: members of the cluster (manual, "Adding Nodes to the Cluster")."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from runtime.cli import console
from runtime.cli.node_table import node_table
from runtime.cli.tctl.connection import ask, connecting
from runtime.cli.tctl.output import Lifetime, Words, format_option, plain, show
from runtime.core import defaults
from runtime.core.durations import format_duration

if TYPE_CHECKING:
    from datetime import timedelta

    from runtime.api.messages import TokenCreated

_TRUSTED_CLUSTERS = (
    'For tokens of type "trustedcluster", tctl needs to be used to create a TrustedCluster resource.'
    " See the Admin Guide for more details."
)
_ROLES = ("node", "proxy", "auth", "trusted_cluster")


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
@click.option(
    "--ttl",
    type=Lifetime(),
    default=format_duration(defaults.JOIN_TOKEN_TTL),
    show_default=True,
    help="How long the token is good for, 1m to 30h.",
)
@click.option("--token", "value", metavar="VALUE", help="The token itself [default: a random one, which is safer].")
@click.option("--max-uses", type=click.IntRange(min=1), help="How many may join with it [default: any number].")
@click.option("--labels", metavar="LABELS", help="Labels that whoever joins with it has, whatever it says: env=prod.")
@format_option
def add(
    roles: tuple[str, ...], ttl: timedelta, value: str | None, max_uses: int | None, labels: str | None, shape: str
) -> None:
    """Make an invite token and print the command that joins with it."""
    from pydantic import SecretStr

    from runtime.api import messages, methods

    request = messages.TokenRequest.model_validate(
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
    from runtime.api import messages, methods
    from runtime.core.callers import CallerKind

    members = ask(methods.PRESENCE, messages.PresenceQuery(kind=CallerKind.NODE)).members
    show(shape, lambda: node_table(each.presence for each in members), lambda: plain(members))


def known_roles(roles: tuple[str, ...], *, option: str = "--roles") -> list[str]:
    """Return the roles of a token as documents write them. Raises click.BadParameter for another."""
    from runtime.core.resources.explain import nearest, one_of

    # The manual writes trustedcluster, documents trusted_cluster.
    named = ["trusted_cluster" if role == "trustedcluster" else role for role in roles]
    for role in named:
        if role not in _ROLES:
            raise click.BadParameter(
                f"{console.visible(role)!r} is not {one_of(_ROLES)}{nearest(role, _ROLES)}", param_hint=f"'{option}'"
            )
    return list(dict.fromkeys(named))


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


def invitation(created: TokenCreated, ttl: timedelta) -> str:
    """Return what to run on the new machine (manual, "Adding Nodes to the Cluster")."""
    token, server = created.entry.token, next(iter(created.auth_servers), "<auth server>")
    services = [role for role in created.entry.roles if role != "trusted_cluster"]
    lines = [f"The invite token: {console.visible(token)}"]
    if services:
        command = [
            f"--roles={','.join(services)}",
            f"--token={token}",
            f"--auth-server={server}",
            f"--ca-pin={created.ca_pin}",
        ]
        quoted = " ".join(shlex.quote(word) for word in ("teleport", "start", *command))
        lines += ["Run this on the new node to join the cluster:", f"> {console.visible(quoted)}"]
    lines += [
        "",
        "Please note:",
        f"  - This invitation token will expire in {_minutes(ttl)}",
        f"  - {console.visible(server)} must be reachable from the new node, see --advertise-ip server flag",
        f"  - {_TRUSTED_CLUSTERS}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _minutes(ttl: timedelta) -> str:
    minutes, rest = divmod(ttl.total_seconds(), 60)
    if rest:
        return format_duration(ttl)
    return f"{int(minutes)} minute{'' if minutes == 1 else 's'}"
