"""An auth server and a node in processes of their own, so that either can be away, stopped or killed."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.people import certify, declare, user
from tests.servers.sshclient import Client
from tests.servers.teleport import Teleport

LOGIN = getpass.getuser()
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[Teleport]:
    """Start an auth server that knows joe, with a static token for members."""
    config = {"auth_service": {"tokens": [f"node,proxy:{TOKEN}"]}}
    with Teleport(tmp_path / "auth", config=config).start() as teleport:
        declare(teleport, user("joe", [LOGIN]))
        yield teleport


@pytest.fixture
def node(auth: Teleport) -> Iterator[Teleport]:
    """Start a node of that cluster, in a process of its own."""
    member = Teleport(auth.folder.parent / "node", ("node",), auth_servers=[auth.auth_address], token=TOKEN)
    with member.start():
        yield member


@pytest.fixture
def joe(auth: Teleport, node: Teleport, tmp_path: Path) -> Client:
    """Return the ssh of a user who may log in as us."""
    return Client(node, certify(auth, "joe", [LOGIN]), tmp_path, LOGIN)
