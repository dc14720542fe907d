"""Names of the keys in the backend, and the rules that every key obeys.

A key is a path of at least two segments, `SPACE/NAME[/NAME…]`. The space is the unit of authorisation (an etcd role on
the prefix, a DynamoDB IAM condition on the partition key) and of ordering: revisions of two spaces are not comparable.

    resources/KIND/NAME     what people declare; the operator may write here
    authority/…             certificate authorities with their private keys; auth only
    presence/…              members that send heartbeats, and the sessions that they run
    secrets/…               password hashes, one-time-password counters, invites; auth only
    audit/…                 what happened, as all auth servers logged it; auth only
    public/…                what auth tells of the cluster; nothing secret, the operator may read here
"""

from __future__ import annotations

import re

from runtime.core.errors import InvalidKey

RESOURCES = "resources"
AUTHORITY = "authority"
PRESENCE = "presence"
SECRETS = "secrets"
AUDIT = "audit"
PUBLIC = "public"

CLUSTER_NAME = f"{AUTHORITY}/cluster-name"
"""The name of the cluster that this backend belongs to."""

CLUSTER_FACTS = f"{PUBLIC}/cluster"
"""How the cluster is reached and known (`runtime.core.cluster_facts`)."""

SEALING_KEY = f"{PUBLIC}/sealing-key"
"""The public half of the key to which what auth alone may read is sealed (`runtime.pki.sealing`), in base64."""

SEALING_KEY_PRIVATE = f"{SECRETS}/sealing-key"
"""Its private half."""

MAX_KEY_BYTES = 1000
"""UTF-8 bytes of a key: DynamoDB's sort key ends at 1,024 bytes, less room for what a backend adds."""

_SPACE = re.compile(r"[a-z][a-z0-9-]{0,62}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def resource(kind: str, name: str) -> str:
    """Return the key of one declared resource; `kind` as written in documents, such as `User`."""
    return f"{RESOURCES}/{kind}/{name}"


def resource_prefix(kind: str) -> str:
    """Return the prefix of the keys of all declared resources of a kind."""
    return f"{RESOURCES}/{kind}/"


LOCAL_AUTHORITIES = f"{AUTHORITY}/local/"
"""Prefix of the cluster's own authorities."""


def local_authority(authority_type: str) -> str:
    """Return the key of the cluster's own user or host CA. There is one of each: the record says whose it is."""
    return f"{LOCAL_AUTHORITIES}{authority_type}"


def check_key(key: str) -> str:
    """Return the key if every backend can hold it as it is.

    Each segment is non-empty text without control characters. `.` and `..` are ordinary names: a key is never a file's
    path.

    Raises InvalidKey.
    """
    _check(key, key.split("/"))
    return key


def check_prefix(prefix: str) -> str:
    """Return the prefix if it names a folder of keys: `SPACE/` or `SPACE/NAME/`, always with the slash at its end.

    The slash keeps `node` apart from `node-old`. Raises InvalidKey.
    """
    if not prefix.endswith("/"):
        raise InvalidKey(f"prefix {shown(prefix)} does not end in a slash", hint="Write it as SPACE/ or SPACE/NAME/.")
    _check(prefix, [*prefix.split("/")[:-1], "any"])
    return prefix


def space(key: str) -> str:
    """Return the first segment of a key or prefix."""
    return key.partition("/")[0]


def _check(key: str, segments: list[str]) -> None:
    if len(segments) < 2:
        raise InvalidKey(f"key {shown(key)} has no slash", hint="Write it as SPACE/NAME.")
    if not all(segments):
        raise InvalidKey(f"key {shown(key)} has an empty segment")
    if not _SPACE.match(segments[0]):
        raise InvalidKey(f"key {shown(key)} does not start with a space of lower-case letters, digits and dashes")
    if _CONTROL.search(key):
        raise InvalidKey(f"key {shown(key)} holds a control character")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidKey(f"key {shown(key)} is not valid Unicode text") from None
    if size > MAX_KEY_BYTES:
        raise InvalidKey(f"key {shown(key)} has {size} bytes; {MAX_KEY_BYTES} is the most")


def shown(key: str) -> str:
    """Return the key for an error message: escaped, cut, and without the names below secrets."""
    if key.startswith(f"{SECRETS}/"):
        return f"{SECRETS}/…"
    return ascii(key if len(key) <= 80 else key[:80] + "…")
