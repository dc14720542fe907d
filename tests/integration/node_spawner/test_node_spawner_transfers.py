"""sftp and scp as the login user, by a node that is root and by one that is an ordinary user."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from runtime.core.errors import AccessDenied
from runtime.node.copying.wire import Kind, packet, uint32
from runtime.node.spawner import Exit, Program, Spawner
from runtime.node.transfer import FileTransfer, Transcript
from tests.servers.spawners import World, run


def owner(path: Path) -> int:
    """Return whose a file is."""
    return path.stat().st_uid


async def test_an_upload_is_the_users(spawner: Spawner, world: World) -> None:
    """The file belongs to the user and the user's group, less the umask, and the node is told."""
    folder = world.new_path()
    assert (await run(spawner, Program(world.user.name, "exec", f"mkdir {folder}"))).end == Exit(0)
    try:
        program = Program(world.user.name, "scp", f"scp -t {folder}")
        done = await run(spawner, program, b"C4777 3 file\nabc\0")
        assert (done.stdout, done.end) == (b"\0\0\0", Exit(0))
        found = (folder / "file").stat()
        assert (found.st_uid, found.st_gid) == (world.user.uid, world.user.gid)
        assert stat.S_IMODE(found.st_mode) & 0o7022 == 0
        records: list[FileTransfer] = []
        assert Transcript(records.append).feed(done.stderr) == b""
        assert records == [FileTransfer("scp", "upload", f"{folder}/file", success=True, size=3)]
    finally:
        await run(spawner, Program(world.user.name, "exec", f"rm -r {folder}"))


async def test_sftp_begins_at_the_users_home(spawner: Spawner, world: World) -> None:
    """As sftp-server does: relative paths are of the home."""
    asking = packet(Kind.INIT, uint32(3)) + packet(Kind.REALPATH, uint32(1), uint32(1), b".")
    done = await run(spawner, Program(world.user.name, "sftp"), asking)
    assert os.fsencode(world.user.home.resolve()) in done.stdout
    assert (done.stderr, done.end) == (b"", Exit(0))


async def test_nobody_traces_the_process(spawner: Spawner, world: World) -> None:
    """What root started and became the user's is not dumpable: its records cannot be forged by the user."""
    if world.made_user or os.geteuid() != 0:
        with pytest.raises(AccessDenied):  # such a node can start nobody else's anyway
            await spawner.run(Program("root" if os.geteuid() else "nobody", "sftp"))
        return
    child = await spawner.run(Program(world.user.name, "sftp"))
    assert child.stdin is not None
    try:
        assert owner(Path(f"/proc/{child.pid}/mem")) == 0
    finally:
        for descriptor in (child.stdin, child.stdout, child.stderr):
            assert descriptor is not None
            os.close(descriptor)
        await child.wait()
