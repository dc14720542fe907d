"""The Secret with a token's value: read if it is there, else made, and owned by the Token so that it goes with it.

One that is to be kept with its token is owned by nobody, and says in an annotation what it was made for. A token that
is renewed gets a new value there when half of its time is over: whoever finds it has the other half to join with it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from runtime.core.errors import AlreadyExists, CompareFailed, InvalidInput, NotFound, Unavailable
from runtime.core.resources import API_VERSION, GROUP, DeletionPolicy, Token
from runtime.core.resources.token import check_value
from teleport_operator.verdicts.conditions import Reason
from teleport_operator.verdicts.reconciling import Unready

OPT_IN = f"{GROUP}/secret"
"""Label of a Secret: `"true"` lets documents of its namespace refer to it. Else who may write a Token could have the
operator look at every Secret there."""

MADE_FOR = f"{GROUP}/token"
"""Annotation of a Secret that was made here: the name of the Token."""

MADE_AT = f"{GROUP}/value-since"
"""Annotation of such a Secret: when its value was made, as RFC 3339 has it."""

_ATTEMPTS = 3


class Objects(Protocol):
    """What is needed of the API server (`teleport_operator.kubernetes.api_server.ApiServer`)."""

    async def get(self, path: str) -> dict[str, Any]:
        """Return an object. Raises NotFound."""
        ...

    async def create(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Create an object in a collection. Raises AlreadyExists."""
        ...

    async def replace(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Replace an object of that resourceVersion. Raises CompareFailed, NotFound."""
        ...


def reference(token: Token) -> tuple[str, str]:
    """Return the name of the Secret, and the key within it."""
    ref = token.spec.secret_ref
    return (ref.name, ref.key) if ref else (f"{token.name}-token", "token")


async def value_of(
    objects: Objects,
    token: Token,
    uid: str,
    *,
    now: datetime,
    new_value: Callable[[], str],
    beside: Mapping[str, str] | None = None,
) -> str:
    """Return the value in the token's Secret, which is made if it is missing; `uid` is the Token object's.

    What a node needs `beside` the value, by key, is kept current in a Secret that was made for the token, and so is
    whether it goes with the token. There alone the value is renewed, if the token asks for it.

    Raises Unready for a Secret that is not ours to use or holds no value, and what the API server raises.
    """
    name, key = reference(token)
    more = {at: text for at, text in (beside or {}).items() if at != key}
    collection = f"/api/v1/namespaces/{token.metadata.namespace}/secrets"
    for _ in range(_ATTEMPTS):
        try:
            secret = await objects.get(f"{collection}/{name}")
        except NotFound:
            try:
                new = _new(token, uid, name, {key: new_value(), **more}, now)
                return _value_in(await objects.create(collection, new), name, key)
            except AlreadyExists:
                continue
        _check_ours(secret, token, uid, name)
        before = secret.get("data") or {}
        data = {**before, **{at: _encoded(text) for at, text in more.items()}}
        if key not in before:
            # Made for another key, before the document was changed: the value stays with it, this key gets a new one.
            data[key] = _encoded(new_value())
        marks: dict[str, str] = secret["metadata"].get("annotations") or {}
        if _is_due(token, marks, now) and _is_made_for(secret, token, uid):
            data[key] = _encoded(new_value())
            marks = {**marks, MADE_AT: now.isoformat(timespec="seconds")}
        owners = secret["metadata"].get("ownerReferences") or []
        wanted = _owners(token, uid, owners)
        if (data, wanted) == (before, owners) or not _is_made_for(secret, token, uid):
            return _value_in(secret, name, key)
        metadata = {**secret["metadata"], "ownerReferences": wanted, "annotations": marks}
        after = {**secret, "metadata": metadata, "data": data}
        try:
            return _value_in(await objects.replace(f"{collection}/{name}", after), name, key)
        except (CompareFailed, NotFound):
            continue
    raise Unavailable(f"the Secret {name} was changed by others {_ATTEMPTS} times while it was read")


def _is_due(token: Token, marks: Mapping[str, str], now: datetime) -> bool:
    """Return whether the token is to have another value now; also where nobody knows how old the one it has is."""
    if not token.spec.renew:
        return False
    try:
        return now >= datetime.fromisoformat(marks.get(MADE_AT, "")) + token.spec.ttl / 2
    except (ValueError, TypeError):  # nothing, another text, or a time without its zone
        return True


def _new(token: Token, uid: str, name: str, texts: Mapping[str, str], now: datetime) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": token.metadata.namespace,
            "labels": {OPT_IN: "true"},
            "annotations": {MADE_FOR: token.name, MADE_AT: now.isoformat(timespec="seconds")},
            "ownerReferences": _owners(token, uid, []),
        },
        "type": "Opaque",
        "stringData": dict(texts),
    }


def _owners(token: Token, uid: str, there: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the owners with the token, with which Kubernetes then deletes the Secret; without if it is to be kept."""
    others = [each for each in there if each["uid"] != uid]
    if token.spec.deletion_policy is DeletionPolicy.KEEP:
        return others
    if len(others) < len(there):
        return there
    return [*there, {"apiVersion": API_VERSION, "kind": "Token", "name": token.name, "uid": uid, "controller": True}]


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _check_ours(secret: Mapping[str, Any], token: Token, uid: str, name: str) -> None:
    """Refuse a Secret that did not opt in, or that goes with an earlier Token. Raises Unready, Unavailable."""
    metadata = secret["metadata"]
    owners = metadata.get("ownerReferences") or []
    if any(each["kind"] == "Token" and each["name"] == token.name and each["uid"] != uid for each in owners):
        raise Unavailable(f"the Secret {name} belongs to an earlier Token of that name, and goes with it")
    if (metadata.get("labels") or {}).get(OPT_IN) != "true":
        raise Unready(
            Reason.SECRET_NOT_OPTED_IN,
            f"the Secret {name} does not say that documents may refer to it",
            hint=f"Label it: kubectl label secret {name} {OPT_IN}=true; or name another one in spec.secretRef.",
        )


def _is_made_for(secret: Mapping[str, Any], token: Token, uid: str) -> bool:
    """Return whether a Secret was made for the token, or for an earlier one of the name that was to be kept."""
    owners = secret["metadata"].get("ownerReferences") or []
    made_for = (secret["metadata"].get("annotations") or {}).get(MADE_FOR)
    return any(each["uid"] == uid for each in owners) or (not owners and made_for == token.name)


def _value_in(secret: Mapping[str, Any], name: str, key: str) -> str:
    """Return the value. Raises Unready, which does not show it."""
    content = (secret.get("data") or {}).get(key)
    if content is None:
        raise Unready(
            Reason.SECRET_INVALID,
            f"the Secret {name} has no key {key}",
            hint="Add it, or delete the Secret: it is made.",
        )
    try:
        value = base64.b64decode(content).decode().rstrip("\r\n")
        check_value(value)
    except (binascii.Error, UnicodeDecodeError):
        raise Unready(Reason.SECRET_INVALID, f"the Secret {name}: {key}: is no text") from None
    except InvalidInput as error:
        raise Unready(Reason.SECRET_INVALID, f"the Secret {name}: {key}: {error}", hint=error.hint) from None
    return value
