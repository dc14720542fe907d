"""ssh-audit's opinion of our SSH ports."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.servers.sshca import Authority
from tests.servers.sshport import port, stock_port

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


async def test_nothing_fails_and_only_the_classical_fallback_warns() -> None:
    """No `fail`, and no `warn` but that X25519 alone is not safe from a quantum computer."""
    async with port() as server:
        findings = await audit(server.number)
    assert {(kind, name, level) for kind, name, level, _ in findings} == {("kex", name, "warn") for name in CLASSICAL}
    assert all("post-quantum" in why for *_, why in findings)


async def test_control_asyncssh_alone_fails() -> None:
    """Control: asyncssh's defaults do not pass, so the audit looks."""
    async with stock_port(Authority()) as (number, _):
        findings = await audit(number)
    assert "fail" in {level for _, _, level, _ in findings}
