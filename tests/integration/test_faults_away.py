"""Auth is away for a while: sessions begin and go on, and all that happened is with auth once it is back."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.servers.whole_cluster import check, running_cluster, workload

pytestmark = pytest.mark.timeout(900)

AWAY_SECONDS = 20.0
BURST = 10
"""Sessions that are run between two looks at the clock."""


def test_auth_is_away(tmp_path: Path) -> None:
    """Both auth servers are killed, and meanwhile the node too, with all that it had to tell: nothing is lost."""
    with (
        running_cluster(tmp_path, "sqlite") as cluster,
        workload(cluster.ssh, tmp_path / "runs", random.Random(5)) as load,
    ):
        load.run(BURST)
        for server in cluster.pair.both:
            server.process.kill()
        began = time.monotonic()
        while time.monotonic() < began + AWAY_SECONDS:
            load.run(BURST)
        assert [run.tag for run in load.runs if not run.whole] == []
        for _ in range(BURST):
            load.start()
        load.wait_for_some()
        cluster.node.process.kill()
        load.wait()
        cluster.node.start()
        for _ in range(BURST):  # these see auth come back
            load.start()
        cluster.pair.start()
        load.wait()
        assert [run.tag for run in load.runs[-BURST:] if not run.whole] == []
        check(cluster, load.runs)
