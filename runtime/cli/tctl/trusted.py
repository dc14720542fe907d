"""What becomes of a TrustedCluster after it was written: auth tells within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.resource_messages import ResourceRef
from runtime.cli import console
from runtime.core.errors import NotFound
from runtime.core.resources import TrustedCluster, decode
from runtime.core.trust_status import TrustReason

if TYPE_CHECKING:
    from runtime.api.client import AuthClient
    from runtime.api.trust_messages import TrustStanding

PATIENCE_SECONDS = 20.0
"""How long tctl waits for auth to have shown a token to the root."""
LOOK_SECONDS = 0.2


async def tell_trust(auth: AuthClient, names: Collection[str], *, missing: bool = False) -> None:
    """Wait until it is known what became of these TrustedClusters, and tell it; with `missing` also of lacking Secrets.

    What takes longer goes on without tctl. Raises what auth raises.
    """
    for name in names:
        cluster = await _written(auth, name)
        if cluster is None or not cluster.spec.enabled:
            continue
        if cluster.metadata.means is None:
            if missing:
                console.say(f"warning: cluster {name} is not trusted: its Secret {cluster.secret()[0]} was not given")
            continue
        digest = cluster.metadata.means.digest
        found = await _standing(auth, name, digest)
        if found is None or found.reason == TrustReason.PENDING:
            console.say(f"cluster {name} is not trusted yet: see tctl get trusted_clusters")
        elif found.reason == TrustReason.TRUSTED:
            console.out(f"  cluster {name} is trusted, by its CA keys {', '.join(found.fingerprints)}")
        else:
            console.say(f"warning: cluster {name} is not trusted: {console.visible(found.message)}")


async def _written(auth: AuthClient, name: str) -> TrustedCluster | None:
    """Return what auth has now; None if somebody has deleted it."""
    try:
        ref = ResourceRef(kind="TrustedCluster", name=name)
        document = await auth.call(methods.RESOURCES_GET, ref)
    except NotFound:
        return None
    return decode(TrustedCluster, document.document.encode())


async def _standing(auth: AuthClient, name: str, digest: str) -> TrustStanding | None:
    """Return how it stands with that Secret, as soon as that is known; None if it takes longer."""
    found = None
    for _ in range(round(PATIENCE_SECONDS / LOOK_SECONDS)):
        told = (await auth.call(methods.TRUSTED_STATUS, Nothing())).clusters
        found = next((each for each in told if each.name == name and each.digest == digest), None)
        # Disabled: what was said of it before this document.
        if found is not None and found.reason not in (TrustReason.PENDING, TrustReason.DISABLED):
            return found
        await asyncio.sleep(LOOK_SECONDS)
    return found
