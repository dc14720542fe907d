"""The unit file in examples/systemd: what it runs and sends is what the daemon understands."""

from __future__ import annotations

from pathlib import Path

from runtime.core.defaults import CONFIG_FILE
from runtime.service.lifecycle import DRAIN_SECONDS

UNIT = Path(__file__).parents[3] / "examples" / "systemd" / "teleport.service"


def settings() -> dict[str, str]:
    """Return the keys that are in force; no key stands twice."""
    lines = [line.partition("=") for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#"]
    assert len(lines) == len({key for key, _, _ in lines})
    return {key: value for key, _, value in lines}


def test_the_unit_of_the_manual() -> None:
    """It starts as the manual's unit does, waits for READY=1, reloads with SIGHUP, and lets every role drain."""
    unit = settings()
    assert unit["Description"] == "Teleport SSH Service"
    assert unit["ExecStart"] == f"/usr/local/bin/teleport start --config={CONFIG_FILE}"
    assert unit["Type"] == "notify"
    assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(unit["TimeoutStopSec"]) > 4 * DRAIN_SECONDS


def test_nothing_in_force_reaches_into_sessions() -> None:
    """The sessions of a node are children of the service: what would take rights from them is commented out."""
    hardening = {"NoNewPrivileges", "CapabilityBoundingSet", "SystemCallFilter", "PrivateDevices", "RestrictSUIDSGID"}
    assert not [key for key in settings() if key.startswith(("Protect", "Private", "Restrict")) or key in hardening]
    assert hardening <= {line[1:].partition("=")[0] for line in UNIT.read_text().splitlines() if line[:1] == "#"}
