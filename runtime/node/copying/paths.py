"""What the file system says of paths, where the os module has no one call for what SFTP wants."""

from __future__ import annotations

import errno
import os
import stat

_NO_LINKS = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EPERM, errno.EMLINK})
"""Why a file system, or the kernel's protection of other users' files, takes no hard link."""


def real(path: bytes) -> bytes:
    """Return a path without links; its last part need not be there (OpenSSH's realpath). Raises OSError."""
    try:
        return os.path.realpath(path or b".", strict=True)
    except FileNotFoundError:
        folder, name = os.path.split(path.rstrip(b"/"))
        return os.path.join(os.path.realpath(folder or b".", strict=True), name)


def rename_to_nothing(old: bytes, new: bytes) -> None:
    """Rename where nothing is: a file by a link, which fails if there is something; a folder after a look."""
    if stat.S_ISREG(os.lstat(old).st_mode):
        try:
            os.link(old, new, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            os.unlink(old)
            return
    if os.path.lexists(new):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(old, new)
