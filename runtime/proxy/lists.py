"""What there is to reach, as JSON for tsh: nodes and clusters, to each person what this person may see.

    GET /webapi/nodes?cluster=main&label=env=prod&label=team=*&search=web
        → {"cluster": "main", "nodes": [{"id", "name", "addr", "labels", "version", "kind"}]}
    GET /webapi/clusters
        → {"clusters": [{"name", "status": "online" | "offline", "local": true, "last_connected": null}]}

Both are signed (`runtime.proxy.signed`). A node has to have every label that is named, with that value (`*`: any), and
in its name, id, address or labels every text that is searched for, in any case. Nodes come ordered by name and id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from aiohttp import web
from pydantic import TypeAdapter

from runtime.api.member_messages import Presence
from runtime.core.access import sight
from runtime.core.errors import InvalidInput, NotFound
from runtime.proxy.cluster import ClusterView
from runtime.proxy.signed import SignedRequests

MAX_FILTERS = 32
"""Labels, and texts to search for, of one request."""
MAX_FILTER_CHARACTERS = 512
"""Of one of them: a label has at most 63 characters, its value 255."""
BATCH = 200
"""Nodes that are looked at in one go, about a millisecond: sessions go through the same process."""

Query = Mapping[str, Sequence[str]]
"""The values of each parameter."""

_ANY = "*"
_FIELDS = {"__all__": {"id", "name", "addr", "labels", "version", "kind"}}
_NODES = TypeAdapter(tuple[Presence, ...])


@dataclass(frozen=True, slots=True)
class Filter:
    """Which nodes somebody asks for: `labels` as pairs, `search` in lower case."""

    labels: tuple[tuple[str, str], ...] = ()
    search: tuple[str, ...] = ()

    def takes(self, node: Presence) -> bool:
        """Tell whether the node is one of them."""
        for key, value in self.labels:
            if key not in node.labels or value not in (_ANY, node.labels[key]):
                return False
        if not self.search:
            return True
        texts = (node.name, str(node.id), node.addr, *(f"{key}={value}" for key, value in node.labels.items()))
        return all(any(sought in text.lower() for text in texts) for sought in self.search)


def read_filter(query: Query) -> Filter:
    """Return which nodes a query is for. Raises InvalidInput."""
    labels, search = _values(query, "label"), _values(query, "search")
    for label in labels:
        if not label.partition("=")[0] or "=" not in label:
            raise InvalidInput(f"label {label[:80]!a} is not of the form NAME=VALUE", hint="`*` is any value.")
    return Filter(
        labels=tuple((key, value) for key, _, value in (label.partition("=") for label in labels)),
        search=tuple(text.lower() for text in search),
    )


class ClusterLists:
    """Answers for one cluster."""

    def __init__(self, view: ClusterView, signed: SignedRequests) -> None:
        self._view = view
        self._signed = signed

    async def nodes(self, request: web.Request) -> web.Response:
        """Tell of the nodes that the person may see.

        Raises Unauthenticated and AccessDenied for the person, InvalidInput, NotFound for another cluster, Unavailable.
        """
        person = self._signed.person(request)
        query = _query(request, {"cluster", "label", "search"})
        asked = dict.fromkeys(_values(query, "cluster")) or {self._view.name: None}
        for cluster in asked:
            if cluster not in (self._view.name, *self._view.others.names()):
                raise NotFound(
                    f"there is no cluster {cluster[:80]!a} behind this proxy", hint="Those that are show: tsh clusters"
                )
        if len(asked) > 1:
            raise InvalidInput("one cluster at a time", hint="Name one with --cluster.")
        wanted = read_filter(query)
        (cluster,) = asked
        if cluster == self._view.name:
            nodes = await nodes_json(sight(person.user, person.roles), wanted, await self._view.nodes())
        else:
            nodes = await self._view.others.nodes(cluster, person.signed, request.remote or "")
        body = b'{"cluster":' + TypeAdapter(str).dump_json(cluster) + b',"nodes":' + nodes + b"}"
        response = web.Response(body=body, content_type="application/json")
        response.enable_compression()  # as far as the client says that it takes that
        return response

    async def clusters(self, request: web.Request) -> web.Response:
        """Tell of the clusters that can be reached from here. Raises as `nodes` does for the person."""
        self._signed.person(request)
        _query(request, set())
        # `last_connected` is for clusters behind a tunnel: our own is never away from us.
        found = [{"name": self._view.name, "status": "online", "local": True, "last_connected": None}]
        others = self._view.others
        for name in others.names():
            last = others.last_connected(name)
            found.append(
                {
                    "name": name,
                    "status": "online" if others.is_online(name) else "offline",
                    "local": False,
                    "last_connected": f"{last:%Y-%m-%dT%H:%M:%SZ}" if last is not None else None,
                }
            )
        return web.json_response({"clusters": found})


async def nodes_json(sees: Callable[[Mapping[str, str]], bool], wanted: Filter, nodes: Sequence[Presence]) -> bytes:
    """Return the nodes that somebody sees as a JSON array, letting others run between two pieces of it."""
    pieces = []
    left = iter(sorted(nodes, key=lambda node: (node.name, node.id)))
    while batch := tuple(islice(left, BATCH)):
        # Rights first: what somebody may not see is not searched.
        seen = tuple(node for node in batch if sees(node.labels) and wanted.takes(node))
        if seen:
            pieces.append(_NODES.dump_json(seen, include=_FIELDS)[1:-1])
        await asyncio.sleep(0)
    return b"[" + b",".join(pieces) + b"]"


def _query(request: web.Request, known: set[str]) -> Query:
    """Return the parameters. One that is not known is refused: without it the answer would be another one."""
    for name in request.query:
        if name not in known:
            raise InvalidInput(
                f"there is nothing to ask for by {name[:80]!a}", hint="Is this tsh newer than the proxy?"
            )
    return {name: request.query.getall(name) for name in request.query}


def _values(query: Query, name: str) -> Sequence[str]:
    values = query.get(name, ())
    if len(values) > MAX_FILTERS or any(len(value) > MAX_FILTER_CHARACTERS for value in values):
        raise InvalidInput(
            f"{name}: at most {MAX_FILTERS}, each of at most {MAX_FILTER_CHARACTERS} characters",
            hint="Ask for more than you need, and pick from that.",
        )
    return values
