"""What tsh asks a proxy for as somebody who is logged in: the nodes and clusters there are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from runtime.api.signed import signed_headers
from runtime.cli.profile import Home, Keys, Profile, choose_profile
from runtime.cli.tsh_status import status_of
from runtime.cli.webclient import Reply, TlsTrust, WebClient
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.pki.keys import load_private_key

_LABEL = re.compile(r'\s*(?P<name>[^=,"\s]+)\s*=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^",]*))\s*(?:,|\Z)')


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A node as the proxy told of it. Its texts may hold anything: `console.visible` shows them."""

    id: str
    name: str
    addr: str
    """host:port of its SSH as the proxy reaches it; empty for one that is reached in another way."""
    labels: Mapping[str, str]
    version: str
    kind: str


@dataclass(frozen=True, slots=True)
class ClusterEntry:
    """A cluster that the proxy leads to; `local` is its own. `last_connected` is RFC 3339, or None."""

    name: str
    status: str
    local: bool
    last_connected: str | None


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is logged in at a proxy, with a certificate that is valid now."""

    profile: Profile
    keys: Keys

    @classmethod
    def open(cls, home: Home, proxy: str | None, user: str | None, now: datetime) -> Session:
        """Return the login at a proxy, the current one unless it is named.

        Raises InvalidInput when no proxy is known, AccessDenied when nobody is logged in there or the certificate is
        over, each with what to do.
        """
        profile = choose_profile(home, proxy, user)
        keys = home.keys(profile.proxy, profile.user)
        if error := status_of(home, profile, current=True, keys=keys).error(now):
            raise error
        if keys is None:  # which is an error above; said again for the type checker
            raise AccessDenied("not logged in")
        return cls(profile, keys)


def nodes(
    session: Session,
    *,
    labels: Mapping[str, str] | None = None,
    search: Sequence[str] = (),
    cluster: str | None = None,
    insecure: bool = False,
    now: datetime,
) -> list[NodeEntry]:
    """Return the nodes that the person may see, by name and id.

    `labels` are those that a node has to have (`*`: with any value), `search` texts that must occur in its name, id,
    address or labels. `cluster` None is the proxy's own. Raises NotFound for a cluster that is not there, AccessDenied,
    and what `WebClient.ping` raises.
    """
    query = [("label", f"{key}={value}") for key, value in (labels or {}).items()]
    query += [("search", text) for text in search]
    if cluster is not None:
        query.append(("cluster", cluster))
    reply = ask(session, "/webapi/nodes", query, insecure=insecure, now=now)
    found = [
        NodeEntry(
            id=each.text("id"),
            name=each.text("name"),
            addr=each.optional_text("addr"),
            labels=each.pairs("labels"),
            version=each.optional_text("version"),
            kind=each.text("kind"),
        )
        for each in reply.objects("nodes")
    ]
    return sorted(found, key=lambda node: (node.name, node.id))


def clusters(session: Session, *, insecure: bool = False, now: datetime) -> list[ClusterEntry]:
    """Return the clusters that the proxy leads to, by name. Raises as `nodes` does."""
    reply = ask(session, "/webapi/clusters", [], insecure=insecure, now=now)
    found = [
        ClusterEntry(
            name=each.text("name"),
            status=each.text("status"),
            local=each.flag("local"),
            last_connected=each.optional_text("last_connected") or None,
        )
        for each in reply.objects("clusters")
    ]
    return sorted(found, key=lambda cluster: cluster.name)


def parse_labels(text: str) -> dict[str, str]:
    """Return the labels that `env=prod,uptime="up 1 hour, 15 minutes"` names. Raises InvalidInput.

    In a quoted value a backslash takes the next character as it is.
    """
    labels: dict[str, str] = {}
    end = 0
    while end < len(text):
        found = _LABEL.match(text, end)
        if found is None or text.endswith(","):
            raise InvalidInput(
                f"expected labels such as env=prod,team=web, found {text[end:][:80]!a}",
                hint="A value with a comma in it stands in quotes: 'uptime=\"up 1 hour, 15 minutes\"'.",
            )
        end = found.end()
        name, quoted = found["name"], found["quoted"]
        if name in labels:
            raise InvalidInput(f"the label {name[:80]!a} is there twice", hint="A node has one value for each.")
        labels[name] = found["plain"].strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
    return labels


def ask(session: Session, path: str, query: Sequence[tuple[str, str]], *, insecure: bool, now: datetime) -> Reply:
    """Return what the proxy answers to a path, asked for as who is logged in. Raises what `WebClient.ping` raises."""
    profile = session.profile
    target = f"{path}?{urlencode(query)}" if query else path
    headers = signed_headers(
        "GET",
        target,
        cluster=profile.cluster,
        key=load_private_key(session.keys.private),
        certificate=session.keys.certificate,
        now=now,
    )
    return WebClient(profile.proxy, TlsTrust(pin=profile.pin, anything=insecure)).get(target, headers)
