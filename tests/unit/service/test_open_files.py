"""The limit of open files."""

from __future__ import annotations

import subprocess
import sys
from resource import RLIM_INFINITY

import pytest

from runtime.service.open_files import raised_limit


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 524_288, 5024),
        (1024, RLIM_INFINITY, 5024),
        (1024, 4096, 4096),
        (5024, 524_288, 5024),
        (20_000, 20_000, 20_000),
        (RLIM_INFINITY, RLIM_INFINITY, RLIM_INFINITY),
    ],
)
def test_the_limit_is_raised_as_far_as_needed_and_allowed(soft: int, hard: int, raised: int) -> None:
    """What is enough stays; what is not becomes what is wanted, or what the machine allows."""
    assert raised_limit(soft, hard, 5024) == raised


@pytest.mark.parametrize(("connections", "limit", "warned"), [(200, 1824, False), (1000, 2000, True)])
def test_a_process_raises_its_own(connections: int, limit: int, *, warned: bool) -> None:
    """The limit in force is another one afterwards; one that is still too low is a warning that says what to do."""
    code = (
        "import logging, resource; from runtime.service.open_files import allow_connections; logging.basicConfig();"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (512, 2000));"
        f"allow_connections({connections}); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == limit
    assert ("LimitNOFILE" in done.stderr) == warned
