"""Files of ~/.tsh: there is the old one or the new one at each moment, and nobody else reads them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.core.errors import TeleportError

HOME_VARIABLE = "TELEPORT_HOME"
"""Environment variable that names another folder than ~/.tsh."""


@contextmanager
def files(path: Path) -> Iterator[None]:
    """Translate what the file system says."""
    try:
        yield
    except OSError as error:
        raise TeleportError(
            f"{error.filename or path} cannot be used: {error.strerror or error}",
            hint=f"tsh keeps its files in {path}; the environment variable {HOME_VARIABLE} names another folder.",
        ) from error


def read_text(path: Path) -> str:
    """Return a file's text, whatever somebody may have put into it."""
    return path.read_text(encoding="utf-8", errors="replace")


def write_text(path: Path, text: str) -> None:
    """Write a new file of mode 0600, durably."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 — Path.open makes the file before its mode can be set
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Delete a folder of an older login, or a link that an interrupted one left behind."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path)


def turn(link: Path, target: Path) -> None:
    """Make a symbolic link, in place of whatever has the name."""
    replace(link, lambda new: new.symlink_to(target))


def replace(path: Path, make: Callable[[Path], None]) -> None:
    """Put what `make` makes where `path` is: at each moment there is the old one or the new one."""
    new = path.with_name(f".{path.name}~{os.urandom(8).hex()}")
    try:
        make(new)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
