"""What somebody else changes in the backend is put back or told of; the API server is a dictionary here."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import CompareFailed, NotFound, Unavailable
from runtime.core.resources import Origin, Resource, decode, encode, key_of, read_object
from runtime.core.resources.user import User
from teleport_operator.context import Context
from teleport_operator.following import looking
from teleport_operator.following.drift import Drift
from teleport_operator.following.looking import Looking
from teleport_operator.judging import judge, status_after
from teleport_operator.kubernetes.api_server import ApiServer
from teleport_operator.kubernetes.watches import Watches
from teleport_operator.metrics import OperatorMetrics
from teleport_operator.objects import Ref

CLOCK = ManualClock(datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC))
OBJECTS = "/apis/teleport.internal/v1/namespaces/team"


class Server:
    """Keeps objects of ours, and the Events that were posted."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.events: list[Mapping[str, Any]] = []
        self.asked = 0
        self.away = 0
        self.crossed = 0

    async def get(self, path: str) -> dict[str, Any]:
        """Return an object."""
        self.asked += 1
        if self.away:
            self.away -= 1
            raise Unavailable("the API server is away")
        if path not in self.objects:
            raise NotFound(path)
        return self.objects[path]

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Take an Event, or the Secret of an invite."""
        if path == "/api/v1/namespaces/team/secrets":
            data = {key: base64.b64encode(text.encode()).decode() for key, text in body["stringData"].items()}
            secret = {"metadata": {**body["metadata"], "resourceVersion": "1"}, "data": data}
            return self.objects.setdefault(f"{path}/{body['metadata']['name']}", secret)
        assert path == "/api/v1/namespaces/team/events"
        self.events.append(body)
        return dict(body)

    async def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Merge the status of an object of that version."""
        found = self.objects[path.removesuffix("/status")]
        if self.crossed:
            self.crossed -= 1
            found["metadata"]["resourceVersion"] += "0"
        if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            raise CompareFailed(path)
        found.setdefault("status", {}).update(body["status"])
        found["metadata"]["resourceVersion"] += "1"
        return found


class World:
    """An operator that follows a backend."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(clock=CLOCK)
        self.server = Server()
        metrics = OperatorMetrics(Watches())
        self.context = Context(self.backend, CLOCK, cast("ApiServer", self.server), metrics)

    async def apply(self, kind: str, name: str, **spec: Any) -> None:
        """Do what kubectl and kopf do: keep the object, reconcile it, patch its status."""
        path = f"{OBJECTS}/{looking.PLURALS[kind]}/{name}"
        before = self.server.objects.get(path, {})
        generation = before.get("metadata", {}).get("generation", 0) + 1
        metadata = {"name": name, "namespace": "team", "uid": "1", "generation": generation, "resourceVersion": "1"}
        body: dict[str, Any] = {"apiVersion": "teleport.internal/v1", "kind": kind, "metadata": metadata, "spec": spec}
        body["status"] = before.get("status", {})
        self.server.objects[path] = body
        verdict, _ = await judge(self.context, kind, body)
        body["status"] = {**body["status"], **status_after(self.context, body, verdict)}

    def ready(self, kind: str, name: str) -> tuple[str, str]:
        """Return status and reason of an object's condition Ready."""
        found = self.server.objects[f"{OBJECTS}/{looking.PLURALS[kind]}/{name}"]["status"]["conditions"]
        return next((each["status"], each["reason"]) for each in found if each["type"] == "Ready")

    async def joe(self) -> User | None:
        """Return user joe as the backend has him, without what the cluster keeps of him."""
        try:
            return decode(User, (await self.backend.get("resources/User/joe")).value).as_kept(None)
        except NotFound:
            return None

    def metric(self, kind: str, action: str) -> float:
        """Return how much drift was counted."""
        return float(self.context.metrics.drift.labels(kind, action)._value.get())


