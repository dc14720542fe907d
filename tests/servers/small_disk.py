"""A small disk for one process: a tmpfs over a folder, in a mount namespace that nobody else is in.

Mounting takes root. As an ordinary user the process is in a user namespace too, in which it still is that user.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_MOUNT = 'mount -t tmpfs -o "size=$1k,mode=0700" tmpfs "$2" && shift 2 && exec "$@"'


class SmallDisk:
    """A folder of so many KiB, for the process that is started with `prefix`; gone with it."""

    def __init__(self, folder: Path, kibibytes: int) -> None:
        """Take the folder, which is made. Raises RuntimeError where nobody lets us mount."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        mounted = ("sh", "-ec", _MOUNT, "sh", str(kibibytes), str(folder))
        if os.geteuid() == 0:
            self.prefix: tuple[str, ...] = ("unshare", "--mount", *mounted)
        else:
            back = ("unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}")
            self.prefix = ("unshare", "--mount", "--map-root-user", *mounted, *back)
        tried = subprocess.run([*self.prefix, "true"], capture_output=True, text=True, timeout=30, check=False)
        if tried.returncode != 0:
            raise RuntimeError(
                "a small disk takes root with CAP_SYS_ADMIN, or user namespaces for everybody "
                f"(sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu): {tried.stderr}"
            )

    def seen(self, pid: int, path: Path | None = None) -> Path:
        """Return where we see the folder, or a path in it, of the process that was started with `prefix`."""
        return Path(f"/proc/{pid}/root{path or self._folder}")

    def fill(self, pid: int) -> Path:
        """Leave no byte free, perhaps again; return the file to remove to make room."""
        path = self.seen(pid) / "filled"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            while os.write(file, bytes(4096)):
                pass
        except OSError:  # full
            return path
        finally:
            os.close(file)
        raise AssertionError("the disk is not full")
