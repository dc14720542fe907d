"""Sessions: commands and shells that run as the user, with nothing of the service's, and how they end."""

from __future__ import annotations

import asyncio
import os
import pwd
import resource
import signal
import socket
from pathlib import Path

import pytest

from runtime.core.errors import InvalidInput
from runtime.node.spawner import Exit, Program, Spawner, Terminal
from tests.servers.spawners import (
    SECONDS,
    World,
    finish,
    is_there,
    limited,
    read_all,
    read_until,
    run,
    said,
    spawning,
    until,
)


async def test_a_command_has_input_two_outputs_and_a_code(world: World, spawner: Spawner) -> None:
    """Input arrives and ends, stdout and stderr are apart, the exit code is the command's."""
    child = await spawner.run(Program(world.user.name, "exec", "cat; echo two >&2; exit 42"))
    assert child.terminal is None
    for descriptor in (child.stdin, child.stdout, child.stderr):
        assert descriptor is not None
        assert not os.get_blocking(descriptor)
    assert await finish(child, b"one\n") == (b"one\n", b"two\n", Exit(42))


async def test_sessions_are_the_user(world: World, spawner: Spawner) -> None:
    """User, group and all groups are the user's: real, effective and saved."""
    status = await said(spawner, world.user, "cat /proc/self/status")
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in status.splitlines())}
    assert fields["Uid"] == [str(world.user.uid)] * 4
    assert fields["Gid"] == [str(world.user.gid)] * 4
    assert {*map(int, fields["Groups"]), world.user.gid} == set(world.user.groups)
    assert fields["CapEff"] == fields["CapPrm"] == fields["CapAmb"] == ["0" * 16]


async def test_the_environment_is_clean(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's variables are not the session's: exactly what login gives, and what was added."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with spawning(world.command()) as spawner:
        text = await said(
            spawner, world.user, "exec env -0", LANG="C.UTF-8", HOME="/", LD_PRELOAD="/evil.so", BASH_ENV="/evil"
        )
        assert "secret" not in environment_of(spawner.pid)
    variables = dict(entry.split("=", 1) for entry in text.split("\0") if entry)
    shells_own = {"PWD", "SHLVL", "_", "OLDPWD"}
    assert {name: value for name, value in variables.items() if name not in shells_own | {"PATH"}} == {
        "HOME": str(world.user.home),
        "USER": world.user.name,
        "LOGNAME": world.user.name,
        "SHELL": pwd.getpwnam(world.user.name).pw_shell,
        "LANG": "C.UTF-8",
    }
    assert variables["PATH"].split(":")[0] == "/usr/local/bin" or world.user.uid == 0


def environment_of(pid: int | None) -> str:
    """Return the environment with which a process was started."""
    return Path(f"/proc/{pid}/environ").read_text()


async def test_nothing_of_the_service_is_open_in_a_session(world: World) -> None:
    """A session has its three pipes and nothing else, also when the service has sockets that are inheritable."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.set_inheritable(True)
        async with spawning(world.command()) as spawner:
            opened = names_of_descriptors(f"/proc/{spawner.pid}/fd")
            assert len([name for name in opened if name.startswith("socket:")]) == 1
            listed = await run(
                spawner, Program(world.user.name, "exec", "exec readlink $(seq -f /proc/self/fd/%g 0 255)")
            )
    pipes = listed.stdout.decode().splitlines()
    assert len(set(pipes)) == 3
    assert all(name.startswith("pipe:") for name in pipes)


def names_of_descriptors(folder: str) -> list[str]:
    """Return what a process has open."""
    return [str(link.readlink()) for link in Path(folder).iterdir()]


async def test_a_session_may_open_its_outputs_again(world: World, spawner: Spawner) -> None:
    """/dev/stdout and /dev/stderr are the user's to open: pipes made by the user's process, and no sockets."""
    done = await run(spawner, Program(world.user.name, "exec", "echo a > /dev/stdout; echo b > /dev/stderr"))
    assert done == (b"a\n", b"b\n", Exit(0))


async def test_signals_and_limits_are_ordinary(world: World) -> None:
    """What the service ignores, blocks, and has raised for itself does not reach a session."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with limited(resource.RLIMIT_NOFILE, hard):
            async with spawning(world.command()) as spawner:
                text = await said(
                    spawner, world.user, "ulimit -Sn; ulimit -Hn; exec grep -E 'SigIgn|SigBlk' /proc/self/status"
                )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGHUP, old)
    soft_now, hard_now, _, blocked, _, ignored = text.split()
    assert (soft_now, hard_now) == (str(min(1024, hard)), str(hard))
    # 32 and 33 are the C library's own, which a parent such as make leaves ignored.
    assert (int(blocked, 16), int(ignored, 16) & ~(0b11 << 31)) == (0, 0)


