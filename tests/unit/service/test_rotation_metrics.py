"""What Prometheus is told of the cluster's authorities."""

from __future__ import annotations

from datetime import UTC, datetime

from runtime.api.rotation_messages import KeyStanding, RotationStatus
from runtime.core.resources.authority import AuthorityType
from runtime.core.rotation import Phase
from runtime.service.metrics import Metrics


def key(year: int, *signs: str) -> KeyStanding:
    """Return a key of a year."""
    return KeyStanding(generation=1, fingerprint="SHA256:x", created=datetime(year, 1, 1, tzinfo=UTC), signs=signs)


def test_phase_and_age() -> None:
    """The phase, since when, and how old the key is that signs; a key that is trusted only does not count."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    statuses = [
        RotationStatus(
            cluster="main",
            type=AuthorityType.USER,
            phase=Phase.UPDATE_SERVERS,
            changed=began,
            keys=(key(2001), key(2025, "users")),
            members=0,
            stragglers=(),
        ),
        RotationStatus(
            cluster="main",
            type=AuthorityType.HOST,
            phase=Phase.STANDBY,
            keys=(key(2020, "hosts", "members"),),
            members=0,
            stragglers=(),
        ),
    ]
    metrics = Metrics()
    metrics.watch_rotations(lambda: statuses)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"teleport_ca_{name}", labels)

    assert value("rotation_phase", type="user", phase="update_servers") == 1
    assert value("rotation_phase", type="host", phase="standby") == 1
    assert value("rotation_phase", type="user", phase="standby") is None
    assert value("rotation_phase_timestamp_seconds", type="user") == began.timestamp()
    assert value("rotation_phase_timestamp_seconds", type="host") is None
    assert value("key_created_timestamp_seconds", type="user") == datetime(2025, 1, 1, tzinfo=UTC).timestamp()
    assert value("key_created_timestamp_seconds", type="host") == datetime(2020, 1, 1, tzinfo=UTC).timestamp()
