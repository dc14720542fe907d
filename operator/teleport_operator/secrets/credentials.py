"""What Users and TrustedClusters take from their Secrets: a machine's credentials and a leaf's token, sealed to auth.

The operator may write documents and nothing else. So what the Secret holds goes into the document's record in a box
that auth alone opens; the box is made once for each version of the Secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from runtime.backend.base import Backend
from runtime.core import keys
from runtime.core.errors import NotFound
from runtime.core.resources import SealedCredentials, TrustedCluster, User
from runtime.core.resources.trusted_cluster import CA_PIN_KEY, TrustMeans, means_of
from runtime.pki.sealed_token import sealed
from runtime.pki.sealing import seal
from teleport_operator.secrets.referenced import NotedSecrets, usable
from teleport_operator.verdicts.conditions import Reason
from teleport_operator.verdicts.reconciling import Unready

PASSWORD, OTP_SECRET = "password", "otpSecret"
MAX_VALUE = 1024
"""Characters; more than any password, seed, token or fingerprint has."""
MAX_PIN = 128
MAX_AUTHORITIES = 64 * 1024


async def credentials_of(found: NotedSecrets, backend: Backend, user: User) -> SealedCredentials | None:
    """Return what the User's Secret holds, None for who is invited.

    Raises Unready for a Secret that is not there, not ours to use or holds no credentials, and while auth has never
    run; and what the API server and the backend raise.
    """
    ref = user.spec.credentials_secret_ref
    if ref is None:
        return None
    secret = await usable(found, user.metadata.namespace, ref.name, field="spec.credentialsSecretRef")
    content = {PASSWORD: _text(secret, ref.name, PASSWORD).rstrip("\r\n")}
    if OTP_SECRET in (secret.get("data") or {}):
        content[OTP_SECRET] = _text(secret, ref.name, OTP_SECRET).strip()
    public = await _sealing_key(backend, "credentials are")
    metadata = secret["metadata"]
    key_id = hashlib.sha256(public).hexdigest()[:16]
    return SealedCredentials(
        source=f"{metadata['uid']}/{metadata['resourceVersion']}/{key_id}",
        box=seal(public, json.dumps(content).encode(), about=f"User/{user.name}"),
    )


async def trust_means_of(found: NotedSecrets, backend: Backend, cluster: TrustedCluster) -> TrustMeans:
    """Return what a TrustedCluster's Secret gives, a token sealed.

    Raises Unready for a Secret that is not there, not ours to use or holds nothing of use, and for a token while auth
    has never run; and what the API server and the backend raise.
    """
    name, key = cluster.secret()
    field = "spec.tokenSecretRef" if cluster.spec.token_secret_ref else "spec.caSecretRef"
    secret = await usable(found, cluster.metadata.namespace, name, field=field)
    given = {key: _text(secret, name, key, longest=MAX_AUTHORITIES)}
    if CA_PIN_KEY in (secret.get("data") or {}):
        given[CA_PIN_KEY] = _text(secret, name, CA_PIN_KEY, longest=MAX_PIN)
    value = cluster.means_in(given)
    assert value is not None  # noqa: S101 - the key is there
    means = means_of(value)
    if means.token is None:
        return means
    return sealed(means, await _sealing_key(backend, "the token is"), cluster=cluster.name)


async def _sealing_key(backend: Backend, what: str) -> bytes:
    """Return the public half of auth's key. Raises Unready, Unavailable."""
    try:
        return base64.b64decode((await backend.get(keys.SEALING_KEY)).value)
    except NotFound:
        raise Unready(
            Reason.NO_AUTH,
            f"no auth server has run with this storage yet: {what} for it alone",
            hint="Start one.",
        ) from None


def _text(secret: Mapping[str, Any], name: str, key: str, *, longest: int = MAX_VALUE) -> str:
    """Return the text of one key. Raises Unready, which does not show it."""
    try:
        text = base64.b64decode((secret.get("data") or {})[key]).decode()
    except KeyError:
        raise Unready(Reason.SECRET_INVALID, f"the Secret {name} has no key {key}", hint="Add it.") from None
    except (binascii.Error, UnicodeDecodeError):
        raise Unready(Reason.SECRET_INVALID, f"the Secret {name}: {key}: is no text") from None
    if not text.strip() or len(text) > longest:
        raise Unready(Reason.SECRET_INVALID, f"the Secret {name}: {key}: is {'too long' if text.strip() else 'empty'}")
    return text
