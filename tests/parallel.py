"""Which tests run beside each other, where several processes run them (pytest-xdist), each with servers of its own.

The tests of a file run in one process, one after another: they share what the file has started.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

OF_THE_MACHINE = ("tests/e2e/scenarios/", "tests/e2e/test_image.py", "tests/e2e/test_kubernetes.py")
"""Need a Kubernetes with pods, whose names of networks, mounts and ports a machine has once."""

ON_THEIR_OWN = ("tests/contract/backend/test_sqlite_crash.py", "tests/integration/test_faults_")
"""Take a minute and more each, and share nothing that would be dear to start twice."""

LONG = (
    *OF_THE_MACHINE,
    *ON_THEIR_OWN,
    "tests/contract/backend/test_model.py",
    "tests/contract/objects/",
    "tests/e2e/test_operator",
    "tests/integration/test_auth_ha.py",
    "tests/integration/test_recordings_places.py",
    "tests/integration/test_running_sessions.py",
    "tests/integration/test_start_join.py",
    "tests/integration/test_trust_process.py",
)
"""Begin first, in this order, so that no process is left with one of them at the end."""


def unit(test: str) -> str:
    """Return the name of what a test, by its id, stays together with."""
    if test.startswith(OF_THE_MACHINE):
        return "the machine"
    return test if test.startswith(ON_THEIR_OWN) else test.partition("::")[0]


def long_first(items: list[pytest.Item]) -> None:
    """Bring tests into the order in which they are handed out; their files stay in order otherwise."""
    items.sort(key=lambda item: next((at for at, each in enumerate(LONG) if item.nodeid.startswith(each)), len(LONG)))


class ByUnit(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Hand out units, the next one to whoever is done first."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False  # it would put those of many tests first, which are the short ones
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
