"""The Go compiler with which servers that distributions carry too old, or not at all, are built from source."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers.cache import cached


def go(module: Path) -> str:
    """Return a Go that is as new as the module's go.mod asks for. Raises RuntimeError.

    It is the one on PATH, or where that is missing or too old, the one that tools/setup put beside this interpreter.
    """
    needed = _version((module / "go.mod").read_text())
    for found in (shutil.which("go"), shutil.which("go", path=str(Path(sys.executable).parent))):
        if found and _version(_told_by(found)) >= needed:
            return found
    raise RuntimeError(f"there is no Go {needed[0]}.{needed[1]} to build {module.name} with; run: tools/setup e2e")


def built(module: Path) -> Path:
    """Return the program of that folder, which main.go, go.mod and go.sum there pin; it is built once per machine.

    It is called as the folder. Raises RuntimeError.
    """
    inputs = [module / name for name in ("main.go", "go.mod", "go.sum")]
    return cached(module.name, inputs, lambda folder: _build(module, folder / module.name)) / module.name


def _build(module: Path, program: Path) -> None:
    build = subprocess.run(
        [go(module), "build", "-trimpath", "-buildvcs=false", "-o", program, "."],
        cwd=module,
        env={**os.environ, "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    if build.returncode != 0:
        raise RuntimeError(f"{module.name} could not be built:\n{build.stderr}")


def _told_by(go: str) -> str:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    return subprocess.run([go, "version"], env=environment, capture_output=True, text=True, check=False).stdout


def _version(text: str) -> tuple[int, int]:
    """Return the first `go 1.26` or `go1.26` of the text, or (0, 0)."""
    found = re.search(r"\bgo ?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
