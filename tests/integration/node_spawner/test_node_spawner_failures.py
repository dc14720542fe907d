"""What cannot be started, many sessions at once, and the limits of the machine: clear errors, nothing half-started."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from runtime.core.errors import AccessDenied, NotFound, Unavailable
from runtime.node.spawner import Exit, Program, Spawner, Terminal
from tests.servers.spawners import (
    World,
    children_of,
    finish,
    is_there,
    limited,
    open_descriptors,
    read_until,
    refused,
    run,
    said,
    spawning,
    until,
)


async def test_unknown_users_are_refused(world: World, spawner: Spawner) -> None:
    """A login that the machine does not know is an error that names it, also one that cannot be a name."""
    del world
    for login in ("nosuchuser", "", "a:b", "nul\0", "\udcff", "../../root"):
        error = await refused(spawner, Program(login, "shell"))
        assert isinstance(error, NotFound)
        assert "this machine has no user" in str(error)


async def test_a_closed_machine_takes_no_users(world: World, etc: Path) -> None:
    """While /etc/nologin is there users are refused with what it says, and are welcome again after it."""
    (etc / "nologin").write_text("Maintenance until noon.\n")
    async with spawning(world.command(etc)) as spawner:
        for terminal in (None, Terminal("x", 80, 24)):
            error = await refused(spawner, Program(world.user.name, "shell", terminal=terminal))
            assert isinstance(error, AccessDenied)
            assert str(error).endswith("takes no logins of users now: Maintenance until noon.")
        (etc / "nologin").unlink()
        assert await said(spawner, world.user, "echo hello") == "hello\n"


async def test_a_child_that_never_starts_is_given_up(world: World, etc: Path) -> None:
    """A session whose files do not answer is an error in time, ends, and delays nobody else."""
    os.mkfifo(etc / "login.defs")  # who reads it waits for a writer
    async with spawning(world.command(etc), seconds=0.5) as spawner:
        hanging = asyncio.create_task(refused(spawner, Program(world.user.name, "exec", "true")))
        (await spawner.listen_tcp(world.user.name, "127.0.0.1", 0)).close()
        assert not hanging.done()
        error = await hanging
        assert isinstance(error, Unavailable)
        assert "nothing had started" in str(error)
        await until(lambda: children_of(spawner) == [])


async def test_a_start_that_is_cancelled_leaves_nothing(world: World, etc: Path) -> None:
    """Who gives up while a session starts leaves no process behind."""
    os.mkfifo(etc / "login.defs")
    async with spawning(world.command(etc)) as spawner:
        starting = asyncio.create_task(spawner.run(Program(world.user.name, "exec", "true")))
        await until(lambda: len(children_of(spawner)) == 1)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await until(lambda: children_of(spawner) == [])


async def test_three_hundred_at_once(world: World, spawner: Spawner) -> None:
    """300 sessions that are asked for at once all start, run at the same time, and end with their own codes."""
    children = await asyncio.gather(
        *(spawner.run(Program(world.user.name, "exec", f"read x; exit {number % 256}")) for number in range(300))
    )
    assert len({child.pid for child in children}) == 300
    assert all(is_there(child.pid) for child in children)
    done = await asyncio.gather(*(finish(child, b"go\n") for child in children))
    assert [one.end for one in done] == [Exit(number % 256) for number in range(300)]


async def test_no_free_descriptor_is_an_error_of_one_session(world: World, spawner: Spawner) -> None:
    """With any number of descriptors left a session starts or is Unavailable; none is lost, and the next one starts."""
    outcomes = set()
    for spare in range(9):
        top = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208 - of numbers, not of paths
        fill = [os.dup(0) for _ in range(top + 1 - open_descriptors())]  # no hole below the limit
        try:
            with limited(resource.RLIMIT_NOFILE, open_descriptors() + spare):
                child = await spawner.run(Program(world.user.name, "exec", "exit 3"))
        except Unavailable:
            outcomes.add("refused")
        else:
            assert (await finish(child)).end == Exit(3)
            outcomes.add("started")
        finally:
            for descriptor in fill:
                os.close(descriptor)
    assert outcomes == {"refused", "started"}
    assert await said(spawner, world.user, "echo hello") == "hello\n"


async def test_no_free_process_is_an_error_of_one_session(users_world: World) -> None:
    """A fork that fails, here by the limit of processes of the node's user, is told to who asked; others go on."""
    user = users_world.user
    # A session of the spawner's own user sets the spawner's limit: root may lack the right to, in a container.
    command = (
        "prlimit --pid $PPID --nproc=0: && echo none && read x && prlimit --pid $PPID --nproc=$(ulimit -Hu): && cat"
    )
    async with spawning(users_world.command()) as spawner:
        limiting = await spawner.run(Program(user.name, "exec", command))
        assert limiting.stdin is not None
        assert limiting.stdout is not None
        await read_until(limiting.stdout, b"none\n")
        error = await refused(spawner, Program(user.name, "exec", "true"))
        assert isinstance(error, Unavailable)
        assert str(error) == f"no process can be started for {user.name}: Resource temporarily unavailable"
        os.write(limiting.stdin, b"go on\nstill here\n")
        await read_until(limiting.stdout, b"still here\n")
        assert await said(spawner, user, "echo hello") == "hello\n"
        assert (await finish(limiting)).end == Exit(0)


async def test_a_killed_spawner_is_started_again(world: World, etc: Path) -> None:
    """Who waits hears that nobody can know; what was starting is Unavailable; the next session has a new spawner."""
    async with spawning(world.command(etc)) as spawner:
        running = await spawner.run(Program(world.user.name, "exec", "cat"))
        waiting = asyncio.create_task(running.wait())
        os.mkfifo(etc / "login.defs")
        starting = asyncio.create_task(spawner.run(Program(world.user.name, "exec", "true")))
        await until(lambda: len(children_of(spawner)) == 2)
        hung = [pid for pid in children_of(spawner) if pid != running.pid]
        first = spawner.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        for pid in hung:
            os.kill(pid, signal.SIGKILL)
        results = await asyncio.gather(waiting, starting, return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable, Unavailable]
        running.send_signal("TERM")  # nobody is there to do it
        (etc / "login.defs").unlink()
        assert await said(spawner, world.user, "echo hello") == "hello\n"
        assert spawner.pid != first
        for descriptor in (running.stdin, running.stdout, running.stderr):
            assert descriptor is not None
            os.close(descriptor)


async def test_a_spawner_that_cannot_start_is_an_error() -> None:
    """A command that is not there, or ends at once, is Unavailable and leaves nothing open."""
    before = open_descriptors()
    for command in (("/nonexistent/python",), (sys.executable, "-c", "raise SystemExit(3)")):
        with pytest.raises(Unavailable, match="spawner"):
            await Spawner.start(command=command)
    assert open_descriptors() == before


async def test_the_spawner_ends_with_the_node_only(world: World, spawner: Spawner) -> None:
    """SIGTERM and Ctrl-C, which reach all processes of a service, leave it; it ends when its socket is closed."""
    pid = spawner.pid
    assert pid is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    done = await run(spawner, Program(world.user.name, "exec", "kill -TERM $$; echo unreached"))
    assert done == (b"", b"", Exit(None, "TERM"))
    assert spawner.pid == pid
    await spawner.stop()
    assert not is_there(pid)
    error = await refused(spawner, Program(world.user.name, "exec", "true"))
    assert isinstance(error, Unavailable)
    assert str(error) == "this node is stopping"
