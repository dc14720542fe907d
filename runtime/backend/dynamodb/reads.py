"""The reads that several parts of this package make: a space's counter, and the pages of a query."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from runtime.backend.dynamodb import failures
from runtime.backend.dynamodb.connection import Connection
from runtime.backend.dynamodb.items import COUNTER, Attributes, Counter, key_attributes, read_counter

if TYPE_CHECKING:  # the stubs are there for the type checkers only
    from mypy_boto3_dynamodb import DynamoDBClient

_Result = TypeVar("_Result")


async def read(connection: Connection, call: Callable[[DynamoDBClient], _Result]) -> _Result:
    """Send a read, in whose answer there is nothing to decide on but what it found.

    Raises Unavailable, AccessDenied, InvalidSettings.
    """
    try:
        return await connection.request(call)
    except ClientError as error:
        raise failures.translated(error, connection.table) from error


async def get(connection: Connection, space: str, name: str) -> Attributes | None:
    """Return an item's attributes, if it is there. Raises as `read`."""
    answer = await read(
        connection,
        lambda client: client.get_item(
            TableName=connection.table, Key=key_attributes(space, name), ConsistentRead=True
        ),
    )
    return answer.get("Item")


async def counter(connection: Connection, space: str) -> Counter:
    """Return the space's counter as it is now. Raises as `read`."""
    return read_counter(await get(connection, space, COUNTER))


async def pages(connection: Connection, query: dict[str, Any]) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Give what a query finds, up to 1 MB at a time. Raises as `read`."""
    start: dict[str, Any] = {}
    while True:
        page = {"TableName": connection.table, "ConsistentRead": True, **query, **start}
        answer = await read(connection, lambda client, page=page: client.query(**page))  # type: ignore[misc]  # bound at once
        yield answer["Items"]
        if "LastEvaluatedKey" not in answer:
            return
        start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
