"""Who may have a session on a machine, and that each session is its user and nobody else."""

from __future__ import annotations

import os
import pwd
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.core.errors import AccessDenied, NotFound, TeleportError, Unavailable
from runtime.node.spawner import Exit, Program, Spawner, Terminal, spawner_command
from tests.servers.osusers import OsUser
from tests.servers.spawners import World, read_all, read_until, refused, run, said, spawning

ROOT = Path(__file__).parents[3]


async def test_an_ordinary_users_node_is_that_user_only(users_world: World) -> None:
    """A node that is not root starts sessions and sockets of its own user; other logins are refused, and told why."""
    own = users_world.user.name
    async with spawning(users_world.command()) as spawner:
        for login in ("root", users_world.other.name if users_world.other else "nobody"):
            text = f"this node runs as {own} and can only start sessions of {own}, not of {login}"
            with pytest.raises(AccessDenied, match=text):
                await spawner.run(Program(login, "shell", terminal=Terminal("x", 80, 24)))
            with pytest.raises(AccessDenied, match=text):
                await spawner.listen_unix(login)
        assert await said(spawner, users_world.user, "id -un") == f"{own}\n"


@pytest.fixture
def pair(users: tuple[OsUser, OsUser | None]) -> tuple[OsUser, OsUser]:
    """Return the two users made for these tests."""
    first, second = users
    assert second is not None
    return first, second


@pytest.fixture
def roots_world(pair: tuple[OsUser, OsUser]) -> World:
    """Return a node that is root."""
    return World(*pair, made_user=False)


@contextmanager
def changed(user: OsUser, option: str, value: str, back: str) -> Iterator[None]:
    """Change a user's account for a while."""
    subprocess.run(["usermod", option, value, user.name], check=True, capture_output=True, timeout=30)
    try:
        yield
    finally:
        subprocess.run(["usermod", option, back, user.name], check=True, capture_output=True, timeout=30)


def owner_and_mode(path: Path) -> tuple[int, int]:
    """Return a file's owner and permissions."""
    status = path.stat()
    return status.st_uid, stat.S_IMODE(status.st_mode)


def password_state(user: OsUser) -> str:
    """Return what passwd says of a user's password."""
    done = subprocess.run(["passwd", "-S", user.name], check=True, capture_output=True, text=True, timeout=30)
    return done.stdout.split()[1]


