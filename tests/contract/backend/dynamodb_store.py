"""The store `dynamodb`: the real DynamoDB Local, one server for the session, a table of its own for each test."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from unittest.mock import patch

import boto3

from runtime.backend.dynamodb import DynamoDBBackend
from runtime.backend.options import DynamoDBOptions
from runtime.core.clock import Clock, SystemClock
from tests.contract.backend.harness import REQUEST_SECONDS
from tests.servers.dynamodb_local import QUIET_AWS, DynamoDBLocal

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

REGION = "eu-west-1"
SECRET_KEY = "secret-key-of-the-tests"

T = TypeVar("T")


def new_options(server: DynamoDBLocal) -> DynamoDBOptions:
    """Return what opens a table of its own, in an account of its own."""
    name = uuid.uuid4()
    # DynamoDB Local keeps each account in a file of its own. Had they one in common, each write would take the longer
    # the more was ever written there: some 70 ms, instead of 5, after the test with 10,000 items.
    return DynamoDBOptions(
        region=REGION,
        table_name=f"teleport-{name}",
        access_key=f"AKID{name.hex}",
        secret_key=SECRET_KEY,
        endpoint=server.endpoint,
        timeout=REQUEST_SECONDS,
    )


class DynamoDBStore:
    """See Store."""

    name = "dynamodb"

    def __init__(self, server: DynamoDBLocal, stack: AsyncExitStack) -> None:
        self._server = server
        self.options = self._account = new_options(server)
        self._stack = stack

    async def open(
        self,
        clock: Clock | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the port's option of that name
    ) -> DynamoDBBackend:
        """Open the table, which makes it the first time."""
        options = self.options if timeout is None else replace(self.options, timeout=timeout)
        backend = await DynamoDBBackend.open(options, clock=clock or SystemClock())
        self._stack.push_async_callback(backend.close)
        return backend

    async def administer(self, act: Callable[[DynamoDBClient], T]) -> T:
        """Do to the table what an administrator could, and return what AWS answers."""

        def run() -> T:
            with self._client() as client:
                return act(client)

        return await asyncio.to_thread(run)

    @contextmanager
    def _client(self) -> Iterator[DynamoDBClient]:
        client = boto3.client(
            "dynamodb",
            region_name=self._account.region,
            endpoint_url=self._account.endpoint,
            aws_access_key_id=self._account.access_key,
            aws_secret_access_key=self._account.secret_key,
        )
        with closing(client):
            yield client

    async def restart(self) -> None:
        """End the server and start it on the same data and address; returns when it answers."""
        await asyncio.to_thread(self._server.restart)

    def freeze(self) -> None:
        """Stop the server in its tracks (SIGSTOP)."""
        self._server.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self._server.thaw()

    async def forget_history(self) -> None:
        """Delete the log, as the table's TTL does in time. What a watch that is open remembers stays."""

        def forget(client: DynamoDBClient) -> None:
            for page in client.get_paginator("scan").paginate(TableName=self.options.table_name):
                for item in page["Items"]:
                    if item["space"]["S"].endswith("/log"):
                        key = {"space": item["space"], "name": item["name"]}
                        client.delete_item(TableName=self.options.table_name, Key=key)

        await self.administer(forget)

    async def drop(self) -> None:
        """Delete the table, where it was made."""
        name = self.options.table_name
        if name in (await self.administer(lambda client: client.list_tables()))["TableNames"]:
            await self.administer(lambda client: client.delete_table(TableName=name))


@contextmanager
def server(folder: Path) -> Iterator[DynamoDBLocal]:
    """Run one DynamoDB Local for the session, and keep AWS's client from looking around on this machine."""
    with patch.dict(os.environ, QUIET_AWS), DynamoDBLocal(folder) as server:
        yield server


@asynccontextmanager
async def open_store(server: DynamoDBLocal, folder: Path) -> AsyncIterator[DynamoDBStore]:
    """Give a table that is not there yet."""
    async with AsyncExitStack() as stack:
        store = DynamoDBStore(server, stack)
        try:
            yield store
        finally:
            server.thaw()
    await store.drop()
