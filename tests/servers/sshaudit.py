"""ssh-audit, which reads what an SSH port offers, and what it finds wrong with that."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

CLASSICAL = {"curve25519-sha256", "curve25519-sha256@libssh.org"}
"""The key exchanges for peers that have no post-quantum one."""


async def audit(number: int) -> list[tuple[str, str, str, str]]:
    """Return what ssh-audit finds: kind of algorithm, name, `fail` or `warn`, and why."""
    tool = Path(sys.executable).with_name("ssh-audit")
    process = await asyncio.create_subprocess_exec(
        tool,
        "--json",
        "--skip-rate-test",
        "-p",
        str(number),
        "127.0.0.1",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(100):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    report: dict[str, Any] = json.loads(output)
    return [
        (kind, entry["algorithm"], level, why)
        for kind in ("kex", "key", "enc", "mac")
        for entry in report[kind]
        for level in ("fail", "warn")
        for why in entry["notes"].get(level, [])
    ]
