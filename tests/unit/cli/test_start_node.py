"""What the node takes of teleport.yaml when it starts."""

from __future__ import annotations

import pytest

from runtime.cli.start_node import node_options
from runtime.service.load import resolve
from runtime.service.values import Address


@pytest.mark.parametrize(("written", "seconds"), [("20s", 10), ("1h", 3590), ("10s", 1)])
def test_sessions_go_on_until_shortly_before_the_stop_is_over(written: str, seconds: float) -> None:
    """Ten seconds of drain_timeout are for what comes after the sessions; one they have in any case."""
    settings = resolve(f"teleport: {{drain_timeout: {written}}}")
    assert node_options(settings, Address("10.0.0.5", 3022)).grace == seconds