class TestNodeOfRoot:
    """What only a node that is root does; nobody but root can make the users for it."""

    __test__ = os.geteuid() == 0

    @pytest.fixture
    def world(self, roots_world: World) -> World:
        """Return a node that is root, for the fixture `spawner`."""
        return roots_world

    async def test_each_session_is_its_user(self, spawner: Spawner, pair: tuple[OsUser, OsUser]) -> None:
        """Two users have sessions side by side; what is one's alone is closed to the other."""
        for user, other in (pair, pair[::-1]):
            assert await said(spawner, user, "id -un; echo mine > mine; cat mine") == f"{user.name}\nmine\n"
            done = await run(spawner, Program(user.name, "exec", f"ls {other.home}; cat {other.home}/mine"))
            assert (done.stdout, done.end) == (b"", Exit(1))
            assert done.stderr.count(b"Permission denied") == 2

    async def test_root_is_a_user_too(self, spawner: Spawner) -> None:
        """Root's session has root's groups and path."""
        done = await run(spawner, Program("root", "exec", "id -u; id -G; echo $PATH; echo $HOME"))
        uid, groups, path, home = done.stdout.decode().splitlines()
        assert (uid, home) == ("0", pwd.getpwuid(0).pw_dir)
        assert set(map(int, groups.split())) == set(os.getgrouplist("root", 0))
        assert "/sbin" in path.split(":")

    async def test_no_session_becomes_root_again(self, spawner: Spawner, pair: tuple[OsUser, OsUser]) -> None:
        """What root's node was is gone: the user cannot go back to it, nor look into the spawner."""
        program = "for f in environ mem fd; do cat /proc/$PPID/$f > /dev/null && echo read $f; done; kill -0 $PPID"
        done = await run(spawner, Program(pair[0].name, "exec", program))
        assert (done.stdout, done.end) == (b"", Exit(1))

    async def test_a_terminal_is_closed_to_others(self, spawner: Spawner, pair: tuple[OsUser, OsUser]) -> None:
        """A session's terminal is its user's; another user may not read it."""
        child = await spawner.run(Program(pair[0].name, "exec", "tty; cat", terminal=Terminal("x", 80, 24)))
        assert child.terminal is not None
        name = Path((await read_until(child.terminal, b"\n")).decode().strip())
        owner, mode = owner_and_mode(name)
        assert owner == pair[0].uid
        assert not mode & 0o047
        done = await run(spawner, Program(pair[1].name, "exec", f"cat {name}"))
        assert b"Permission denied" in done.stderr
        child.send_signal("KILL")
        assert await child.wait() == Exit(None, "KILL")
        os.close(child.terminal)

    async def test_a_terminal_controls_the_session(self, spawner: Spawner, pair: tuple[OsUser, OsUser]) -> None:
        """/dev/tty is the session's terminal also for a shell that, unlike bash, does not help itself to it."""
        with changed(pair[0], "--shell", "/bin/dash", "/bin/bash"):
            program = Program(pair[0].name, "exec", "echo hello > /dev/tty", terminal=Terminal("x", 80, 24))
            child = await spawner.run(program)
        assert child.terminal is not None
        assert await read_all(child.terminal) == b"hello\r\n"
        os.close(child.terminal)

    async def test_an_expired_account_is_refused(self, spawner: Spawner, pair: tuple[OsUser, OsUser]) -> None:
        """`usermod --expiredate` closes an account, as its manual says, and opens it again."""
        with changed(pair[0], "--expiredate", "1", ""):
            error = await refused(spawner, Program(pair[0].name, "shell"))
            assert isinstance(error, AccessDenied)
            assert str(error) == f"the account of {pair[0].name} on this machine has expired"
            with pytest.raises(AccessDenied, match="has expired"):
                await spawner.listen_unix(pair[0].name)
        assert await said(spawner, pair[0], "echo hello") == "hello\n"

    async def test_a_locked_password_is_no_locked_account(self, spawner: Spawner, pair: tuple[OsUser, OsUser]) -> None:
        """Nobody logs in by password here: `passwd -l`, which leaves other ways open, leaves this one."""
        assert password_state(pair[0]) in ("L", "LK")
        assert await said(spawner, pair[0], "echo hello") == "hello\n"

    async def test_root_enters_a_closed_machine(self, etc: Path) -> None:
        """/etc/nologin keeps users out, not root."""
        (etc / "nologin").write_text("closed")
        async with spawning(spawner_command(etc)) as spawner:
            assert (await run(spawner, Program("root", "exec", "id -u"))).stdout == b"0\n"

    async def test_a_home_that_is_away_is_told(self, spawner: Spawner, pair: tuple[OsUser, OsUser]) -> None:
        """Without a home, or before one that is closed, a session begins at / with the words of login(1)."""
        user = pair[0]
        away = user.home.with_name("away")
        user.home.rename(away)
        try:
            text = f"Could not chdir to home directory {user.home}: No such file or directory\n"
            assert await run(spawner, Program(user.name, "exec", "pwd")) == (b"/\n", text.encode(), Exit(0))
            user.home.mkdir(mode=0o700)  # root's
            text = f"Could not chdir to home directory {user.home}: Permission denied\n"
            assert await run(spawner, Program(user.name, "exec", "pwd")) == (b"/\n", text.encode(), Exit(0))
            child = await spawner.run(Program(user.name, "exec", "pwd", terminal=Terminal("x", 80, 24)))
            assert child.terminal is not None
            await read_until(child.terminal, b"Permission denied\r\n/\r\n")
            os.close(child.terminal)
            user.home.rmdir()
        finally:
            away.rename(user.home)

    @pytest.mark.parametrize(
        ("shell", "kind"), [("/nonexistent/shell", NotFound), ("/etc/passwd", Unavailable), ("/etc", Unavailable)]
    )
    async def test_a_shell_that_cannot_run_is_told(
        self, spawner: Spawner, pair: tuple[OsUser, OsUser], shell: str, kind: type[TeleportError]
    ) -> None:
        """A shell that is missing, or no program, is an error with its name, not a session that ends at once."""
        with changed(pair[0], "--shell", shell, "/bin/bash"):
            for terminal in (None, Terminal("x", 80, 24)):
                error = await refused(spawner, Program(pair[0].name, "shell", terminal=terminal))
                assert isinstance(error, kind)
                assert f"the shell of {pair[0].name}, {shell}, cannot be run: " in str(error)

    async def test_a_user_without_login_shell_transfers_nothing(
        self, spawner: Spawner, pair: tuple[OsUser, OsUser]
    ) -> None:
        """What a shell is there to prevent does not happen without it: nologin runs nothing, and nothing is copied."""
        with changed(pair[0], "--shell", "/usr/sbin/nologin", "/bin/bash"):
            done = await run(spawner, Program(pair[0].name, "exec", "echo hello"))
            assert b"not available" in done.stdout
            assert done.end == Exit(1)
            for program in (Program(pair[0].name, "sftp"), Program(pair[0].name, "scp", "scp -t .")):
                error = await refused(spawner, program)
                assert isinstance(error, AccessDenied)
                assert "may not transfer files: its shell on this machine is /usr/sbin/nologin" in str(error)

    async def test_sockets_are_opened_as_their_user(self, spawner: Spawner, pair: tuple[OsUser, OsUser]) -> None:
        """Root's node opens no path for a user that the user cannot open: not to listen, not to connect."""
        user, other = pair
        with pytest.raises(AccessDenied, match=r"cannot listen at .*: Permission denied"):
            await spawner.listen_unix(user.name, str(other.home / "socket"))
        assert list(other.home.glob("socket")) == []
        for path in (None, str(other.home / "socket")):
            listening = await spawner.listen_unix(other.name, path)
            with pytest.raises(AccessDenied, match=r"cannot connect to .*: Permission denied"):
                await spawner.connect_unix(user.name, listening.path)
            (await spawner.connect_unix(other.name, listening.path)).close()
            listening.close()

    @pytest.mark.parametrize(
        ("broken", "text"),
        [
            ("setgroups", "could not take on the groups of"),
            ("setresgid", "could not take on the group of"),
            ("setresuid", "could not become"),
            ("setuid", "could become .*, and root again"),
        ],
    )
    def test_becoming_a_user_is_verified(self, pair: tuple[OsUser, OsUser], broken: str, text: str) -> None:
        """A system call that says it succeeded and did nothing, or can be undone, ends the process before it begins."""
        program = (
            f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); from runtime.node.spawning import users;"
            f"os.setgroups([0, 1]); os.{broken} = lambda *_: None; users.become(users.find({pair[0].name!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 1
        assert re.search(f"Unavailable: this node {text}", done.stderr)
