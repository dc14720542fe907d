"""Authorities in the formats of OpenSSH, out and in (manual, "Example Configuration" of trusted clusters).

    host CA    known_hosts       @cert-authority *.main,main ssh-ed25519 AAAA… clustername=main&type=host
    user CA    authorized_keys   cert-authority ssh-ed25519 AAAA… clustername=main&type=user

The comment says whose key it is, as Teleport's exports do; OpenSSH does not read it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qs, urlencode

from runtime.core.errors import InvalidInput
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import check_cluster
from runtime.pki.keys import parse_public_key
from runtime.pki.trust import AuthorityKey

_KNOWN_HOSTS = "@cert-authority"
_AUTHORIZED_KEYS = "cert-authority"
_PATTERN = re.compile(r"[A-Za-z0-9_.:*?\[\]-]{1,255}\Z")
_HINT = "Export it again with `tctl auth export` on the other cluster."


def export_authority(authority: AuthorityKey, *, names: Sequence[str] = (), compatible_with_1_0: bool = False) -> str:
    """Return the authority's key as one line, without its end.

    A host CA's line holds for the patterns `*.CLUSTER` and CLUSTER and for `names`, more patterns of sshd(8)
    ("SSH_KNOWN_HOSTS FILE FORMAT") such as the proxies' public names. `compatible_with_1_0` writes a user CA in the
    known_hosts format too (manual, `tctl auth export --compat=1.0`). Raises InvalidInput for a name that is no pattern.
    """
    comment = urlencode({"clustername": authority.cluster, "type": authority.type.value})
    if authority.type is AuthorityType.USER and not compatible_with_1_0:
        return f"{_AUTHORIZED_KEYS} {authority.key.line} {comment}"
    for name in names:
        if not _PATTERN.match(name):
            raise InvalidInput(f"{name[:80]!a} is not a host pattern of known_hosts")
    patterns = ",".join(dict.fromkeys((f"*.{authority.cluster}", authority.cluster, *names)))
    return f"{_KNOWN_HOSTS} {patterns} {authority.key.line} {comment}"


def parse_authorities(text: str, *, source: str) -> list[AuthorityKey]:
    """Return the authorities of an exported file, in any of the three forms; `source` names it in errors.

    Blank lines and lines that start with # are skipped. Raises InvalidInput with the number of the line.
    """
    authorities = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                authorities.append(_parse_line(line))
            except InvalidInput as error:
                raise InvalidInput(f"{source}:{number}: {error}", hint=error.hint or _HINT) from error
    if not authorities:
        raise InvalidInput(f"{source}: it holds no authority", hint=_HINT)
    return authorities


def _parse_line(line: str) -> AuthorityKey:
    """Return the authority of one line. Type and cluster are what the comment says, else what the line implies."""
    marker, _, rest = line.strip().partition(" ")
    patterns = ""
    if marker == _KNOWN_HOSTS:
        patterns, _, rest = rest.strip().partition(" ")
    elif marker != _AUTHORIZED_KEYS:
        # Any option beside cert-authority (principals=…) restricts it: to skip one would widen the trust.
        raise InvalidInput(f"it starts with {marker[:40]!a}, not with {_KNOWN_HOSTS} or {_AUTHORIZED_KEYS}")
    fields = rest.split(maxsplit=2)
    if len(fields) < 2:
        raise InvalidInput("it ends before its key")
    said = parse_qs(fields[2]) if len(fields) > 2 else {}
    implied = AuthorityType.HOST if patterns else AuthorityType.USER
    type_name = _single(said, "type", implied.value)
    cluster = _single(said, "clustername", _cluster_of(patterns))
    if type_name not in list(AuthorityType) or (marker == _AUTHORIZED_KEYS and type_name != AuthorityType.USER):
        raise InvalidInput(f"it cannot hold an authority of type {type_name[:40]!a}")
    if not cluster:
        raise InvalidInput(
            "it does not say whose authority it is", hint="Add clustername=NAME&type=user as the line's last word."
        )
    check_cluster(cluster)
    return AuthorityKey(AuthorityType(type_name), cluster, parse_public_key(f"{fields[0]} {fields[1]}"))


def _cluster_of(patterns: str) -> str:
    """Return the cluster that a known_hosts line is for: what follows `*.` in its first pattern."""
    first = patterns.partition(",")[0]
    return first.removeprefix("*.") if first.startswith("*.") else ""


def _single(said: dict[str, list[str]], name: str, default: str) -> str:
    values = said.get(name, [default])
    if len(values) != 1:
        raise InvalidInput(f"its comment says {name} twice")
    return values[0]
