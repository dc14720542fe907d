"""Where slow builds are kept between runs: outside the clone, so that a fresh clone on the same machine finds them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cached(name: str, inputs: Iterable[Path | str], build: Callable[[Path], None]) -> Path:
    """Return the folder that `build` fills for exactly these inputs, building it only when it is missing.

    An input is a file, a folder (all files below it, by name and content) or a text such as a version. `build` gets an
    empty folder and may take minutes; others that ask for the same meanwhile, from any process, wait. The folder
    appears whole under its name or, when `build` raises, not at all. It must not be changed afterwards.
    """
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    folder = home / f"{name}-{_digest(inputs)}"
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            _build(folder, build)
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".unfinished", dir=folder.parent))
    try:
        build(unfinished)
        unfinished.chmod(0o755)  # mkdtemp's 0700 would keep a server that runs as another user out
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _home() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has a relative path ignored.
    base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return base / "teleport-kubernetes"


def _digest(inputs: Iterable[Path | str]) -> str:
    """Hash the inputs, each part with its length, so that no two lists of inputs read alike."""
    digest = hashlib.sha256()
    for part in _parts(inputs):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.hexdigest()[:16]


def _parts(inputs: Iterable[Path | str]) -> Iterator[bytes]:
    for item in inputs:
        if isinstance(item, str):
            yield item.encode()
        elif item.is_dir():
            for file in sorted(path for path in item.rglob("*") if path.is_file()):
                yield str(file.relative_to(item)).encode()
                yield file.read_bytes()
        else:
            yield item.name.encode()
            yield item.read_bytes()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released by the kernel, also when this process is killed
        yield
