"""What `tctl nodes add` and `tctl tokens add` have in common: what a token is for, and how it is handed over."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from runtime.cli import console
from runtime.cli.tctl.output import Lifetime
from runtime.core import defaults
from runtime.core.durations import format_duration

if TYPE_CHECKING:
    from datetime import timedelta

    from runtime.api.token_messages import TokenCreated

_TRUSTED_CLUSTERS = (
    'For tokens of type "trustedcluster", tctl needs to be used to create a TrustedCluster resource.'
    " See the Admin Guide for more details."
)
_ROLES = ("node", "proxy", "auth", "trusted_cluster")

ttl_option = click.option(
    "--ttl",
    type=Lifetime(),
    default=format_duration(defaults.JOIN_TOKEN_TTL),
    show_default=True,
    help="How long the token is good for, 1m to 30h.",
)


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


def cluster_token(created: TokenCreated, ttl: timedelta) -> str:
    """Return what the leaf's administrator needs, as the Secret that its TrustedCluster refers to."""
    lines = [
        f"The cluster token: {console.visible(created.entry.token)}",
        f"It lets one cluster join this one as a leaf, once, within {format_duration(ttl)}.",
        "On the leaf, put it into the Secret that its TrustedCluster refers to (tokenSecretRef):",
        "",
        "  apiVersion: v1",
        "  kind: Secret",
        "  metadata: {name: NAME}",
        "  stringData:",
        f'    token: "{console.visible(created.entry.token)}"',
        f'    caPin: "{created.ca_pin}"',
    ]
    return "".join(f"{line}\n" for line in lines)