async def test_a_session_begins_at_home_with_a_safe_umask(world: World, spawner: Spawner) -> None:
    """The working folder is the user's home, and the umask that of login.defs, or 022."""
    home, mask = (await said(spawner, world.user, "pwd -P; umask")).split()
    assert home == str(world.user.home.resolve())
    assert mask in ("0022", "0027", "0077", "0002")


async def test_umask_and_path_follow_login_defs(world: World, etc: Path) -> None:
    """UMASK, ENV_PATH and ENV_SUPATH of the machine's login.defs are the session's."""
    (etc / "login.defs").write_text("UMASK 0037\nENV_PATH PATH=/usr/bin:/bin:/x\nENV_SUPATH PATH=/usr/bin:/bin:/x\n")
    async with spawning(world.command(etc)) as spawner:
        assert (await said(spawner, world.user, "umask; echo $PATH")).split() == ["0037", "/usr/bin:/bin:/x"]


async def test_a_session_leads_a_process_session_of_its_own(world: World, spawner: Spawner) -> None:
    """Its process is leader of session and group, and has no terminal if it asked for none."""
    child = await spawner.run(Program(world.user.name, "exec", "exec cat /proc/self/stat"))
    done = await finish(child)
    pid, _, _, _, group, session, terminal, *_ = done.stdout.split()
    assert (int(pid), int(group), int(session), int(terminal)) == (child.pid, child.pid, child.pid, 0)


async def test_bytes_that_are_no_text_are_kept(world: World, spawner: Spawner) -> None:
    """A command is bytes to its shell: what is not UTF-8 arrives as it was sent."""
    done = await run(spawner, Program(world.user.name, "exec", os.fsdecode(b"printf %s '\xff\xc3\xa9'")))
    assert done.stdout == b"\xff\xc3\xa9"


async def test_long_commands(world: World, spawner: Spawner) -> None:
    """A command of 100 KiB runs; one longer than the kernel takes is refused with a text, up to the packet's size."""
    long = "x" * 100 * 1024
    assert await said(spawner, world.user, f"echo {long} | wc -c") == f"{len(long) + 1}\n"
    with pytest.raises(InvalidInput, match="longer than this machine can run"):
        await spawner.run(Program(world.user.name, "exec", "x" * 256 * 1024))


async def test_a_login_shell_has_its_terminal(world: World, spawner: Spawner) -> None:
    """A login shell; its terminal is the user's, controls the session, and has the size and type asked for."""
    child = await spawner.run(
        Program(world.user.name, "shell", terminal=Terminal("vt220", 132, 43, 1056, 688, {53: 0}))
    )
    assert child.terminal is not None
    assert child.stdin is child.stdout is child.stderr is None
    assert not os.get_blocking(child.terminal)
    os.write(
        child.terminal,
        b"exec 2>&1; PS1=; echo begin $0 $TERM $SSH_TTY; tty < /dev/tty; tty; stty size; "
        b"stat -c %U $SSH_TTY; readlink /proc/self/fd/0 /proc/self/fd/2; exit 7\n",
    )
    lines = (await read_all(child.terminal)).decode().split("begin ")[-1].splitlines()
    shell, term, tty = lines[0].split()
    assert shell == f"-{Path(pwd.getpwnam(world.user.name).pw_shell).name}"
    assert term == "vt220"
    assert lines[1:7] == ["/dev/tty", tty, "43 132", world.user.name, tty, tty]
    assert await child.wait() == Exit(7)
    os.close(child.terminal)


