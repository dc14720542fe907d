"""What holds for the repository as a whole: its locks, its front page, and what no file in it may say."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = {
    "runtime.txt": ["project"],
    "dev.txt": ["project", "dev"],
    "tools.txt": ["tools.in"],
    "build.txt": ["build.in"],
    "go.txt": ["go.in"],
    "helm.txt": ["helm.in"],
}
GO_MODULES = sorted(ROOT.glob("tests/**/go.mod"))
SCRIPTS = ["tools/setup", "tools/test", ".ci/run"]

KNOWN_HOSTS = re.compile(
    r"[^.]+|127\.[0-9.]+|10\.[0-9.]+|172\.17\.[0-9.]+|(.+\.)?example|kubernetes\.default\.svc|(www|maven)\.apache\.org",
    re.IGNORECASE,
)
"""Hosts that a URL in this repository may have: examples, this machine, and the names of a license and of a schema."""
# In two halves, so that this file is one of those that hold none of them.
MACHINE_PATHS = ["/" + "work/", "/var/" + "tmp/", "/home/" + "runner"]


def files() -> Iterator[Path]:
    """Yield every file of the repository that is not ignored."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()] + [".git"]
    for folder, names, members in os.walk(ROOT):
        names[:] = [name for name in names if not any(fnmatch(name, pattern) for pattern in ignored)]
        yield from (Path(folder) / member for member in members if not any(fnmatch(member, p) for p in ignored))


def asked_for(source: str) -> list[Requirement]:
    """Return the requirements that a lock is compiled from."""
    if source.endswith(".in"):
        lines = (ROOT / "requirements" / source).read_text().splitlines()
        return [Requirement(line) for line in lines if line and not line.startswith("#")]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = declared["project"]["dependencies"] if source == "project" else declared["dependency-groups"][source]
    return [Requirement(text) for text in found]


def pinned(lock: str) -> dict[str, set[str]]:
    """Return the names and versions in a lock; a package may have one version for each of several Pythons."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", _lock(lock), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def _lock(lock: str) -> str:
    return (ROOT / "requirements" / lock).read_text()


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_are_current(lock: str) -> None:
    """Every requirement is pinned to a version that it allows; else: make lock."""
    pins = pinned(lock)
    for requirement in (each for source in LOCKS[lock] for each in asked_for(source)):
        versions = pins.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement} is not in {lock}"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement} in {lock}"


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_have_hashes_and_no_urls(lock: str) -> None:
    """Every pin has a hash, and nothing in a lock says where it comes from."""
    text = _lock(lock)
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"://|-index|--find-links|--trusted-host| @ ", text)


def test_what_is_tested_is_what_is_shipped() -> None:
    """The development lock holds the runtime lock, version by version."""
    development = pinned("dev.txt")
    assert {
        name: versions for name, versions in pinned("runtime.txt").items() if development.get(name) != versions
    } == {}


def test_dependencies_have_lower_bounds() -> None:
    """Without one, a resolver may settle for a version of ten years ago."""
    for requirement in (each for sources in LOCKS.values() for source in sources for each in asked_for(source)):
        assert any(each.operator in {">=", "=="} for each in requirement.specifier), str(requirement)


def test_the_front_page_is_complete() -> None:
    """`make` alone prints every target with what it does."""
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    targets = re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE)
    assert sorted(phony[1].split()) == sorted(targets)
    page = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout
    assert re.findall(r"^  (\S+) +\S+ \S+", page, re.MULTILINE) == targets


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_run(script: str) -> None:
    """Each script is executable, and a shell can read it."""
    path = ROOT / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True, timeout=30)


def test_set_up_brings_the_go_that_the_modules_ask_for() -> None:
    """tools/setup takes a Go from PATH only when it is new enough for every go.mod."""
    needed = re.search(r"^GO_NEEDED=([\d.]+)", (ROOT / "tools/setup").read_text(), re.MULTILINE)
    assert needed
    assert GO_MODULES
    for module in GO_MODULES:
        line = re.search(r"^go ([\d.]+)$", module.read_text(), re.MULTILINE)
        assert line, module
        assert line[1].startswith(f"{needed[1]}."), module


def test_operator_is_a_source_root_and_no_package() -> None:
    """A module directly in operator/ would hide the standard library's `operator` (docs/adr/0001)."""
    assert list((ROOT / "operator").glob("*.py")) == []


def test_no_file_names_a_path_of_the_machine_it_was_made_on() -> None:
    """No path of one machine means a thing on another."""
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in files()
        for word in MACHINE_PATHS
        if re.search(rf"(?<![\w-]){re.escape(word)}", path.read_text(errors="replace"))
    ]
    assert found == []


def test_no_file_says_where_packages_come_from() -> None:
    """That is each machine's own matter: the only URLs here are examples and names."""
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in files()
        for host in re.findall(r"https?://([A-Za-z0-9._-]+)", path.read_text(errors="replace"))
        if not KNOWN_HOSTS.fullmatch(host)
    ]
    assert found == []


def test_every_rule_of_the_security_page_has_its_test() -> None:
    """SECURITY.md names a test behind each rule; all of them exist."""
    named = re.findall(r"`(tests/[^`:]+)::(\w+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 20
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text()]
    assert missing == []
