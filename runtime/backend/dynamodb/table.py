"""The table and its TTL: created where they are missing, refused where they are somebody else's."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from runtime.backend.dynamodb import failures
from runtime.backend.dynamodb.connection import Connection
from runtime.core.errors import InvalidSettings, Unavailable

if TYPE_CHECKING:  # the stubs are there for the type checkers only
    from mypy_boto3_dynamodb.type_defs import TableDescriptionTypeDef

logger = logging.getLogger(__name__)

READY_SECONDS = 120.0
"""How long AWS may take to make a table; usually some ten seconds."""

POLL_SECONDS = 0.5

_KEYS = {"HASH": ("space", "S"), "RANGE": ("name", "S")}
_TTL_ATTRIBUTE = "ttl"


async def prepare(connection: Connection) -> None:
    """Make the table ready to be used. Several openers may do so at once.

    Raises InvalidSettings when a table of that name is there that is not ours, AccessDenied, Unavailable.
    """
    description = await _describe(connection)
    if description is None:
        await _create(connection)
    description = await _until_active(connection)
    _check_keys(connection.table, description)
    await _ensure_ttl(connection)


async def _describe(connection: Connection) -> TableDescriptionTypeDef | None:
    try:
        answer = await connection.request(lambda client: client.describe_table(TableName=connection.table))
    except ClientError as error:
        match failures.code(error):
            case "ResourceNotFoundException":
                return None
            case "ValidationException":
                message = error.response.get("Error", {}).get("Message", "")
                raise InvalidSettings(
                    f"the dynamodb table name {connection.table!r} is not valid: {message}"
                ) from error
            case _:
                raise failures.translated(error, connection.table) from error
    return answer["Table"]


async def _create(connection: Connection) -> None:
    logger.info("creating the dynamodb table %s", connection.table)
    try:
        await connection.request(
            lambda client: client.create_table(
                TableName=connection.table,
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in _KEYS.values()],
                KeySchema=[
                    {"AttributeName": "space", "KeyType": "HASH"},
                    {"AttributeName": "name", "KeyType": "RANGE"},
                ],
                BillingMode="PAY_PER_REQUEST",
            )
        )
    except ClientError as error:
        if failures.code(error) != "ResourceInUseException":  # another opener was first
            raise failures.translated(error, connection.table) from error


async def _until_active(connection: Connection) -> TableDescriptionTypeDef:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        description = await _describe(connection)
        if description is not None and description.get("TableStatus") == "ACTIVE":
            return description
        await asyncio.sleep(POLL_SECONDS)
    raise Unavailable(
        f"the dynamodb table {connection.table} was not ready after {READY_SECONDS:g} s",
        hint="Look at its status in the AWS console.",
    )


def _check_keys(table: str, description: TableDescriptionTypeDef) -> None:
    types = {each["AttributeName"]: each["AttributeType"] for each in description.get("AttributeDefinitions", [])}
    found = {
        each["KeyType"]: (each["AttributeName"], types.get(each["AttributeName"]))
        for each in description.get("KeySchema", [])
    }
    if found != _KEYS:
        shown = ", ".join(f"{name} ({kind})" for name, kind in found.values())
        raise InvalidSettings(
            f"the dynamodb table {table} has the key {shown}; a table of Teleport has space (S), name (S)",
            hint="Give a table_name of its own: it is created when missing.",
        )


async def _ensure_ttl(connection: Connection) -> None:
    answer = await connection.request(lambda client: client.describe_time_to_live(TableName=connection.table))
    found = answer["TimeToLiveDescription"]
    if found.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}:
        if found.get("AttributeName") != _TTL_ATTRIBUTE:
            raise InvalidSettings(
                f"the dynamodb table {connection.table} has its TTL on the attribute {found.get('AttributeName')}",
                hint="Disable it (Teleport enables it on the attribute ttl), or give another table_name.",
            )
        return
    try:
        await connection.request(
            lambda client: client.update_time_to_live(
                TableName=connection.table,
                TimeToLiveSpecification={"Enabled": True, "AttributeName": _TTL_ATTRIBUTE},
            )
        )
    except ClientError as error:
        if failures.code(error) not in {"ResourceInUseException", "ValidationException"}:  # another opener was first
            raise failures.translated(error, connection.table) from error
