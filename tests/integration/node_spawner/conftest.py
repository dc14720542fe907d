"""Spawners of a node that is root and of one that is an ordinary user.

As root, both are shown, with users made for the tests. As an ordinary user, who can only be itself, the second one is.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runtime.node.spawner import Spawner
from tests.servers.osusers import OsUser, os_users, own_user
from tests.servers.spawners import World, spawning

IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def users() -> Iterator[tuple[OsUser, OsUser | None]]:
    """Make two users, or take the one that runs the tests."""
    if IS_ROOT:
        with os_users() as made:
            yield made
    else:
        yield own_user(), None


@pytest.fixture(params=["root's node", "the user's node"] if IS_ROOT else ["the user's node"])
def world(request: pytest.FixtureRequest, users: tuple[OsUser, OsUser | None]) -> World:
    """Return a node that is root, and one that is an ordinary user."""
    return World(*users, made_user=IS_ROOT and request.param == "the user's node")


@pytest.fixture
def users_world(users: tuple[OsUser, OsUser | None]) -> World:
    """Return a node that is an ordinary user."""
    return World(*users, made_user=IS_ROOT)


@pytest.fixture
async def spawner(world: World) -> AsyncIterator[Spawner]:
    """Run a spawner; a test that uses it leaves no descriptor open."""
    async with spawning(world.command()) as started:
        yield started


@pytest.fixture
def etc() -> Iterator[Path]:
    """Make an empty folder to stand for /etc, which every user may read."""
    with tempfile.TemporaryDirectory(prefix="etc-") as folder:
        Path(folder).chmod(0o755)
        etc = Path(folder) / "etc"
        etc.mkdir()
        yield etc
