"""The IAM policies of docs/dynamodb.md, which DynamoDB Local does not enforce: so the test does, as AWS would.

Every request of a backend is judged before it is sent, by its action and by the partition keys that it names.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from runtime.backend.base import Backend, Delete, Event, Put
from runtime.backend.dynamodb import DynamoDBBackend, connection
from runtime.backend.options import DynamoDBOptions
from runtime.core.errors import AccessDenied, CompareFailed
from tests.contract.backend.aws_answers import operation, refusal
from tests.contract.backend.dynamodb_store import DynamoDBStore
from tests.contract.backend.harness import next_changes, next_event, next_snapshot
from tests.servers.dynamodb_policy import AUTH, OPERATOR, Access, accesses, allows

pytestmark = pytest.mark.parametrize("store", ["dynamodb"], indirect=True)

OPERATORS_KEYS = {"resources", "resources/log"}


@dataclass
class Guard:
    """Lets through what the policy allows, and keeps all that was asked for."""

    policy: dict[str, Any]
    asked: set[Access] = field(default_factory=set)

    def judge(self, request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        """Take the place of the server where it would refuse: botocore's event `before-send`."""
        assert isinstance(request.body, bytes | str)
        wanted = accesses(operation(request), json.loads(request.body))
        self.asked.update(wanted)
        return None if all(allows(self.policy, each) for each in wanted) else refusal(request, "AccessDeniedException")


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Guard | None], None]]:
    """Let the test say what judges the requests of the backends that are opened from now on."""
    make = connection._client
    current: list[Guard | None] = [None]

    def client(options: DynamoDBOptions) -> Any:
        made = make(options)
        if guard := current[-1]:
            made.meta.events.register("before-send.dynamodb", guard.judge)  # type: ignore[arg-type]  # an answer may be given
        return made

    monkeypatch.setattr(connection, "_client", client)
    yield current.append
    assert current[1:]


async def both(
    store: DynamoDBStore, guarded: Callable[[Guard | None], None]
) -> tuple[DynamoDBBackend, Guard, DynamoDBBackend, Guard]:
    """Open the table as an auth server, which makes it, and as the operator."""
    auth, operator = Guard(AUTH), Guard(OPERATOR)
    guarded(auth)
    first = await store.open()
    guarded(operator)
    return first, auth, await store.open(), operator


async def test_the_operators_policy_suffices_for_everything_in_resources(
    store: DynamoDBStore, guarded: Callable[[Guard | None], None]
) -> None:
    """Reading, writing, watching from now and from the past, races and expiry: all under the condition on the keys."""
    auth, _, operator, guard = await both(store, guarded)
    await auth.put("authority/local/user", b"private key")
    await auth.put("secrets/users/alice", b"hash")
    first = await auth.put("resources/User/alice", b"1")
    async with aclosing(operator.watch("resources/")) as watch:
        assert (await next_snapshot(watch)).items == (first,)
        changes: list[Put | Delete] = [Put(await operator.create("resources/User/bob", b"1"))]
        changes += [Put(await auth.put("resources/User/carol", b"1"))]
        bob = await operator.compare_and_swap("resources/User/bob", b"2", revision=changes[0].revision)
        changes += [Put(bob), Put(await operator.put("resources/Role/dev", b"1"))]
        await operator.delete("resources/User/alice")
        changes += [Delete("resources/User/alice", changes[-1].revision + 1)]
        assert await next_changes(watch, len(changes)) == changes
        assert await operator.get("resources/User/bob") == bob
        with pytest.raises(CompareFailed):
            await operator.compare_and_swap("resources/User/bob", b"3", revision=first.revision)
        await asyncio.gather(
            *(backend.put(f"resources/race/{n}", b"") for n in range(20) for backend in (auth, operator))
        )
        await next_changes(watch, 40)
        await operator.put("resources/Token/short", b"", expires=datetime.now(UTC) + timedelta(seconds=0.5))
        assert isinstance(await next_event(watch), Put)
        gone = await next_event(watch)
        assert gone == Delete("resources/Token/short", gone.revision)
    async with aclosing(operator.watch("resources/", after=first.revision)) as watch:
        assert await next_changes(watch, len(changes)) == changes
    await store.forget_history()
    async with aclosing(operator.watch("resources/", after=first.revision)) as watch:
        assert bob in (await next_snapshot(watch)).items
    actions = {access.action.removeprefix("dynamodb:") for access in guard.asked}
    assert actions == {"DescribeTable", "DescribeTimeToLive", "GetItem", "Query", "PutItem", "DeleteItem"}
    assert set().union(*(access.keys for access in guard.asked)) == OPERATORS_KEYS


async def test_the_operators_policy_lets_it_read_what_is_public(
    store: DynamoDBStore, guarded: Callable[[Guard | None], None]
) -> None:
    """It reads and follows what auth tells there, also before there is anything, and cannot change it."""
    auth, _, operator, _ = await both(store, guarded)
    async with aclosing(operator.watch("public/")) as watch:
        assert (await next_snapshot(watch)).items == ()
        item = await auth.put("public/cluster", b"1")
        assert await next_event(watch) == Put(item)
    assert await operator.get(item.key) == item
    async with aclosing(operator.watch("public/")) as watch:
        assert (await next_snapshot(watch)).items == (item,)
    for refused in (
        operator.put(item.key, b""),
        operator.create("public/b", b""),
        operator.compare_and_swap(item.key, b"", revision=item.revision),
        operator.delete(item.key),
    ):
        with pytest.raises(AccessDenied):
            await refused
    assert await auth.get(item.key) == item


@pytest.mark.parametrize("space", ["authority", "secrets", "presence", "audit"])
async def test_the_operators_policy_opens_no_other_space(
    store: DynamoDBStore, guarded: Callable[[Guard | None], None], space: str
) -> None:
    """Neither the space nor its log: no method gives anything but AccessDenied, and nothing is changed."""
    auth, _, operator, _ = await both(store, guarded)
    item = await auth.put(f"{space}/a", b"private")

    async def watched(backend: Backend, after: int | None) -> Event:
        async with aclosing(backend.watch(f"{space}/", after=after)) as watch:
            return await next_event(watch)

    for refused in (
        operator.get(item.key),
        operator.range(f"{space}/"),
        operator.put(item.key, b""),
        operator.create(f"{space}/b", b""),
        operator.compare_and_swap(item.key, b"", revision=item.revision),
        operator.delete(item.key),
        watched(operator, None),
        watched(operator, 0),
    ):
        with pytest.raises(AccessDenied):
            await refused
    assert (await auth.range(f"{space}/")).items == (item,)
    assert await watched(auth, 0) == Put(item)


async def test_auths_policy_suffices_to_make_the_table_and_use_it(
    store: DynamoDBStore, guarded: Callable[[Guard | None], None]
) -> None:
    """In every space; no action that it does not name, such as a scan, is ever asked for."""
    auth, guard, _, _ = await both(store, guarded)
    for space in ("resources", "authority", "presence", "secrets", "audit"):
        async with aclosing(auth.watch(f"{space}/")) as watch:
            await next_snapshot(watch)
            item = await auth.put(f"{space}/a", b"")
            assert await next_event(watch) == Put(item)
            await auth.delete(item.key)
            assert await next_event(watch) == Delete(item.key, item.revision + 1)
    assert {access.action for access in guard.asked} <= set(AUTH["Statement"][0]["Action"])
    assert Access("dynamodb:Query", frozenset({"secrets/log"})) in guard.asked
