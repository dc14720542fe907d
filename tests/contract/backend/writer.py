"""Another process that writes: `python -m tests.contract.backend.writer OPTIONS-CLASS OPTIONS-JSON WORK-JSON`.

It opens the backend, prints `ready`, waits for a line on its input and works. Each acknowledged write is printed as
`KEY REVISION` the moment it is known. Work is one of

    {"put": COUNT, "name": NAME, "tasks": N}    COUNT writes of NAME over 20 keys of resources/Node/, by N tasks at once
    {"create": KEY, "tasks": N}                 N tasks create the same key; only the winner prints
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Iterator

from runtime.backend import options
from runtime.backend.base import Backend, Item
from runtime.backend.open import open_backend
from runtime.core.clock import SystemClock
from runtime.core.errors import AlreadyExists

KEYS = 20


async def main(kind: str, fields: str, work: str) -> None:
    """Do the work."""
    arguments = json.loads(fields)
    if "peers" in arguments:
        arguments["peers"] = tuple(arguments["peers"])
    backend = await open_backend(getattr(options, kind)(**arguments), clock=SystemClock())
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    plan = json.loads(work)
    if "put" in plan:
        numbers = iter(range(plan["put"])) if plan["put"] else itertools.count()
        await asyncio.gather(*(_put(backend, plan["name"], numbers) for _ in range(plan["tasks"])))
    else:
        await asyncio.gather(*(_create(backend, plan["create"]) for _ in range(plan["tasks"])))
    await backend.close()


async def _put(backend: Backend, name: str, numbers: Iterator[int]) -> None:
    for number in numbers:
        _acknowledged(await backend.put(f"resources/Node/{name}-{number % KEYS}", f"{name} {number}".encode()))


async def _create(backend: Backend, key: str) -> None:
    try:
        item = await backend.create(key, b"")
    except AlreadyExists:
        return
    _acknowledged(item)


def _acknowledged(item: Item) -> None:
    print(item.key, item.revision, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
