"""Nodes as the manual shows them, for `tctl nodes ls` and `tsh ls` alike (manual, "Adding Nodes to the Cluster")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from runtime.cli.tables import table


class Node(Protocol):
    """What a row shows of a node."""

    @property
    def name(self) -> str: ...  # noqa: D102 - what a node is called
    @property
    def id(self) -> object: ...  # noqa: D102 - shown as text
    @property
    def addr(self) -> str: ...  # noqa: D102 - host:port
    @property
    def labels(self) -> Mapping[str, str]: ...  # noqa: D102 - the merged ones
    @property
    def version(self) -> str: ...  # noqa: D102 - of its teleport


def node_table(nodes: Iterable[Node], *, verbose: bool = False) -> str:
    """Return the manual's table; `verbose` has each node's version too."""
    header = ["Node Name", "Node ID", "Address", *(["Version"] if verbose else []), "Labels"]
    rows = (
        [node.name, str(node.id), node.addr, *([node.version] if verbose else []), labels_text(node.labels)]
        for node in nodes
    )
    return table(header, rows)


def labels_text(labels: Mapping[str, str]) -> str:
    """Return labels as the manual writes them, in the order of their names: `kernel=3.19.0-56,uptime=up 1 hour`."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
