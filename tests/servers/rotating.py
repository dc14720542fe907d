"""A cluster whose authorities are rotated by hand: three processes, a node in each, and people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.rotation_messages import RotateRequest, RotationStatuses
from runtime.core.rotation import Phase
from runtime.service.identity import StoredIdentity, read_identity
from tests.servers.people import certify, declare, in_thread, user
from tests.servers.sshclient import wait_until
from tests.servers.sshd import LOGIN
from tests.servers.teleport import Teleport, admin
from tests.servers.tsh import Tsh

TOKEN = "a-token-for-the-members-of-this-cluster"


class RotatingCluster:
    """The cluster `main`: auth, a proxy, and db1, which is nothing but a node."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.auth = Teleport(
            folder / "auth", ("auth", "node"), config={"auth_service": {"tokens": [f"node,proxy:{TOKEN}"]}}
        )
        stack.enter_context(self.auth.start())
        self.proxy = self.member("proxy", "proxy", "node")
        self.node = self.member("db1", "node")
        declare(self.auth, user("joe", [LOGIN]))
        wait_until(lambda: "db1" in self.auth.tctl("nodes", "ls").stdout, "the node is listed")

    def member(self, name: str, *roles: str) -> Teleport:
        """Start a process with these roles, of that name."""
        config = {"teleport": {"nodename": name}}
        made = Teleport(self.folder / name, roles, auth_servers=[self.auth.auth_address], token=TOKEN, config=config)
        return self._stack.enter_context(made.start())

    def joe(self, home: Path) -> Tsh:
        """Return joe, logged in with a certificate by the key that signs now."""
        certify(self.auth, "joe", [LOGIN]).log_in(home, self.proxy)
        return Tsh(home)

    def rotate(self, request: RotateRequest) -> RotationStatuses:
        """Begin a rotation of both authorities, or take its next step."""

        async def step() -> RotationStatuses:
            async with admin(self.auth) as client:
                return await client.call(methods.AUTHORITIES_ROTATE, request)

        return in_thread(step())

    def status(self) -> RotationStatuses:
        """Return how it stands."""

        async def ask() -> RotationStatuses:
            async with admin(self.auth) as client:
                return await client.call(methods.AUTHORITIES_ROTATION, Nothing())

        return in_thread(ask())

    def go(self, phase: Phase) -> None:
        """Take that step, and wait until all members that are online have followed."""
        self.rotate(RotateRequest(phase=phase, manual=True))
        wait_until(lambda: not self.stragglers(), f"not followed to {phase}: {self.stragglers()}")

    def stragglers(self) -> list[str]:
        """Return who is online and has not followed."""
        return [each.name for authority in self.status().authorities for each in authority.stragglers]


def identity(member: Teleport, role: str) -> StoredIdentity:
    """Return what a member has on its disk."""
    return read_identity(member.data_dir / f"{role}.identity")


@contextmanager
def rotating_cluster(folder: Path) -> Iterator[RotatingCluster]:
    """Run such a cluster."""
    with ExitStack() as stack:
        yield RotatingCluster(folder, stack)
