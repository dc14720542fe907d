"""What holds for every tier of the tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """End as on Ctrl-C when somebody ends us, `timeout` or a CI system: the servers that tests have started end too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
