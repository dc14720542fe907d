"""`make image`: the container image from the Dockerfile, as an archive that any Kubernetes node can import.

With a Docker engine that is `docker build`. Without one it is buildah, which needs neither an engine nor a registry:
the base is then made by mmdebstrap from the packages of the machine's own distribution, once, and kept in the cache
outside the clone; so are the layers. Where packages come from is the machine's own configuration: pip's and npm's
reach the build as secrets, which no layer keeps.

    python -m tools.image [--base IMAGE]

The last line on stdout is the archive's path; all else goes to stderr. Nothing is done where nothing has changed.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from runtime.core.version import __version__
from tools import image_base

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = f"teleport:{__version__}"
"""The image's name, as the chart has it: no registry."""
ARCHIVE = ROOT / "build" / f"teleport-{__version__}.tar"
BUILD_SECONDS = 1800
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
ENOUGH = 32768
"""Of each: buildah's own defaults differ by version, and are refused where root may not raise a limit."""
Failed = image_base.Failed
_PIP_KEYS = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "timeout", "retries")


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tools.image", description="Build the container image.")
    parser.add_argument(
        "--base", default="", metavar="IMAGE", help="what to build on, instead of the Dockerfile's BASE"
    )
    try:
        made = archive(parser.parse_args().base)
    except (Failed, OSError, subprocess.TimeoutExpired) as error:
        print(f"tools/image.py: {error}", file=sys.stderr)
        return 1
    print(made)
    return 0


def reference() -> str:
    """Return the image's name, as pods have it."""
    return REFERENCE


def archive(base: str = "") -> Path:
    """Return the archive of the image of this working tree, built if it is not current. Raises Failed, OSError."""
    ARCHIVE.parent.mkdir(exist_ok=True)
    with (ARCHIVE.parent / "image.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        want = digest(base)
        stamp = ARCHIVE.with_suffix(".made-from")
        if not (ARCHIVE.exists() and stamp.exists() and stamp.read_text() == want):
            stamp.unlink(missing_ok=True)
            builder: Docker | Buildah = Docker(base) if has_docker() else Buildah(base)
            with settings() as secrets:
                _phase("the image", lambda: builder.build(secrets))
            unfinished = ARCHIVE.with_suffix(".unfinished")
            unfinished.unlink(missing_ok=True)
            _phase("the archive", lambda: builder.save(unfinished))
            unfinished.rename(ARCHIVE)
            stamp.write_text(want)
        size = f"{ARCHIVE.stat().st_size / 1e6:.0f} MB"
        print(f"{REFERENCE}  {size}, not compressed", file=sys.stderr, flush=True)
    return ARCHIVE


def has_docker() -> bool:
    """Return whether a Docker engine answers: the client alone builds nothing."""
    return shutil.which("docker") is not None and (
        subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False).returncode == 0
    )


@dataclass(frozen=True)
class Docker:
    """A Docker engine, with BuildKit."""

    base: str

    def build(self, secrets: Secrets) -> None:
        """Build the image under its name."""
        base = [f"--build-arg=BASE={self.base}"] if self.base else []
        flags = ["--network=host", "--quiet", *base, *secrets.flags(), f"--tag={REFERENCE}"]
        _run(["docker", "build", *flags, str(ROOT)], env={"DOCKER_BUILDKIT": "1"})

    def save(self, archive: Path) -> None:
        """Write it as an archive."""
        _run(["docker", "save", f"--output={archive}", REFERENCE])


