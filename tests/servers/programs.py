"""Programs that end by themselves: curl, openssl, ssh-keygen."""

from __future__ import annotations

import asyncio
from pathlib import Path


async def run(*command: str | Path, seconds: float = 30) -> tuple[int, str]:
    """Run a program without input to its end, and return its exit code and output, errors among it.

    Raises TimeoutError, with the program ended, after `seconds`.
    """
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return await process.wait(), output.decode(errors="replace")
