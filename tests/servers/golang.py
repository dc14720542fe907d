"""The Go compiler with which servers that distributions carry too old, or not at all, are built from source."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


def go(module: Path) -> str:
    """Return a Go that is as new as the module's go.mod asks for. Raises RuntimeError.

    It is the one on PATH, or where that is missing or too old, the one that tools/setup put beside this interpreter.
    """
    needed = _version((module / "go.mod").read_text())
    for found in (shutil.which("go"), shutil.which("go", path=str(Path(sys.executable).parent))):
        if found and _version(_told_by(found)) >= needed:
            return found
    raise RuntimeError(f"there is no Go {needed[0]}.{needed[1]} to build {module.name} with; run: tools/setup e2e")


def _told_by(go: str) -> str:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    return subprocess.run([go, "version"], env=environment, capture_output=True, text=True, check=False).stdout


def _version(text: str) -> tuple[int, int]:
    """Return the first `go 1.26` or `go1.26` of the text, or (0, 0)."""
    found = re.search(r"\bgo ?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
