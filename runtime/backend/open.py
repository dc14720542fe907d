"""From options to an open backend; imports only the client library that is asked for."""

from __future__ import annotations

from runtime.backend.base import Backend
from runtime.backend.options import DynamoDBOptions, EtcdOptions, MemoryOptions, Options, SqliteOptions
from runtime.core.clock import Clock


async def open_backend(options: Options, *, clock: Clock) -> Backend:
    """Open the backend that the options describe, creating its file or table where it is missing.

    Raises Unavailable when the store cannot be reached, InvalidSettings when the options cannot be right.
    """
    match options:
        case SqliteOptions():
            from runtime.backend.sqlite import SqliteBackend

            return await SqliteBackend.open(options, clock=clock)
        case EtcdOptions():
            from runtime.backend.etcd import EtcdBackend

            return await EtcdBackend.open(options, clock=clock)
        case DynamoDBOptions():
            from runtime.backend.dynamodb import DynamoDBBackend

            return await DynamoDBBackend.open(options, clock=clock)
        case MemoryOptions():
            from runtime.backend.memory import MemoryBackend

            return MemoryBackend(clock=clock)
