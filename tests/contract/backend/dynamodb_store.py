"""The store `dynamodb`: the real DynamoDB Local, one server for the session, a table of its own for each test."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import boto3

from runtime.backend.dynamodb import DynamoDBBackend
from runtime.backend.options import DynamoDBOptions
from runtime.core.clock import Clock, SystemClock
from tests.contract.backend.harness import PATIENCE_SECONDS
from tests.servers.dynamodb_local import QUIET_AWS, DynamoDBLocal

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

REGION = "eu-west-1"
ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "secret-key-of-the-tests"


def options_of(server: DynamoDBLocal, table: str) -> DynamoDBOptions:
    """Return what opens that table on the test's server."""
    return DynamoDBOptions(
        region=REGION, table_name=table, access_key=ACCESS_KEY, secret_key=SECRET_KEY, endpoint=server.endpoint
    )


@contextmanager
def aws(server: DynamoDBLocal) -> Iterator[DynamoDBClient]:
    """Give a client of AWS's own, to do to a table what an administrator could."""
    client = boto3.client(
        "dynamodb",
        region_name=REGION,
        endpoint_url=server.endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    try:
        yield client
    finally:
        client.close()


class DynamoDBStore:
    """See Store."""

    name = "dynamodb"

    def __init__(self, server: DynamoDBLocal, stack: AsyncExitStack) -> None:
        self.server = server
        self.options = options_of(server, f"teleport-{uuid.uuid4()}")
        self._stack = stack
        self._opened: list[DynamoDBBackend] = []

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
        self._opened.append(backend)
        return backend

    async def restart(self) -> None:
        """End the server and start it on the same data and address; returns when it answers."""
        await asyncio.to_thread(self.server.restart)

    def freeze(self) -> None:
        """Stop the server in its tracks (SIGSTOP)."""
        self.server.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self.server.thaw()

    async def forget_history(self) -> None:
        """Disable the stream, whose records go with it; who opens the table next enables another one.

        Their memory of recent changes is part of the history: it is forgotten once they read the new stream.
        """
        before = await asyncio.to_thread(self._disable_stream)
        await (await self.open()).close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            for backend in self._opened:
                while backend.stream == before:  # noqa: ASYNC110 - the backend has no event for it
                    await asyncio.sleep(0.05)

    def _disable_stream(self) -> str:
        with aws(self.server) as client:
            table = client.update_table(TableName=self.options.table_name, StreamSpecification={"StreamEnabled": False})
            return table["TableDescription"]["LatestStreamArn"]

    def _drop(self) -> None:
        with aws(self.server) as client:
            if self.options.table_name in client.list_tables()["TableNames"]:
                client.delete_table(TableName=self.options.table_name)


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
    await asyncio.to_thread(store._drop)
