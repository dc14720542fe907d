"""TrustedClusters: the document is all there is to them."""

from __future__ import annotations

from typing import Any

import kopf

from runtime.core.resources import GROUP, VERSION
from teleport_operator.handlers import edge


@kopf.on.resume(GROUP, VERSION, "trustedclusters")
@kopf.on.create(GROUP, VERSION, "trustedclusters")
@kopf.on.update(GROUP, VERSION, "trustedclusters")
async def trusted_cluster_declared(**kwargs: Any) -> None:
    """Bring the backend to what the document says."""
    await edge.declared("TrustedCluster", **kwargs)


@kopf.on.delete(GROUP, VERSION, "trustedclusters")
async def trusted_cluster_deleted(**kwargs: Any) -> None:
    """Make the backend forget what the document said."""
    await edge.deleted("TrustedCluster", **kwargs)