@dataclass(frozen=True)
class Buildah:
    """buildah, with a storage of our own outside the clone."""

    base: str

    def build(self, secrets: Secrets) -> None:
        """Build the image under its name."""
        if os.geteuid() != 0:
            raise Failed("without a Docker engine the image is built by root: sudo make image")
        missing = [name for name in ("buildah", "mmdebstrap") if shutil.which(name) is None]
        if missing:
            raise Failed(f"there is no {' and no '.join(missing)}; run: tools/setup image")
        image_base.forget_old_layers()
        base = build = self.base
        if not base:
            base, build = image_base.names()
        flags = [
            "--layers",
            "--quiet",
            "--isolation=chroot",
            "--network=host",
            f"--build-arg=BASE={base}",
            f"--build-arg=BUILD={build}",
            *(f"--ulimit={name}={_at_most(kind)}" for name, kind in LIMITS.items()),
            *secrets.flags(),
            *(f"--volume={folder}:{folder}:ro" for folder in secrets.folders),
            f"--tag=localhost/{REFERENCE}",
        ]
        _run([*image_base.BUILDAH, "bud", *flags, str(ROOT)])

    def save(self, archive: Path) -> None:
        """Write it as an archive."""
        source, target = f"localhost/{REFERENCE}", f"docker-archive:{archive}:{REFERENCE}"
        _run([*image_base.BUILDAH, "push", "--quiet", source, target])


def _at_most(kind: int) -> str:
    """Return a limit for processes of the build, soft and hard, that is none that they would have to raise."""
    _, hard = resource.getrlimit(kind)
    limit = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    return f"{limit}:{limit}"


@dataclass(frozen=True)
class Secrets:
    """What the machine says about package indexes: files by the names that the Dockerfile has for them."""

    files: dict[str, Path]
    folders: tuple[str, ...]
    """Folders of wheels that pip's settings name."""

    def flags(self) -> list[str]:
        """Return the builder's flags for them."""
        return [f"--secret=id={name},src={path}" for name, path in self.files.items()]


@contextmanager
def settings() -> Iterator[Secrets]:
    """Collect this machine's settings into a folder that nobody else can read, and remove it at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="teleport-image-")))
        files: dict[str, Path] = {}
        said = _pip()
        authorities = Path(said.pop("cert", "") or os.environ.get("SSL_CERT_FILE", "") or AUTHORITIES)
        lines = [f"{key} = {' '.join(value.split())}" for key, value in said.items() if key in _PIP_KEYS]
        if authorities.is_file():
            files["authorities"] = authorities
            lines.append("cert = /run/authorities.pem")  # where the Dockerfile mounts it
        files["pip"] = folder / "pip.conf"
        files["pip"].touch(0o600)
        files["pip"].write_text("\n".join(["[global]", *lines, ""]))
        npm = Path(os.environ.get("NPM_CONFIG_USERCONFIG", "") or Path.home() / ".npmrc")
        if npm.is_file():
            files["npm"] = npm
        folders = tuple(name for name in said.get("find-links", "").split() if Path(name).is_dir())
        yield Secrets(files, folders)


def _pip() -> dict[str, str]:
    """Return what pip was told on this machine: its files, and over them its environment."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in done.stdout.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                said[name.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    return said


def digest(base: str) -> str:
    """Return what stands for all that the image is made from: the builder's context, and how it is built."""
    summed = hashlib.sha256(json.dumps([base, REFERENCE, image_base.digest()]).encode())
    for path in context():
        for part in (str(path.relative_to(ROOT)).encode(), path.read_bytes()):
            summed.update(len(part).to_bytes(8, "big") + part)
    return summed.hexdigest()


def context() -> list[Path]:
    """Return the files that the builder sees, with the Dockerfile, by .dockerignore's rules as far as it uses them."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and not line.startswith("#")]
    kept = [ROOT / line.removeprefix("!") for line in lines if line.startswith("!")]
    ignored = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    found = [path for item in kept for path in (item.rglob("*") if item.is_dir() else [item]) if path.is_file()]
    seen = [path for path in found if not any(fnmatch(part, name) for part in path.parts for name in ignored)]
    return [*sorted(seen), ROOT / "Dockerfile", ROOT / ".dockerignore"]


def _phase(what: str, do: Callable[[], None]) -> None:
    started = time.monotonic()
    do()
    print(f"{what}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


def _run(command: Sequence[str], env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{Path(command[0]).name} failed:\n{done.stdout.strip()}")


if __name__ == "__main__":
    sys.exit(main())
