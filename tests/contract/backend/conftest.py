"""The stores that the contract suite runs on.

Each module `NAME_store.py` beside this file offers one kind of store with two functions:

    def server(folder: Path) -> AbstractContextManager[S]
        Start what the store needs, once for the whole session and only when a test asks for it (S is whatever
        `open_store` wants to get; `nullcontext()` where there is no server). It may take minutes the first time.

    def open_store(server: S, folder: Path) -> AbstractAsyncContextManager[Store]
        One empty store for one test: a prefix, table or file of its own. At its end every backend that
        `Store.open` gave is closed and the server is as it was, running and thawed, however the test ended.

A test takes the fixture `store` and runs on all of them, or says by a decorator below on which it cannot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from runtime.backend.base import Backend
from tests.contract.backend.harness import ALL_STORES, Store


class Servers:
    """The servers of this session, each started when it is first asked for."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._running: dict[str, Any] = {}  # each module knows the type of its own server

    def get(self, name: str) -> Any:
        """Return the running server of the store of that name."""
        if name not in self._running:
            folder = self._folder / name
            folder.mkdir()
            self._running[name] = self._stack.enter_context(_module(name).server(folder))
        return self._running[name]


def _module(name: str) -> Any:
    return import_module(f"tests.contract.backend.{name}_store")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Give the servers of this session; all are ended with it."""
    with ExitStack() as stack:
        yield Servers(stack, tmp_path_factory.mktemp("servers"))


@pytest.fixture(params=ALL_STORES)
async def store(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> AsyncIterator[Store]:
    """Give an empty store, of each kind in turn."""
    async with _module(request.param).open_store(servers.get(request.param), tmp_path) as store:
        yield store


@pytest.fixture
async def backend(store: Store) -> Backend:
    """Give a backend on the empty store, with the system's clock."""
    return await store.open()
