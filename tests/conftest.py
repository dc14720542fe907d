"""What holds for every tier of the tests."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings


def pytest_configure() -> None:
    """End as on Ctrl-C when somebody ends us, `timeout` or a CI system: the servers that tests have started end too.

    Ctrl-C itself is ignored by what a shell has put into the background, and by all that this starts in turn: programs
    that are to be interrupted by a test would not notice.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    # Nor would a shell that ssh started for its ProxyCommand notice that ssh has ended, below nohup.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # How long an example takes says something of what else the machine does, not of the code.
    settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("ours")
