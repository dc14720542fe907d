"""What auth found out about a TrustedCluster, in `public/trusted` and `public/tunnels`, as conditions of the object.

CATrusted          the root's authorities are known and believed
RoleMapValid       every role that roleMap leads to is there
TunnelConnected    a proxy of this cluster holds a tunnel to the root
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from runtime.backend.base import Backend
from runtime.core.errors import InvalidResource, NotFound
from runtime.core.resources import TrustedCluster, decode
from runtime.core.resources.model import Model
from runtime.core.trust_status import PREFIX as TRUSTED
from runtime.core.trust_status import TrustReason, TrustStatus
from runtime.core.tunnel_status import PREFIX as TUNNELS
from runtime.core.tunnel_status import TunnelStatus
from runtime.reconcile import Reason as PlanReason
from teleport_operator.verdicts.conditions import Condition, Reason, ready
from teleport_operator.verdicts.reconciling import Verdict


class TunnelReason(StrEnum):
    """Why there is a tunnel, or none."""

    CONNECTED = "Connected"
    NOT_CONNECTED = "NotConnected"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class Told:
    """What auth has told of one TrustedCluster; None for nothing yet."""

    trust: TrustStatus | None = None
    tunnel: TunnelStatus | None = None


async def read_told(backend: Backend, name: str) -> Told:
    """Return what auth tells. Raises Unavailable."""
    trust, tunnel = (
        await _read(backend, TRUSTED + name, TrustStatus),
        await _read(backend, TUNNELS + name, TunnelStatus),
    )
    return Told(trust if isinstance(trust, TrustStatus) else None, tunnel if isinstance(tunnel, TunnelStatus) else None)


def with_trust(verdict: Verdict, cluster: TrustedCluster, told: Told) -> Verdict:
    """Return the verdict on a document that was written, with what auth tells. Pure.

    What auth found for another Secret, or while the document was disabled, is no answer yet.
    """
    stored = decode(TrustedCluster, verdict.known.stored) if verdict.known.stored else None
    digest = stored.metadata.means.digest if stored is not None and stored.metadata.means is not None else ""
    trusted = _trusted(cluster, digest, told.trust)
    missing = _missing(cluster, verdict)
    mapped = Condition(
        "RoleMapValid",
        not missing,
        PlanReason.ROLE_NOT_FOUND if missing else Reason.RECONCILED,
        f"there is no role {', '.join(missing)}: whoever it is for gets nothing" if missing else "every role is there",
    )
    summed_up = verdict.ready if not verdict.ready.status or trusted.status else ready(trusted.reason, trusted.message)
    others = [each for each in verdict.conditions if each.type != "Ready"]
    fields: dict[str, object] = {"caFingerprints": list(told.trust.fingerprints) if told.trust else []}
    if told.tunnel is not None and told.tunnel.last_heartbeat is not None:
        fields["lastHeartbeat"] = f"{told.tunnel.last_heartbeat:%Y-%m-%dT%H:%M:%SZ}"
    return replace(
        verdict,
        conditions=(*others, summed_up, trusted, mapped, _connected(cluster, told.tunnel)),
        fields={**verdict.fields, **fields},
    )


def _trusted(cluster: TrustedCluster, digest: str, found: TrustStatus | None) -> Condition:
    if not cluster.spec.enabled:
        return Condition("CATrusted", False, TrustReason.DISABLED, "spec.enabled is false")
    if found is None or found.digest != digest or found.reason is TrustReason.DISABLED:
        return Condition("CATrusted", False, TrustReason.PENDING, "no auth server has looked at it yet")
    return Condition("CATrusted", found.trusted, found.reason, found.message)


def _connected(cluster: TrustedCluster, found: TunnelStatus | None) -> Condition:
    if not cluster.spec.enabled:
        return Condition("TunnelConnected", False, TunnelReason.DISABLED, "spec.enabled is false")
    if found is None:
        return Condition("TunnelConnected", False, TunnelReason.NOT_CONNECTED, "no proxy has told of a tunnel yet")
    reason = TunnelReason.CONNECTED if found.connected else TunnelReason.NOT_CONNECTED
    return Condition("TunnelConnected", found.connected, reason, found.message)


def _missing(cluster: TrustedCluster, verdict: Verdict) -> Collection[str]:
    named = {role for mapping in cluster.spec.role_map for role in mapping.local}
    return sorted(named.intersection(verdict.known.missing))


async def _read(backend: Backend, key: str, model: type[Model]) -> Model | None:
    try:
        return decode(model, (await backend.get(key)).value)
    except (NotFound, InvalidResource):  # a newer version's: its word for it is not understood here
        return None


def cluster_of(key: str) -> str:
    """Return the TrustedCluster of which a record tells; "" for a record of something else."""
    for prefix in (TRUSTED, TUNNELS):
        if key.startswith(prefix):
            return key.removeprefix(prefix)
    return ""
