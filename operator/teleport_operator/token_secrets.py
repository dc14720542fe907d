"""The Secret with a token's value: read if it is there, else made, and owned by the Token so that it goes with it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from runtime.core.errors import AlreadyExists, CompareFailed, InvalidInput, NotFound, Unavailable
from runtime.core.resources import API_VERSION, GROUP, Token
from runtime.core.resources.token import check_value
from teleport_operator.conditions import Reason
from teleport_operator.reconciling import Unready

OPT_IN = f"{GROUP}/secret"
"""Label of a Secret: `"true"` lets documents of its namespace refer to it. Else who may write a Token could have the
operator look at every Secret there."""

_ATTEMPTS = 3


class Objects(Protocol):
    """What is needed of the API server (`teleport_operator.api_server.ApiServer`)."""

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


async def value_of(objects: Objects, token: Token, uid: str, *, new_value: Callable[[], str]) -> str:
    """Return the value in the token's Secret, which is made if it is missing; `uid` is the Token object's.

    Raises Unready for a Secret that is not ours to use or holds no value, and what the API server raises.
    """
    name, key = reference(token)
    collection = f"/api/v1/namespaces/{token.metadata.namespace}/secrets"
    for _ in range(_ATTEMPTS):
        try:
            secret = await objects.get(f"{collection}/{name}")
        except NotFound:
            try:
                return _value_in(await objects.create(collection, _new(token, uid, name, key, new_value())), name, key)
            except AlreadyExists:
                continue
        _check_ours(secret, token, uid, name)
        if key in (secret.get("data") or {}) or not _is_owned(secret, uid):
            return _value_in(secret, name, key)
        # Made for another key, before the document was changed: the value stays with it, this key gets a new one.
        data = {**(secret.get("data") or {}), key: base64.b64encode(new_value().encode()).decode()}
        try:
            return _value_in(await objects.replace(f"{collection}/{name}", {**secret, "data": data}), name, key)
        except (CompareFailed, NotFound):
            continue
    raise Unavailable(f"the Secret {name} was changed by others {_ATTEMPTS} times while it was read")


def _new(token: Token, uid: str, name: str, key: str, value: str) -> dict[str, object]:
    owner = {"apiVersion": API_VERSION, "kind": "Token", "name": token.name, "uid": uid, "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": token.metadata.namespace,
            "labels": {OPT_IN: "true"},
            "ownerReferences": [owner],
        },
        "type": "Opaque",
        "stringData": {key: value},
    }


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


def _is_owned(secret: Mapping[str, Any], uid: str) -> bool:
    return any(each["uid"] == uid for each in secret["metadata"].get("ownerReferences") or [])


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
