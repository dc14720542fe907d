"""What is particular to DynamoDB: the table with its TTL, the settings, and how items lie in it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runtime.backend.base import Delete, Item, Put
from runtime.backend.dynamodb import DynamoDBBackend, items
from runtime.core.clock import ManualClock, SystemClock
from runtime.core.errors import InvalidSettings, Unavailable
from tests.contract.backend.conftest import Servers
from tests.contract.backend.dynamodb_store import SECRET_KEY, DynamoDBStore, open_store
from tests.contract.backend.harness import QUICK_SECONDS, next_event, next_snapshot
from tests.servers.processes import free_port

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

START = datetime.now(UTC).replace(microsecond=0)
"""Not long ago: DynamoDB Local's own TTL goes by the machine's clock."""


@pytest.fixture
async def store(servers: Servers, tmp_path: Path) -> AsyncIterator[DynamoDBStore]:
    """Give an empty store, of this kind only."""
    async with open_store(servers.get("dynamodb"), tmp_path) as store:
        yield store


def create_table(store: DynamoDBStore, *names: str) -> Callable[[DynamoDBClient], Any]:
    """Return what creates a table with those key attributes, as Terraform would."""
    kinds = ("HASH", "RANGE")
    return lambda client: client.create_table(
        TableName=store.options.table_name,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        KeySchema=[{"AttributeName": name, "KeyType": kinds[place]} for place, name in enumerate(names)],  # type: ignore[typeddict-item]  # of the two literals
        BillingMode="PAY_PER_REQUEST",
    )


async def test_five_openers_at_once_make_one_table(store: DynamoDBStore) -> None:
    """All succeed; the table is paid by request, has no stream, and its TTL is on `ttl`."""
    backends = await asyncio.gather(*(store.open() for _ in range(5)))
    await backends[0].put("resources/a", b"1")
    assert (await backends[4].get("resources/a")).value == b"1"
    name = store.options.table_name
    table = (await store.administer(lambda client: client.describe_table(TableName=name)))["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert "StreamSpecification" not in table
    ttl = await store.administer(lambda client: client.describe_time_to_live(TableName=name))
    assert ttl["TimeToLiveDescription"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}


async def test_the_ttl_of_a_table_that_was_made_without_is_enabled(store: DynamoDBStore) -> None:
    """The right key is enough: the watch works."""
    await store.administer(create_table(store, "space", "name"))
    first, _ = await asyncio.gather(store.open(), store.open())
    async with aclosing(first.watch("resources/")) as watch:
        await next_snapshot(watch)
        item = await first.put("resources/a", b"")
        assert await next_event(watch) == Put(item)
    ttl = await store.administer(lambda client: client.describe_time_to_live(TableName=store.options.table_name))
    assert ttl["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"


@pytest.mark.parametrize("names", [("space",), ("name", "space"), ("HashKey", "FullPath")])
async def test_a_table_with_another_key_is_refused(store: DynamoDBStore, names: tuple[str, ...]) -> None:
    """The error names the table, its key and ours; the table is left as it was."""
    await store.administer(create_table(store, *names))
    with pytest.raises(InvalidSettings, match=rf"{store.options.table_name} has the key {names[0]} \(S\).*space \(S\)"):
        await store.open()
    ttl = await store.administer(lambda client: client.describe_time_to_live(TableName=store.options.table_name))
    assert ttl["TimeToLiveDescription"]["TimeToLiveStatus"] == "DISABLED"


async def test_a_wrong_endpoint_is_unavailable_in_time(store: DynamoDBStore) -> None:
    """Nobody listens there; the same options with the right one open."""
    options = replace(store.options, endpoint=f"http://127.0.0.1:{free_port()}", timeout=1.0)
    start = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer") as caught:
        await DynamoDBBackend.open(options, clock=SystemClock())
    assert time.monotonic() - start < 1.0 + QUICK_SECONDS
    assert "endpoint" in caught.value.hint
    await store.open()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"secret_key": None}, "no secret_key"),
        ({"access_key": None}, "no access_key"),
        ({"access_key": None, "secret_key": None}, "no AWS credentials"),
        ({"endpoint": "nonsense"}, "endpoint"),
        ({"region": "no region"}, "region"),
        ({"table_name": "a b"}, "table name 'a b' is not valid"),
    ],
)
async def test_settings_that_cannot_be_right_are_refused(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None], message: str
) -> None:
    """By what is wrong with them, without waiting for anything."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    with pytest.raises(InvalidSettings, match=message):
        await DynamoDBBackend.open(replace(store.options, **change), clock=SystemClock())  # type: ignore[arg-type]  # as parametrised
    assert time.monotonic() - start < QUICK_SECONDS