def user(*logins: str, origin: Origin = Origin.KUBERNETES, namespace: str = "team") -> Resource:
    """Return user joe as somebody else writes him."""
    data = {"apiVersion": "teleport.internal/v1", "kind": "User", "metadata": {"name": "joe", "namespace": namespace}}
    return read_object({**data, "spec": {"logins": list(logins)}}, source="test").with_origin(origin)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Follow a backend, without pauses."""
    monkeypatch.setattr(looking, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(looking, "RETRY_SECONDS", 0.01)
    world = World()
    line = Looking(world.context)
    following = asyncio.gather(line.run(), Drift(world.context, line).run())
    while not world.backend._state.watchers:  # noqa: ASYNC110 (it is not told)
        await asyncio.sleep(0)
    yield world
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    await world.backend.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that the follower does."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 (it is not told)
            await asyncio.sleep(0.005)


async def looked(world: World) -> None:
    """Wait until everything that happened so far was looked at: a mark that is set now is corrected after it."""
    await world.apply("Role", "mark")
    await world.backend.delete("resources/Role/mark")
    before = world.metric("Role", "corrected")
    await until(lambda: world.metric("Role", "corrected") > before)
    await asyncio.sleep(0.03)


async def test_a_change_is_put_back(world: World) -> None:
    """Edited or deleted by hand: within seconds it is as declared, counted, and told in an Event."""
    await world.apply("User", "joe", logins=["joe"])
    await world.backend.put("resources/User/joe", encode(user("joe", "root")))
    await until(lambda: world.metric("User", "corrected") == 1)
    assert await world.joe() == user("joe")
    await world.backend.delete("resources/User/joe")
    await until(lambda: world.metric("User", "corrected") == 2)
    assert await world.joe() == user("joe")
    await until(lambda: len(world.server.events) == 2)
    assert [event["message"] for event in world.server.events] == ["spec.logins", "it was deleted"]
    assert {event["reason"] for event in world.server.events} == {"DriftCorrected"}
    assert world.ready("User", "joe") == ("True", "Reconciled")


async def test_report_leaves_it_and_says_so(world: World) -> None:
    """The condition names the fields until somebody puts it right; an edit of the document is written all the same."""
    await world.apply("User", "joe", logins=["joe"], driftPolicy="Report")
    await world.backend.put("resources/User/joe", encode(user("root")))
    await until(lambda: world.ready("User", "joe") == ("False", "Drifted"))
    assert (world.metric("User", "reported"), world.metric("User", "corrected")) == (1, 0)
    found = await world.joe()
    assert found is not None
    assert found.spec.logins == ("root",)
    await world.apply("User", "joe", logins=["ann"], driftPolicy="Report")
    found = await world.joe()
    assert found is not None
    assert found.spec.logins == ("ann",)
    assert world.ready("User", "joe") == ("True", "Reconciled")


async def test_ones_own_writes_are_none_of_ones_business(world: World) -> None:
    """The API server is not asked for each object that was just written."""
    for number in range(50):
        await world.apply("User", f"u{number}", logins=["x"])
    await looked(world)
    assert world.server.asked == 1  # for the mark


async def test_what_nobody_declared_to_kubernetes_is_left_alone(world: World) -> None:
    """Users of tctl, and documents whose object is gone or about to go."""
    await world.backend.put("resources/User/joe", encode(user("x", origin=Origin.TCTL)))
    await world.apply("User", "ann", logins=["ann"])
    world.server.objects.pop(f"{OBJECTS}/users/ann")
    await world.backend.delete("resources/User/ann")
    await world.apply("User", "eve", logins=["eve"])
    world.server.objects[f"{OBJECTS}/users/eve"]["metadata"]["deletionTimestamp"] = "2027-01-02T03:04:05Z"
    await world.backend.delete("resources/User/eve")
    await looked(world)
    assert [item.key for item in (await world.backend.range("resources/User/")).items] == ["resources/User/joe"]


async def test_a_name_that_another_gives_up(world: World) -> None:
    """Refused at first, the document is written as soon as the name is free; that is no drift."""
    await world.backend.put("resources/User/joe", encode(user("x", origin=Origin.TCTL)))
    await world.apply("User", "joe", logins=["joe"])
    assert world.ready("User", "joe") == ("False", "OwnedByAnother")
    await looked(world)
    await world.backend.delete("resources/User/joe")
    await until(lambda: world.ready("User", "joe") == ("True", "Reconciled"))
    assert await world.joe() == user("joe")
    assert world.metric("User", "corrected") == 0


async def test_a_name_that_another_takes(world: World) -> None:
    """Taken over with adopt in another namespace: it is not fought for, and says so."""
    await world.apply("User", "joe", logins=["joe"])
    await world.backend.put("resources/User/joe", encode(user("x", namespace="other")))
    await until(lambda: world.ready("User", "joe") == ("False", "OwnedByAnother"))
    await looked(world)
    assert await world.joe() == user("x", namespace="other")


async def test_roles_that_come_and_go(world: World) -> None:
    """Whoever names a role is looked at when it is declared or deleted, by whomever; not at each edit of it."""
    await world.apply("User", "joe", roles=["dev"])
    assert world.ready("User", "joe") == ("False", "RoleNotFound")
    await world.apply("Role", "dev")
    await until(lambda: world.ready("User", "joe") == ("True", "Reconciled"))
    await looked(world)
    asked = world.server.asked
    await world.apply("Role", "dev", allow={"logins": ["x"]})
    await looked(world)
    assert world.server.asked == asked + 1  # for the mark
    world.server.objects.pop(f"{OBJECTS}/roles/dev")
    await world.backend.delete("resources/Role/dev")
    await until(lambda: world.ready("User", "joe") == ("False", "RoleNotFound"))


async def test_the_api_server_is_away_for_a_while(world: World) -> None:
    """It is asked again, and so it is when somebody else changed the object meanwhile."""
    await world.apply("User", "joe", logins=["joe"], driftPolicy="Report")
    world.server.away = 3
    world.server.crossed = 1
    await world.backend.put("resources/User/joe", encode(user("root")))
    await until(lambda: world.ready("User", "joe") == ("False", "Drifted"))


async def test_the_backend_is_away_for_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be put back at once is tried again, with no word from kopf, and told of as drift."""
    await world.apply("User", "joe", logins=["joe"])
    swap, failures = world.backend.compare_and_swap, iter([Unavailable("it is away")] * 3)

    async def away(*arguments: Any, **named: Any) -> Any:
        if error := next(failures, None):
            raise error
        return await swap(*arguments, **named)

    monkeypatch.setattr(world.backend, "compare_and_swap", away)
    await world.backend.put("resources/User/joe", encode(user("root")))
    await until(lambda: world.ready("User", "joe") == ("False", "Unavailable"))
    await until(lambda: world.ready("User", "joe") == ("True", "Reconciled"))
    assert await world.joe() == user("joe")
    assert world.metric("User", "corrected") == 1


