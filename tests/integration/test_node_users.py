"""A node that runs as root serves every login of the machine, one that runs as an ordinary user that user alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.osusers import OsUser, os_users, own_user
from tests.servers.people import certify, declare, user
from tests.servers.sshclient import Client
from tests.servers.teleport import Teleport

IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[OsUser, OsUser]]:
    """Make two users of the machine, or take the one that runs the tests for both."""
    if IS_ROOT:
        with os_users() as made:
            yield made
    else:
        yield own_user(), own_user()


@pytest.fixture(scope="module")
def roots_node(pair: tuple[OsUser, OsUser], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Start a node as root where joe may be both."""
    with Teleport(tmp_path_factory.mktemp("node"), ("auth", "node")).start() as teleport:
        declare(teleport, user("joe", [each.name for each in pair]))
        yield teleport


@pytest.fixture(scope="module")
def users_node(pair: tuple[OsUser, OsUser], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Start a node as an ordinary user."""
    teleport = Teleport(tmp_path_factory.mktemp("node"), ("auth", "node"))
    mine = pair[0]
    if IS_ROOT:
        os.chown(teleport.folder, mine.uid, mine.gid)
        # It may read all files, since tests are often in root's home; it has no other right of root's.
        teleport.prefix = (
            *("setpriv", f"--reuid={mine.uid}", f"--regid={mine.gid}", "--init-groups"),
            *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
            "--bounding-set=-all,+dac_read_search",
        )
    with teleport.start():
        declare(teleport, user("joe", [mine.name, "root", "daemon"]))
        yield teleport


class TestNodeOfRoot:
    """Sessions of two users side by side; nobody but root can make the users for it."""

    __test__ = IS_ROOT

    @pytest.fixture
    def clients(self, roots_node: Teleport, pair: tuple[OsUser, OsUser], tmp_path: Path) -> tuple[Client, ...]:
        """Return joe's ssh as each of the two."""
        joe = certify(roots_node, "joe", [each.name for each in pair])
        return tuple(Client(roots_node, joe, tmp_path / each.name, each.name) for each in pair)

    def test_each_session_is_its_login(self, clients: tuple[Client, ...], pair: tuple[OsUser, OsUser]) -> None:
        """User, groups, home and files are the login's; the other's home is closed."""
        for client, mine, other in zip(clients, pair, pair[::-1], strict=True):
            done = client.run(
                f"id -un; id -G | tr ' ' '\\n' | sort -n | xargs; pwd; ls {other.home}; umask; touch mine"
            )
            lines = done.stdout.decode().split("\n")
            assert lines[:3] == [mine.name, " ".join(map(str, mine.groups)), str(mine.home)]
            assert b"Permission denied" in done.stderr
            assert (mine.home / "mine").stat().st_uid == mine.uid

    def test_a_login_shell_reads_the_logins_profile(
        self, clients: tuple[Client, ...], pair: tuple[OsUser, OsUser]
    ) -> None:
        """The shell in a terminal is begun as at a login; the terminal is the user's."""
        (pair[0].home / ".profile").write_text("echo profile of $USER\n")
        with clients[0].terminal() as terminal:
            terminal.expect(f"profile of {pair[0].name}")
            terminal.type("unset HISTFILE; stat -c 'owner %U' $(tty); exit 5\r")
            assert terminal.wait() == 5
        assert f"owner {pair[0].name}".encode() in terminal.seen

    def test_no_secret_of_the_node_is_in_reach(self, clients: tuple[Client, ...], roots_node: Teleport) -> None:
        """Neither by an open descriptor, nor in the environment, nor in a file."""
        done = clients[0].run(
            f"ls -l /proc/self/fd | grep -c socket; env | grep -ci teleport_; cat {roots_node.data_dir}/*"
        )
        sockets, variables = done.stdout.split()[:2]
        assert (sockets, variables) == (b"0", b"3"), done
        assert b"Permission denied" in done.stderr


class TestNodeOfAnOrdinaryUser:
    """The node runs as somebody who is not root."""

    @pytest.fixture
    def joe(self, users_node: Teleport, pair: tuple[OsUser, OsUser], tmp_path: Path) -> Client:
        """Return the ssh of a user who may have any login, as far as the cluster is concerned."""
        mine = pair[0].name
        return Client(users_node, certify(users_node, "joe", [mine, "root", "daemon"]), tmp_path, mine)

    def test_its_own_user_gets_in(self, joe: Client, pair: tuple[OsUser, OsUser]) -> None:
        """Commands and terminals work."""
        mine = pair[0]
        assert joe.run("id -un; pwd -P").stdout.decode().split() == [mine.name, os.path.realpath(mine.home)]
        with joe.terminal("test -t 0 && echo it''is $(id -un); exit 3") as terminal:
            assert terminal.wait() == 3
        assert f"itis {mine.name}".encode() in terminal.seen

    def test_nobody_else_does(self, joe: Client, pair: tuple[OsUser, OsUser]) -> None:
        """The person learns which login there is here."""
        for login in ("root", "daemon"):
            done = joe.run("true", login=login)
            assert done.returncode == 255
            assert f"this node runs as {pair[0].name}" in done.stderr.decode()