async def test_credentials_of_the_environment_are_used(store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without access_key AWS's usual chain is asked."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(store.options.access_key))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    store.options = replace(store.options, access_key=None, secret_key=None)
    backend = await store.open()
    await backend.put("resources/a", b"")


async def test_no_secret_is_logged_or_shown(store: DynamoDBStore, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the secret key nor a value nor a name below secrets, at the most talkative level of all libraries."""
    caplog.set_level(logging.DEBUG)
    backend = await store.open()
    await backend.put("secrets/join/t0ken", b"pr1vate")
    errors = []
    for refused in (
        backend.create("secrets/join/t0ken", b"pr1vate"),
        backend.compare_and_swap("secrets/join/t0ken", b"pr1vate", revision=77),
        backend.get("secrets/join/t0ken2"),
        DynamoDBBackend.open(replace(store.options, table_name="a b"), clock=SystemClock()),
        DynamoDBBackend.open(replace(store.options, access_key=None), clock=SystemClock()),
    ):
        with pytest.raises(Exception, match=r".") as caught:
            await refused
        errors.append(f"{caught.value!r} {caught.value} {caught.value.hint}")  # type: ignore[attr-defined]  # ours have it
    shown = "\n".join([caplog.text, *errors, repr(store.options), repr(backend)])
    assert store.options.table_name in shown
    for secret in (SECRET_KEY, "t0ken", "pr1vate", "cHIxdmF0ZQ"):  # the last is the value as DynamoDB's JSON has it
        assert secret not in shown


async def test_an_item_lies_under_its_space_and_ends_by_itself_two_days_after_its_expiry(store: DynamoDBStore) -> None:
    """The space is the partition key, which an IAM condition can name; `ttl` is in seconds; a counter is beside it.

    The log is in another partition, whose name no space can have; its entry tells all of the item, and lasts a day.
    """
    backend = await store.open(ManualClock(START))
    await backend.put("authority/host/a", b"key", expires=START + timedelta(minutes=1))
    found = await store.administer(lambda client: client.scan(TableName=store.options.table_name))
    counter, entry, item = sorted(found["Items"], key=lambda each: str(each["name"]["S"]))
    second = int(START.timestamp()) + 60
    assert item == {
        "space": {"S": "authority"},
        "name": {"S": "host/a"},
        "value": {"B": b"key"},
        "revision": {"N": "1"},
        "expires": {"N": str(second * 1000)},
        "ttl": {"N": str(second + 48 * 3600)},
    }
    assert (counter["name"], counter["revision"]) == ({"S": "/revision"}, {"N": "1"})
    change = {"name": {"S": "host/a"}, "value": {"B": b"key"}, "expires": {"N": str(second * 1000)}}
    assert entry == {
        "space": {"S": "authority/log"},
        "name": {"S": "00000000000000000001"},
        "transaction": counter["transaction"],
        "previous": {"S": ""},
        "changes": {"L": [{"M": change}]},
        "ttl": {"N": str(second - 60 + 24 * 3600)},
    }
    assert [each.key for each in (await backend.range("authority/")).items] == ["authority/host/a"]


async def test_what_expired_while_nobody_was_there_is_deleted_by_the_next_one(store: DynamoDBStore) -> None:
    """A backend that uses the space finds it and tells its watches; what has not expired stays."""
    first = await store.open(ManualClock(START))
    await first.put("presence/gone", b"", expires=START + timedelta(minutes=1))
    stays = await first.put("presence/stays", b"", expires=START + timedelta(hours=1))
    await first.close()
    later = await store.open(ManualClock(START + timedelta(minutes=2)))
    async with aclosing(later.watch("presence/")) as watch:
        assert (await next_snapshot(watch)).items == (stays,)
        event = await next_event(watch)
        assert isinstance(event, Delete)
        assert event.key == "presence/gone"
    raw = await store.administer(lambda client: client.scan(TableName=store.options.table_name))
    assert {each["name"]["S"] for each in raw["Items"] if each["space"]["S"] == "presence"} == {"/revision", "stays"}


def test_a_snapshot_waits_for_a_transaction_that_is_half_done() -> None:
    """DynamoDB may show a counter moved and the item not yet; only what lies below the prefix matters."""
    counter = items.Counter(9, put=(("resources/a", 8),), deleted=(("resources/b", 9),))

    def item(name: str, revision: int) -> dict[str, Item]:
        return {f"resources/{name}": Item(f"resources/{name}", b"", revision)}

    assert items.settled(counter, item("a", 8), "resources/")
    assert items.settled(counter, item("a", 10) | item("b", 11), "resources/")
    assert not items.settled(counter, {}, "resources/")
    assert not items.settled(counter, item("a", 7), "resources/")
    assert not items.settled(counter, item("a", 8) | item("b", 3), "resources/")
    assert items.settled(counter, {}, "resources/c/")
