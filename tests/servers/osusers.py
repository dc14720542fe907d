"""Two users of this machine that a test makes and removes, and what a test needs of the user that runs it."""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOCK_SECONDS = 30.0
"""How long to try while others change the machine's users."""


@dataclass(frozen=True, slots=True)
class OsUser:
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    home: Path
    groups: tuple[int, ...]
    """All groups, the user's own among them."""


def own_user() -> OsUser:
    """Return the user that runs this."""
    entry = pwd.getpwuid(os.geteuid())
    groups = tuple(sorted({*os.getgroups(), os.getegid()}))
    return OsUser(entry.pw_name, entry.pw_uid, os.getegid(), Path(entry.pw_dir), groups)


@contextmanager
def os_users() -> Iterator[tuple[OsUser, OsUser]]:
    """Make two users with bash and a home folder each, both in a group made for it; needs root.

    Their passwords are locked, as useradd leaves them. At the end they, their homes, group and processes are removed.
    """
    suffix = secrets.token_hex(4)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="homes-"))
        stack.callback(shutil.rmtree, folder)
        folder.chmod(0o711)
        group = f"tg{suffix}"
        _administer("groupadd", group)
        stack.callback(_administer, "groupdel", group)
        yield _make(stack, f"ta{suffix}", folder, group), _make(stack, f"tb{suffix}", folder, group)


def _make(stack: ExitStack, name: str, folder: Path, group: str) -> OsUser:
    home = folder / name
    _administer("useradd", "-M", "-U", "-d", str(home), "-s", "/bin/bash", "-G", group, name)
    stack.callback(_administer, "userdel", "-f", name)
    entry = pwd.getpwnam(name)
    stack.callback(_end_processes_of, entry.pw_uid)
    home.mkdir(mode=0o700)
    os.chown(home, entry.pw_uid, entry.pw_gid)
    groups = tuple(sorted({entry.pw_gid, grp.getgrnam(group).gr_gid}))
    return OsUser(name, entry.pw_uid, entry.pw_gid, home, groups)


def _administer(*command: str) -> None:
    """Run a program of the shadow suite; while another one holds its lock, again."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode == 0:
            return
        if "lock" not in done.stderr or time.monotonic() > deadline:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
        time.sleep(0.1)


def _end_processes_of(uid: int) -> None:
    """Kill what a user of ours still runs."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and folder.stat().st_uid == uid:
                os.kill(int(folder.name), signal.SIGKILL)
