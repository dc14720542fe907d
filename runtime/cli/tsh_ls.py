"""tsh ls and tsh clusters: what there is to reach (manual, "Labeling Nodes", "Trusted Clusters")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runtime.cli import console
from runtime.cli.tsh_options import CLUSTER, FORMAT, INSECURE, PROXY, USER, before, is_insecure, now, open_session

if TYPE_CHECKING:
    from runtime.cli.tsh_lists import NodeEntry


def add_lists(tsh: click.Group) -> None:
    """Give tsh the commands `ls` and `clusters`."""
    tsh.add_command(ls)
    tsh.add_command(clusters)


@click.command()
@click.argument("labels", nargs=-1)
@click.option(
    "--search", "searches", multiple=True, metavar="TEXT[,TEXT…]", help="Only nodes in which each text occurs."
)
@click.option("-v", "--verbose", is_flag=True, help="Show versions too.")
@CLUSTER
@PROXY
@USER
@INSECURE
@FORMAT
@click.pass_context
def ls(
    context: click.Context,
    /,
    *,
    labels: tuple[str, ...],
    searches: tuple[str, ...],
    verbose: bool,
    cluster: str | None,
    proxy: str | None,
    user: str | None,
    insecure: bool,
    output: str,
) -> None:
    """List the nodes that you may reach: all of them, or those with LABELS such as env=prod,team=web.

    A `*` stands for any value: env=*. Text is searched for in names, ids, addresses and labels.
    """
    from runtime.cli import tsh_lists
    from runtime.cli.node_table import node_table
    from runtime.core.errors import InvalidInput

    try:
        wanted = tsh_lists.parse_labels(",".join(labels))
    except InvalidInput as error:
        raise click.BadParameter(error.in_full, param_hint="'[LABELS]...'") from error
    session = open_session(context, proxy, user)
    found = tsh_lists.nodes(
        session,
        labels=wanted,
        search=[text for each in searches for text in map(str.strip, each.split(",")) if text],
        cluster=cluster or before(context, "cluster"),
        insecure=is_insecure(context, session, insecure),
        now=now(),
    )
    console.out(_json([_as_json(node) for node in found]) if output == "json" else node_table(found, verbose=verbose))


@click.command()
@PROXY
@USER
@INSECURE
@FORMAT
@click.pass_context
def clusters(context: click.Context, /, *, proxy: str | None, user: str | None, insecure: bool, output: str) -> None:
    """List the clusters that the proxy leads to, and whether they are online."""
    from dataclasses import asdict

    from runtime.cli import tsh_lists
    from runtime.cli.tables import table

    session = open_session(context, proxy, user)
    found = tsh_lists.clusters(session, insecure=is_insecure(context, session, insecure), now=now())
    if output == "json":
        console.out(_json([asdict(each) for each in found]))
    else:
        console.out(table(("Cluster Name", "Status"), [(each.name, each.status) for each in found]))


def _as_json(node: NodeEntry) -> dict[str, object]:
    return {
        "name": node.name,
        "id": node.id,
        "addr": node.addr,
        "labels": dict(sorted(node.labels.items())),
        "version": node.version,
        "kind": node.kind,
    }


def _json(value: object) -> str:
    """Return JSON with nothing but ASCII in it: a terminal obeys none of it."""
    import json

    return json.dumps(value, indent=2)
