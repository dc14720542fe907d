"""Conditions of a TrustedCluster from what auth tells, and from nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.resources import TrustedCluster, encode
from runtime.core.resources.trusted_cluster import means_of
from runtime.core.trust_status import PREFIX as TRUSTED
from runtime.core.trust_status import TrustReason, TrustStatus
from runtime.core.tunnel_status import PREFIX as TUNNELS
from runtime.core.tunnel_status import TunnelStatus
from teleport_operator.verdicts.conditions import has_turned
from teleport_operator.verdicts.reconciling import Given, Verdict, declare
from teleport_operator.verdicts.trust import Told, cluster_of, read_told, with_trust
from tests.unit.teleport_operator.declared import document

CLOCK = ManualClock(datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC))
VALUE = '{"ca": "ssh-ed25519 AAAA"}'


@pytest.fixture
async def backend() -> AsyncIterator[MemoryBackend]:
    """Open an empty backend."""
    opened = MemoryBackend(clock=CLOCK)
    yield opened
    await opened.close()


def cluster(**spec: Any) -> TrustedCluster:
    """Return the document of the root main."""
    said: dict[str, Any] = {"proxy": {"tunnelAddr": "main:3024"}, "caSecretRef": {"name": "ca"}, **spec}
    found = document("TrustedCluster", "main", **said)
    assert isinstance(found, TrustedCluster)
    return found


def digest(of: TrustedCluster) -> str:
    """Return what tells its Secret from others."""
    means = of.given(means_of(VALUE)).metadata.means
    assert means is not None
    return means.digest


def status(reason: TrustReason, *, of: str = "") -> TrustStatus:
    """Return what auth tells, by default of the Secret as it is."""
    return TrustStatus(reason=reason, message="so it is", fingerprints=("SHA256:x",), digest=of or digest(cluster()))


async def judged(backend: MemoryBackend, told: Told, **spec: Any) -> Verdict:
    """Return what is said of the document with what is told."""
    given = cluster(**spec)
    return with_trust(await declare(backend, CLOCK, given, Given(means=means_of(VALUE))), given, told)


def said(verdict: Verdict) -> dict[str, tuple[bool, str]]:
    """Return status and reason of each condition."""
    return {each.type: (each.status, each.reason.value) for each in verdict.conditions}


async def test_all_is_well(backend: MemoryBackend) -> None:
    """Trusted, mapped, connected: all is true, and the status has fingerprints and the last heartbeat."""
    heard = datetime(2027, 1, 2, 3, 4, tzinfo=UTC)
    told = Told(status(TrustReason.TRUSTED), TunnelStatus(connected=True, message="one tunnel", last_heartbeat=heard))
    verdict = await judged(backend, told)
    assert said(verdict) == {
        "Synced": (True, "Reconciled"),
        "Ready": (True, "Reconciled"),
        "CATrusted": (True, "Trusted"),
        "RoleMapValid": (True, "Reconciled"),
        "TunnelConnected": (True, "Connected"),
    }
    assert verdict.fields == {"caFingerprints": ["SHA256:x"], "lastHeartbeat": "2027-01-02T03:04:00Z"}


@pytest.mark.parametrize("reason", sorted(set(TrustReason) - {TrustReason.TRUSTED, TrustReason.DISABLED}))
async def test_what_auth_found_is_ready_s_reason(backend: MemoryBackend, reason: TrustReason) -> None:
    """Whatever keeps it from being trusted is the reason for which it is not ready; auth's words are the message."""
    verdict = await judged(backend, Told(status(reason)))
    assert said(verdict)["CATrusted"] == said(verdict)["Ready"] == (False, reason.value)
    assert verdict.ready.message == "so it is"


@pytest.mark.parametrize(
    "trust",
    [None, status(TrustReason.TRUSTED, of="f" * 64), status(TrustReason.DISABLED)],
    ids=["none", "other", "was"],
)
async def test_what_is_no_answer_yet(backend: MemoryBackend, trust: TrustStatus | None) -> None:
    """Nothing told, told of another Secret, or from when it was disabled: it is pending, which is no news."""
    verdict = await judged(backend, Told(trust))
    assert said(verdict)["Ready"] == said(verdict)["CATrusted"] == (False, "Pending")
    assert not has_turned(verdict.ready, [])
    assert said(verdict)["TunnelConnected"] == (False, "NotConnected")


async def test_a_role_that_is_not_there(backend: MemoryBackend) -> None:
    """RoleMapValid names it, on the leaf, where the mapping is written."""
    told = Told(status(TrustReason.TRUSTED))
    verdict = await judged(backend, told, roleMap=[{"remote": "admin", "local": ["gone"]}])
    assert said(verdict)["RoleMapValid"] == (False, "RoleNotFound")
    assert said(verdict)["Ready"] == (False, "RoleNotFound")
    assert said(verdict)["CATrusted"] == (True, "Trusted")
    await declare(backend, CLOCK, document("Role", "gone", allow={"logins": ["dev"]}))
    verdict = await judged(backend, told, roleMap=[{"remote": "admin", "local": ["gone"]}])
    assert said(verdict)["RoleMapValid"] == (True, "Reconciled")


async def test_disabled(backend: MemoryBackend) -> None:
    """Whatever was told before: nobody is trusted, and there is no tunnel."""
    told = Told(status(TrustReason.TRUSTED), TunnelStatus(connected=True, message="one tunnel"))
    verdict = await judged(backend, told, enabled=False)
    assert said(verdict)["CATrusted"] == said(verdict)["TunnelConnected"] == (False, "Disabled")
    assert said(verdict)["Ready"] == (False, "Disabled")


async def test_what_is_told_is_read(backend: MemoryBackend) -> None:
    """Both records, each missing or not to be read on its own."""
    assert await read_told(backend, "main") == Told()
    trust = status(TrustReason.UNREACHABLE)
    await backend.put(f"{TRUSTED}main", encode(trust))
    await backend.put(f"{TUNNELS}main", b"[]")
    assert await read_told(backend, "main") == Told(trust)


def test_which_record_is_of_which_cluster() -> None:
    """By its key."""
    assert [cluster_of(key) for key in (f"{TRUSTED}a.b", f"{TUNNELS}main", "public/cluster", "public/trusted")] == [
        "a.b",
        "main",
        "",
        "",
    ]
