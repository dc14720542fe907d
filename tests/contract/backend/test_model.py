"""Random sequences of calls do what a plain dictionary does."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.backend.base import Backend, Delete, Event, Item, Put
from runtime.core.clock import ManualClock
from runtime.core.errors import AlreadyExists, CompareFailed, NotFound, TeleportError
from tests.contract.backend.harness import Store, heavy, next_event, next_snapshot, start_clock

EXAMPLES = 40
STEPS = 25
KEYS = ("a", "a/b", "ab", "\u00fc")


@dataclass(frozen=True)
class Step:
    """One call, or a minute that passes. `lifetime` is in minutes; `condition` says which revision is asked for."""

    call: Literal["get", "put", "create", "compare_and_swap", "delete", "pass"]
    key: str
    value: bytes
    lifetime: int | None
    condition: Literal["current", "first", "unknown", None]


steps = st.builds(
    Step,
    call=st.sampled_from(["get", "put", "create", "compare_and_swap", "delete", "pass"]),
    key=st.sampled_from(KEYS),
    value=st.binary(max_size=3),
    lifetime=st.none() | st.integers(0, 3),
    condition=st.sampled_from(["current", "current", "first", "unknown", None]),
)


@dataclass
class Model:
    """What a backend is, in a few lines: a dictionary and a clock."""

    clock: ManualClock
    prefix: str
    items: dict[str, Item] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    last: int = -1

    def live(self) -> dict[str, Item]:
        """Return what is there now, in the order of keys as UTF-8."""
        found = [item for item in self.items.values() if item.expires is None or item.expires > self.clock.now()]
        return {item.key: item for item in sorted(found, key=lambda item: item.key.encode())}

    def refusal(self, step: Step, key: str, revision: int | None) -> type[TeleportError] | None:
        """Return what the call must raise."""
        found = self.live().get(key)
        if step.call == "create":
            return AlreadyExists if found else None
        if step.call == "compare_and_swap" or (step.call == "delete" and revision is not None):
            return None if found and found.revision == revision else CompareFailed
        return NotFound if step.call in {"get", "delete"} and not found else None

    async def take(self, backend: Backend, step: Step) -> None:
        """Make the call on both sides and compare."""
        if step.call == "pass":
            self.clock.advance(timedelta(minutes=1))
            return
        key = self.prefix + step.key
        revision = self._revision(key, step)
        expected = self.refusal(step, key, revision)
        expires = None if step.lifetime is None else self.clock.now() + timedelta(minutes=step.lifetime)
        try:
            if step.call == "get":
                assert await backend.get(key) == self.live()[key]
            elif step.call == "delete":
                await backend.delete(key, revision=revision)
                del self.items[key]
            else:
                self._written(await self._write(backend, step, key, revision), Item(key, step.value, 0, expires))
        except TeleportError as error:
            assert type(error) is expected  # noqa: PT017  # which one is decided by the model, None included
        else:
            assert expected is None

    async def _write(self, backend: Backend, step: Step, key: str, revision: int | None) -> Item:
        expires = None if step.lifetime is None else self.clock.now() + timedelta(minutes=step.lifetime)
        if step.call == "put":
            return await backend.put(key, step.value, expires=expires)
        if step.call == "create":
            return await backend.create(key, step.value, expires=expires)
        assert revision is not None
        return await backend.compare_and_swap(key, step.value, revision=revision, expires=expires)

    def _written(self, item: Item, expected: Item) -> None:
        assert (item.key, item.value, item.expires) == (expected.key, expected.value, expected.expires)
        assert item.revision > self.last
        self.last = item.revision
        self.items[item.key] = item
        self.first.setdefault(item.key, item.revision)

    def _revision(self, key: str, step: Step) -> int | None:
        if step.condition is None and step.call == "delete":
            return None
        found = self.live().get(key)
        if step.condition == "first":
            return self.first.get(key, 1)
        return found.revision if found and step.condition == "current" else 2**40


examples = itertools.count()


@heavy
@given(script=st.lists(steps, max_size=STEPS))
@settings(
    max_examples=EXAMPLES,
    deadline=None,  # how fast a real server is, is not judged here
    derandomize=True,  # what fails on one machine fails on all
    database=None,
    # Each example works below a prefix of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_a_backend_is_a_dictionary_with_revisions(store: Store, script: list[Step]) -> None:
    """Every result, error and final state is the model's, and the events of a watch make up the same state."""
    clock = start_clock()
    backend = await store.open(clock)
    model = Model(clock, f"resources/example-{next(examples)}/")
    async with aclosing(backend.watch(model.prefix)) as watch:
        assert (await next_snapshot(watch)).items == ()
        for step in script:
            await model.take(backend, step)
        end = await backend.put(f"{model.prefix}~", b"")
        model.items[end.key] = end
        followed = await _follow(watch, end)
    expected = model.live()
    assert {item.key: item for item in (await backend.range(model.prefix)).items} == expected
    assert {key: item for key, item in followed.items() if key in expected} == expected
    assert all(item.expires is not None for key, item in followed.items() if key not in expected)
    await backend.close()


async def _follow(watch: AsyncGenerator[Event, None], end: Item) -> dict[str, Item]:
    """Return what a consumer knows once it has seen `end`; what expires may not be deleted yet."""
    known: dict[str, Item] = {}
    last = -1
    while known.get(end.key) != end:
        event = await next_event(watch)
        assert isinstance(event, Put | Delete)
        assert event.revision > last
        last = event.revision
        if isinstance(event, Put):
            known[event.item.key] = event.item
        else:
            known.pop(event.key, None)
    return known
