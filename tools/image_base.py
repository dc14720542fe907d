"""What an image is built on where no registry is: the machine's own distribution, as small as it can be.

mmdebstrap makes it from the packages that the machine's apt is configured for; what apt is told, and where it finds
packages, does not stay in it. buildah takes it into a storage of its own outside the clone, together with all layers.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pip

from tests.servers.cache import cached

# libstdc++6: grpc is C++. usr-is-merged stands in for usrmerge, which wants all of Perl.
PACKAGES = ("ca-certificates", "libstdc++6", "python3", "usr-is-merged")
RECIPE = (
    "--variant=essential",
    "--aptopt=APT::Install-Recommends false",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    # What mmdebstrap takes over from this machine.
    '--customize-hook=cd "$1" && rm -rf etc/resolv.conf etc/hostname etc/apt/sources.list*',
    '--customize-hook=cd "$1" && rm -rf var/log/* var/cache/debconf/*',
)
MERGED = Path("/usr/share/mmdebstrap/hooks/merged-usr")
MAKE_SECONDS = 1200
COMMAND_SECONDS = 300
LAYERS_KEPT = 400
"""How many layers the storage may hold, of all the states that the code was in: some 10 MB each."""
_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "teleport-kubernetes"
STORAGE = _HOME / "layers"
BUILDAH = ("buildah", "--root", str(STORAGE), "--runroot", "/run/teleport-kubernetes-image")


class Failed(Exception):
    """It could not be built; the message says why, and what to do."""


def names() -> tuple[str, str]:
    """Return the base, and the same with pip, as images that buildah has; both are made where they are missing."""
    tag = digest()
    base, build = f"localhost/teleport-base:{tag}", f"localhost/teleport-build:{tag}-{pip.__version__}"
    if not _is_there(base):
        archive = cached("image-base", [_suite(), platform.machine(), *PACKAGES, *RECIPE], _make) / "base.tar"
        _commit("scratch", "add", str(archive), "/", base)
    if not _is_there(build):
        # pip is what .venv has, by its hash: Debian's would bring a compiler's headers with it.
        _commit(base, "copy", str(Path(pip.__file__).parent), "/usr/lib/python3/dist-packages/pip", build)
    return base, build


def digest() -> str:
    """Return what stands for all that the base is made from."""
    return hashlib.sha256("\0".join([_suite(), platform.machine(), *PACKAGES, *RECIPE]).encode()).hexdigest()[:16]


def forget_old_layers() -> None:
    """Start with an empty storage where too many layers have come together."""
    layers = STORAGE / "overlay"
    if layers.is_dir() and len(list(layers.iterdir())) > LAYERS_KEPT:
        _buildah("rmi", "--all", "--force")


def _make(folder: Path) -> None:
    """Make it: half a minute."""
    print(f"making a base of {_suite()}, once", flush=True)
    hooks = [f"--hook-dir={MERGED}"] if MERGED.is_dir() else []
    command = ["mmdebstrap", "--quiet", *RECIPE, *hooks, f"--include={','.join(PACKAGES)}", _suite()]
    sources = _sources()
    done = subprocess.run(
        [*command, str(folder / "base.tar"), *(["-"] if sources else [])],
        input=sources,
        capture_output=True,
        text=True,
        timeout=MAKE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise Failed(
            f"mmdebstrap could not make a base of {_suite()}:\n{done.stderr.strip()}\n"
            "See that apt-get update works, or name an image to build on: make image BASE=python:3.13-slim"
        )


def _suite() -> str:
    """Return the code name of this machine's distribution. Raises Failed."""
    release = platform.freedesktop_os_release()
    if not {"debian", "ubuntu"} & {release["ID"], *release.get("ID_LIKE", "").split()} or not shutil.which("apt-get"):
        raise Failed(
            f"{release.get('PRETTY_NAME', 'this')} is no Debian; name an image to build on: make image BASE=IMAGE"
        )
    return release.get("VERSION_CODENAME", "")


def _sources() -> str:
    """Return where this machine's apt finds its own distribution, as lines of a sources.list."""
    shown = "$(CREATED_BY)|$(ORIGIN)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)|$(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", shown]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    found: dict[str, None] = {}
    for line in done.stdout.splitlines():
        kind, origin, release, component, key, uri = line.split("|", 5)
        if kind == "Packages" and origin in ("Debian", "Ubuntu") and release.split("-")[0] == _suite():
            signed = f"[signed-by={key}] " if Path(key).is_absolute() else ""
            found[f"deb {signed}{uri} {release} {component}\n"] = None
    return "".join(found)


def _is_there(name: str) -> bool:
    return subprocess.run([*BUILDAH, "inspect", "--type=image", name], capture_output=True, check=False).returncode == 0


def _commit(start: str, action: str, source: str, target: str, name: str) -> None:
    """Make the image NAME: one more layer on another."""
    container = _buildah("from", start)
    try:
        _buildah(action, "--quiet", container, source, target)
        _buildah("commit", "--quiet", container, name)
    finally:
        _buildah("rm", container)


def _buildah(*words: str) -> str:
    done = subprocess.run([*BUILDAH, *words], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    if done.returncode:
        raise Failed(f"buildah {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
