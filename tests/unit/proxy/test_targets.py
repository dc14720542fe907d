"""What the proxy connects to: nodes, and the OpenSSH servers that its settings name."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from runtime.api.member_messages import Presence, PresenceEntry
from runtime.core.callers import CallerKind
from runtime.core.errors import Unavailable
from runtime.proxy.targets import Targets
from runtime.service.sections.proxy import OpenSSHServer

SERVER = OpenSSHServer.model_validate({"name": "old", "addr": "10.0.0.7", "labels": {"env": "prod"}})
NODE = Presence(id=uuid.UUID(int=1), kind=CallerKind.NODE, name="db1", addr="10.0.0.1:3022")


class Known:
    """A directory with one node, or none that can be asked for."""

    def __init__(self, *members: Presence) -> None:
        self._members = members

    async def members(self, *, max_age: float = 0) -> tuple[PresenceEntry, ...]:
        """Return the nodes, or raise what a directory raises that has none yet."""
        if not self._members:
            raise Unavailable("auth is away")
        end = datetime(2026, 11, 22, tzinfo=UTC)
        return tuple(PresenceEntry(presence=member, expires=end) for member in self._members)


async def test_nodes_and_servers() -> None:
    """Both are there; the server has port 22, the settings' labels, and the same id with each proxy."""
    targets = Targets(Known(NODE), [SERVER])
    node, server = await targets.all()
    assert node == NODE
    assert (server.name, server.addr, server.labels) == ("old", "10.0.0.7:22", {"env": "prod"})
    assert (targets.is_configured(node), targets.is_configured(server)) == (False, True)
    assert (await Targets(Known(NODE), [SERVER]).all())[1].id == server.id
    other = OpenSSHServer.model_validate({"name": "old", "addr": "10.0.0.8"})
    assert len({target.id for target in await Targets(Known(NODE), [SERVER, other]).all()}) == 3


async def test_nobody_knows_yet() -> None:
    """Before auth was heard the first time there is no list, rather than half of one."""
    with pytest.raises(Unavailable):
        await Targets(Known(), [SERVER]).all()
