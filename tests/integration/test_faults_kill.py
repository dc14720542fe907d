"""Each part is killed with -9 at random moments of many sessions: nothing that was seen is missing from the log."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.servers.teleport import Teleport
from tests.servers.whole_cluster import Cluster, check, running_cluster, workload

pytestmark = pytest.mark.timeout(900)

SESSIONS = 200
FEW = 40
KILLS = 4
PAUSE_SECONDS = 1.0
"""How long a part may be gone, at most, before it is started again."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a cluster on a file."""
    with running_cluster(tmp_path_factory.mktemp("cluster"), "sqlite") as made:
        yield made


def kill(server: Teleport, rng: random.Random) -> None:
    """Kill a process at a random moment of what just began, and start it again a moment later."""
    time.sleep(rng.uniform(0, 0.5))
    server.process.kill()
    time.sleep(rng.uniform(0, PAUSE_SECONDS))
    server.start()


def at_random(rng: random.Random, count: int, what: Callable[[], object]) -> list[tuple[int, Callable[[], object]]]:
    """Return when something is to happen while so many sessions are started."""
    return [(number, what) for number in rng.sample(range(5, count), KILLS)]


def test_the_node_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    """What ran is lost, and the log says so; what people had seen of it is in its recording."""
    rng = random.Random(1)
    with workload(cluster.ssh, tmp_path / "runs", rng) as load:
        load.run(SESSIONS, at_random(rng, SESSIONS, partial(kill, cluster.node, rng)))
        assert sum(run.whole for run in load.runs) > SESSIONS / 2
        assert not all(run.whole for run in load.runs)
        check(cluster, load.runs)


def test_the_proxy_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    """Its sessions end, and the node knows how."""
    rng = random.Random(2)
    with workload(cluster.through_proxy, tmp_path / "runs", rng) as load:
        load.run(SESSIONS, at_random(rng, SESSIONS, partial(kill, cluster.proxy, rng)))
        assert sum(run.whole for run in load.runs) > SESSIONS / 2
        assert not all(run.whole for run in load.runs)
        check(cluster, load.runs)


def test_an_auth_server_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    """No session notices."""
    kill_one_of(cluster, tmp_path / "runs", SESSIONS)


@pytest.mark.parametrize("store", ["etcd", "dynamodb"])
def test_an_auth_server_is_killed_on(tmp_path: Path, store: str) -> None:
    """So it is where the storage is shared by the network."""
    with running_cluster(tmp_path, store) as cluster:
        kill_one_of(cluster, tmp_path / "runs", FEW)


def kill_one_of(cluster: Cluster, folder: Path, sessions: int) -> None:
    """Kill one auth server or the other while sessions run."""
    rng = random.Random(3)
    with workload(cluster.ssh, folder, rng) as load:
        load.run(sessions, at_random(rng, sessions, lambda: kill(rng.choice(cluster.pair.both), rng)))
        assert [run.tag for run in load.runs if not run.whole or not run.sid] == []
        check(cluster, load.runs)
