"""From what a client asks for, `host:port[@cluster]`, to the one node that is meant. Pure.

A node is meant by its id, its name or name.cluster, its address, or a label `key=value`; the first of these that fits
any node counts. Where several fit, the port that was asked for may single one out; else it is for the client to choose.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from runtime.api.member_messages import Presence, PresenceEntry
from runtime.core.defaults import NODE_SSH_PORT
from runtime.core.errors import InvalidInput, NotFound
from runtime.service.logs import one_line
from runtime.service.values import Address, parse_peer, shown

MAX_WISH = 1024
"""Characters of a wish: the longest host name, label and cluster name are 253, 319 and 128."""
MAX_LISTED = 10
"""Nodes that an error lists."""
MAX_LABELS = 200
"""Characters of a node's labels in an error."""

_WISH = re.compile(r"(?P<host>[^@]+|[^@=]+=.*):(?P<port>[0-9]{1,5})(?:@(?P<cluster>[^@:]*))?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asks for. Without a cluster it is the proxy's own."""

    host: str
    port: int
    cluster: str | None = None

    def __str__(self) -> str:
        return f"{Address(self.host, self.port)}" + (f"@{self.cluster}" if self.cluster is not None else "")


@dataclass(frozen=True, slots=True)
class Route:
    """The node that is meant, and where it says that it is reached."""

    node: Presence
    address: Address


def parse_wish(text: str) -> Wish:
    """Return what `host:port` or `host:port@cluster` asks for. Raises InvalidInput."""
    expected = "expected proxy:HOST:PORT or proxy:HOST:PORT@CLUSTER"
    if len(text) > MAX_WISH:
        raise InvalidInput(f"{expected}, found {len(text)} characters")
    match = _WISH.match(text)
    if match is None or not text.isprintable():
        raise InvalidInput(f"{expected}, found {shown(text)}", hint="With ssh it is: -s proxy:%h:%p")
    host, port, cluster = match["host"], int(match["port"]), match["cluster"]
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host.strip() or port > 65535 or cluster == "":
        raise InvalidInput(f"{expected}, found {shown(text)}", hint="A port is a number up to 65535.")
    return Wish(host, port, cluster)


def check_cluster(wish: Wish, known: Sequence[str]) -> None:
    """Raise NotFound when the wish is for a cluster that the proxy does not know."""
    if wish.cluster is not None and wish.cluster not in known:
        raise NotFound(
            f"there is no cluster {shown(wish.cluster)} here; there is {', '.join(known)}",
            hint="`tsh clusters` lists them, as does ssh with -s proxysites.",
        )


def newest(entries: Iterable[PresenceEntry]) -> tuple[PresenceEntry, ...]:
    """Return the entries without those that another, heard later, has replaced: the same name at the same address.

    A machine that was set up anew has another id; its old entry lasts until it expires.
    """
    latest: dict[tuple[str, str], PresenceEntry] = {}
    for entry in entries:
        key = entry.presence.name.lower(), entry.presence.addr.lower()
        known = latest.get(key)
        if known is None or known.expires < entry.expires:
            latest[key] = entry
    return tuple(latest.values())


def route(
    wish: Wish, nodes: Sequence[Presence], cluster: str, *, visible: Callable[[Presence], bool] = lambda _: True
) -> Route:
    """Return the way to the one of these nodes that is meant; `cluster` is the name of theirs.

    A node that is not `visible` to who asks does not exist: it is in nothing that this returns or raises. Raises
    NotFound for no node, and InvalidInput for several, which the text lists, or for one with an address that is none.
    """
    found = _matching(wish, nodes, cluster, visible)
    if len(found) > 1:
        found = [node for node in found if _port(node) == wish.port] or found
    if len(found) > 1:
        raise _ambiguous(wish, found)
    if not found:
        raise _unknown(wish, filter(visible, nodes))
    return Route(found[0], _address(found[0]))


def _matching(
    wish: Wish, nodes: Sequence[Presence], cluster: str, visible: Callable[[Presence], bool]
) -> list[Presence]:
    host = wish.host.lower().rstrip(".")
    names = {host, host.removesuffix(f".{cluster}")}
    key, is_label, value = wish.host.partition("=")
    whole = str(Address(host, wish.port))
    fits: list[Callable[[Presence], bool]] = [
        lambda node: node.name.lower() in names,
        lambda node: node.addr.lower() == whole,
        lambda node: _host(node) == host,
    ]
    if is_label:
        fits.append(lambda node: node.labels.get(key) == value)
    with suppress(ValueError):
        host_id = UUID(host)
        fits.insert(0, lambda node: node.id == host_id)
    for fit in fits:
        # Whether it is visible is asked last: it costs the most, and few fit.
        if found := [node for node in nodes if fit(node) and visible(node)]:
            return found
    return []


def _address(node: Presence) -> Address:
    try:
        return parse_peer(node.addr, default_port=NODE_SSH_PORT)
    except InvalidInput as error:
        raise InvalidInput(
            f"node {one_line(node.name)} tells an address that is none: {error}",
            hint="Set --advertise-ip on that node.",
        ) from error


def _host(node: Presence) -> str:
    return node.addr.lower().rpartition(":")[0].strip("[]")


def _port(node: Presence) -> int:
    port = node.addr.rpartition(":")[2]
    return int(port) if port.isdecimal() else 0


def _ambiguous(wish: Wish, found: Sequence[Presence]) -> InvalidInput:
    lines = [f"{len(found)} nodes go by {shown(wish.host)}:", *(f"  {_line(node)}" for node in found[:MAX_LISTED])]
    if len(found) > MAX_LISTED:
        lines.append(f"  and {len(found) - MAX_LISTED} more")
    return InvalidInput("\n".join(lines), hint=f"Name the one that you mean by its id, as in: ssh {found[0].id}")


def _line(node: Presence) -> str:
    labels = ",".join(f"{key}={value}" for key, value in sorted(node.labels.items()))
    # One line, whatever a node says of itself.
    return one_line("  ".join(filter(None, (node.name, str(node.id), node.addr, labels[:MAX_LABELS]))))


def _unknown(wish: Wish, nodes: Iterable[Presence]) -> NotFound:
    names = {node.name.lower(): node.name for node in nodes}
    near = difflib.get_close_matches(wish.host.lower(), list(names), n=3, cutoff=0.6)
    suggestion = f"; did you mean {' or '.join(one_line(names[name]) for name in near)}?" if near else ""
    return NotFound(
        f"there is no node {shown(wish.host)} that you may reach{suggestion}", hint="`tsh ls` lists the nodes."
    )