async def test_a_burst_is_one_look(world: World) -> None:
    """Of many changes in a moment the last one counts."""
    await world.apply("User", "joe", logins=["joe"])
    for number in range(20):
        await world.backend.put("resources/User/joe", encode(user(f"u{number}")))
    await until(lambda: world.metric("User", "corrected") >= 1)
    await looked(world)
    assert await world.joe() == user("joe")
    assert world.server.asked < 10
    assert key_of(user("joe")) == "resources/User/joe"


async def test_what_waits_is_looked_at_again_in_minutes(world: World) -> None:
    """Though nothing should have been noticed; kopf has no part in it, and what is ready is left alone."""
    joe = Ref("User", "team", "joe")
    await world.apply("User", "joe", roles=["dev"])
    assert timedelta(minutes=4) <= world.context.deadlines[joe] - CLOCK.now() <= timedelta(minutes=6)
    await world.apply("User", "joe", logins=["joe"])
    assert joe not in {ref for ref, end in world.context.deadlines.items() if end - CLOCK.now() < timedelta(minutes=10)}
    await world.backend.put("resources/User/ann", encode(user("x", origin=Origin.TCTL)))
    await world.apply("User", "ann", logins=["ann"])
    assert world.ready("User", "ann") == ("False", "OwnedByAnother")
    assert Ref("User", "team", "ann") in world.context.deadlines