async def test_a_command_may_have_a_terminal(world: World, spawner: Spawner) -> None:
    """As `ssh -t`: the command's three descriptors are the terminal, with the modes that the client asked for."""
    modes = {1: 7, 3: 255, 36: 0, 38: 0, 42: 1, 53: 0, 72: 0}
    child = await spawner.run(
        Program(world.user.name, "exec", "tty; stty -a; exec 3<>/dev/tty", terminal=Terminal("x", 1, 1, modes=modes))
    )
    assert child.terminal is not None
    first, *rest = (await read_all(child.terminal)).decode().split("\n")  # no carriage returns: ONLCR is off
    assert first.startswith("/dev/pts/")
    words = " ".join(rest).replace(";", " ").split()
    assert {"-icrnl", "-ixon", "iutf8", "-echo", "-onlcr", "isig", "icanon"} <= set(words)
    assert words[words.index("intr") + 2] == "^G"
    assert words[words.index("erase") + 2] == "<undef>"
    assert await child.wait() == Exit(0)
    os.close(child.terminal)


async def test_a_resize_reaches_the_programs(world: World, spawner: Spawner) -> None:
    """A new size is there, and those in the foreground are told; sizes beyond 16 bits become the largest."""
    command = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    child = await spawner.run(Program(world.user.name, "exec", command, terminal=Terminal("x", 80, 24)))
    assert child.terminal is not None
    await read_until(child.terminal, b"ready")
    child.resize(70_000, 50)
    await read_until(child.terminal, b"50 65535")
    await read_all(child.terminal)
    assert await child.wait() == Exit(0)
    os.close(child.terminal)


async def test_closing_the_terminal_hangs_up(world: World, spawner: Spawner) -> None:
    """When the node lets go of a terminal, or dies, the kernel ends what runs there by SIGHUP."""
    child = await spawner.run(Program(world.user.name, "exec", "echo ready; sleep 60", terminal=Terminal("x", 80, 24)))
    assert child.terminal is not None
    await read_until(child.terminal, b"ready")
    os.close(child.terminal)
    async with asyncio.timeout(SECONDS):
        assert await child.wait() == Exit(None, "HUP")


@pytest.mark.parametrize("name", ["TERM", "KILL", "USR1", "HUP"])
async def test_signals_reach_the_whole_group(world: World, spawner: Spawner, name: str) -> None:
    """A signal ends the command and what it has started, and its name without SIG is how it ended."""
    child = await spawner.run(Program(world.user.name, "exec", "sleep 60 & echo $!; wait; exit"))
    assert child.stdout is not None
    sleeping = int(await read_until(child.stdout, b"\n"))
    child.send_signal(name)
    assert (await finish(child)).end == Exit(None, name)
    await until(lambda: not is_there(sleeping))


async def test_only_signals_of_the_rfc_are_sent(world: World, spawner: Spawner) -> None:
    """STOP, numbers and inventions are refused; a signal to what has ended does nothing, however often."""
    child = await spawner.run(Program(world.user.name, "exec", "true"))
    for name in ("STOP", "9", "SIGTERM", "", "term"):
        with pytest.raises(InvalidInput, match="there is no signal"):
            child.send_signal(name)
    assert (await finish(child)).end == Exit(0)
    child.send_signal("KILL")
    assert await child.wait() == await child.wait() == Exit(0)


async def test_a_wait_that_is_cancelled_takes_nothing_away(world: World, spawner: Spawner) -> None:
    """Somebody who stops waiting leaves the end to be heard by others."""
    child = await spawner.run(Program(world.user.name, "exec", "cat; exit 5"))
    waiting = asyncio.create_task(child.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    assert (await finish(child)).end == Exit(5)


async def test_files_are_transferred_without_a_shell(world: World, spawner: Spawner) -> None:
    """A file transfer is served by a process of the user itself, at home; it ends with its input."""
    child = await spawner.run(Program(world.user.name, "sftp"))
    assert child.stdin is not None
    assert child.stdout is not None
    os.write(child.stdin, bytes.fromhex("00000005 01 00000003"))  # SSH_FXP_INIT, version 3
    version = await read_until(child.stdout, bytes.fromhex("02 00000003"))  # SSH_FXP_VERSION
    assert version[4:9] == bytes.fromhex("02 00000003")
    assert process_facts(child.pid) == (world.user.uid, str(world.user.home.resolve()))
    assert (await finish(child)).end == Exit(0)


def process_facts(pid: int) -> tuple[int, str]:
    """Return whose a process is, and its working folder."""
    uid = Path(f"/proc/{pid}/status").read_text().partition("Uid:")[2].split()[0]
    return int(uid), str(Path(f"/proc/{pid}/cwd").readlink())
