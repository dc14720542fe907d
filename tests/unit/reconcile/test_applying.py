"""Carrying out: what is there afterwards, whatever others do meanwhile and whenever it is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backend.base import Item
from runtime.backend.documents import BackendDocuments
from runtime.backend.memory import MemoryBackend
from runtime.core.errors import CompareFailed, InvalidInput, Unavailable
from runtime.core.resources import Origin, Resource, Token, User, decode, encode, key_of
from runtime.core.resources.token import digest_of
from runtime.reconcile import ATTEMPTS, Action, Desired, Done, Owner, Reason, Step, apply, carry_out, reconcile, remove
from tests.unit.reconcile.documents import (
    ADOPT,
    CLOCK,
    TCTL,
    TEAM,
    VALUE,
    World,
    desired,
    placed,
    role,
    token,
    trusted_cluster,
    user,
)

# --- properties --------------------------------------------------------------------------------------------------

_names = st.sampled_from(["a", "b", "c"])
_adopting = st.sampled_from([{}, ADOPT])
_logins = st.lists(st.sampled_from(["x", "y"]), min_size=1, unique=True)
_policies = st.sampled_from(["Keep", "Delete"])
_resources: st.SearchStrategy[Resource] = st.one_of(
    st.builds(lambda name, logins, more: role(name, *logins, **more), _names, _logins, _adopting),
    st.builds(
        lambda name, logins, roles, policy, more: user(
            name, *logins, roles=tuple(roles), spec={"deletionPolicy": policy}, **more
        ),
        _names,
        _logins,
        st.lists(_names, unique=True),
        _policies,
        _adopting,
    ),
    st.builds(lambda name, uses: token(name, maxUses=uses), _names, st.integers(1, 2)),
    st.builds(trusted_cluster, _names),
)
_documents = st.lists(_resources, max_size=8, unique_by=lambda each: (each.kind, each.name))
_owners = st.sampled_from([TCTL, TEAM])
_there = st.lists(
    st.tuples(_resources, st.sampled_from([Origin.TCTL, Origin.KUBERNETES, Origin.CONFIG, None])),
    max_size=8,
    unique_by=lambda each: (each[0].kind, each[0].name),
)


@dataclass(frozen=True)
class Case:
    """What is there, what is asked for, by whom, and when it is killed."""

    there: list[tuple[Resource, Origin | None]]
    documents: list[Resource]
    owner: Owner
    prune: bool
    killed_after: int


def _case(
    there: list[tuple[Resource, Origin | None]], documents: list[Resource], owner: Owner, *more: bool | int
) -> Case:
    """Return a case whose documents are in their owner's namespace, if it has one."""
    prune, killed_after = more
    return Case(
        there,
        [placed(each, owner.namespace, adopt=each.metadata.adopt) for each in documents],
        owner,
        bool(prune),
        killed_after,
    )


_cases = st.builds(_case, _there, _documents, _owners, st.booleans(), st.integers(0, 8))


def _owned(case: Case, content: bytes, key: str) -> bool:
    """Return whether what was there at first is the owner's."""
    for resource, origin in case.there:
        if key_of(resource) == key:
            return case.owner.owns(resource.with_origin(origin))
    raise AssertionError(f"{key} was not there")


async def _prepared(case: Case) -> World:
    world = World()
    for resource, origin in case.there:
        await world.put(resource, origin=origin)
    return world


async def _apply(world: World, case: Case, *, steps: int | None = None) -> list[Done]:
    """Carry the plan out, or the first steps of it."""
    planned = await world.plan(*case.documents, owner=case.owner, prune=case.prune)
    writes = planned.writes[:steps]
    return [await carry_out(world.documents, step, case.owner, CLOCK) for step in writes]


@settings(max_examples=60, deadline=None)
@given(_cases)
def test_applied_once_there_is_nothing_more_to_do(case: Case) -> None:
    """The plan after apply is empty, but for what it refuses; so is apply again, which writes nothing."""

    async def work() -> None:
        world = await _prepared(case)
        await _apply(world, case)
        assert (await world.plan(*case.documents, owner=case.owner, prune=case.prune)).writes == ()
        before = await world.backend.range("resources/")
        assert await _apply(world, case) == []
        assert await world.backend.range("resources/") == before

    asyncio.run(work())


@settings(max_examples=60, deadline=None)
@given(_cases)
def test_killed_after_any_step_the_next_run_ends_where_one_would(case: Case) -> None:
    """What was done stands, and the next plan holds the rest."""

    async def work() -> None:
        whole, killed = await _prepared(case), await _prepared(case)
        await _apply(whole, case)
        await _apply(killed, case, steps=case.killed_after)
        await _apply(killed, case)
        assert await killed.stored() == await whole.stored()

    asyncio.run(work())


@settings(max_examples=60, deadline=None)
@given(_cases)
def test_what_others_declared_is_never_touched(case: Case) -> None:
    """Byte for byte, unless a document asks to adopt it; and what is pruned was the owner's."""

    async def work() -> None:
        world = await _prepared(case)
        before = await world.stored()
        await _apply(world, case)
        after = await world.stored()
        adopting = {key_of(each) for each in case.documents if each.metadata.adopt}
        named = {key_of(each) for each in case.documents}
        for key, content in before.items():
            if not _owned(case, content, key) and key not in adopting:
                assert after[key] == content
            if key not in after:
                assert case.prune
                assert _owned(case, content, key)
                assert key not in named

    asyncio.run(work())


# --- races -------------------------------------------------------------------------------------------------------


class Contended(MemoryBackend):
    """A backend in which somebody else is quicker, so many times."""

    def __init__(self, times: int, act: Callable[[], None]) -> None:
        super().__init__(clock=CLOCK)
        self._times = times
        self._act = act

    def _interfere(self) -> None:
        if self._times:
            self._times -= 1
            self._act()

    async def create(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Let the other one act, then try."""
        self._interfere()
        return await super().create(key, value)

    async def compare_and_swap(self, key: str, value: bytes, *, revision: int, expires: datetime | None = None) -> Item:
        """Let the other one act, then try."""
        self._interfere()
        return await super().compare_and_swap(key, value, revision=revision)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Let the other one act, then try."""
        self._interfere()
        await super().delete(key, revision=revision)


def contended(times: int, act: Callable[[World], None]) -> World:
    """Return a world in which somebody acts just before each of the first writes."""
    world = World()
    world.backend = Contended(times, lambda: act(world))
    world.documents = BackendDocuments(world.backend)
    return world


def write(world: World, resource: Resource, origin: Origin) -> None:
    """Write as somebody who waits for nobody."""
    world.backend._state.write(key_of(resource), encode(resource.with_origin(origin)), None)


async def test_a_lost_race_is_decided_anew() -> None:
    """What somebody else of the same origin wrote meanwhile is overwritten, at the revision that it then has."""
    world = contended(ATTEMPTS - 1, lambda world: write(world, user("joe", "other"), Origin.TCTL))
    done = await reconcile(world.documents, Desired(user()), TCTL, CLOCK)
    assert done.step.action is Action.UPDATE  # it was there by then
    assert decode(User, (await world.backend.get(key_of(user()))).value) == user().with_origin(Origin.TCTL)


async def test_a_race_lost_to_another_origin_is_refused() -> None:
    """Who came first keeps it."""
    world = contended(1, lambda world: write(world, user("joe", "other"), Origin.KUBERNETES))
    done = await reconcile(world.documents, Desired(user()), TCTL, CLOCK)
    assert (done.step.action, done.step.reason) == (Action.REFUSE, Reason.OTHER_OWNER)
    assert decode(User, (await world.backend.get(key_of(user()))).value).spec.logins == ("other",)


async def test_a_race_against_the_same_document_is_no_race() -> None:
    """Two replicas that write the same are both content."""
    world = contended(1, lambda world: write(world, user(), Origin.TCTL))
    done = await reconcile(world.documents, Desired(user()), TCTL, CLOCK)
    assert done.step.action is Action.UNCHANGED


async def test_a_deletion_spares_what_was_taken_over_meanwhile() -> None:
    """It is no longer the owner's."""
    world = contended(1, lambda world: write(world, user("joe", "theirs"), Origin.KUBERNETES))
    write(world, user(), Origin.TCTL)
    done = await remove(world.documents, "User", "joe", TCTL, CLOCK)
    assert (done.step.action, done.step.reason) == (Action.UNCHANGED, Reason.OTHER_OWNER)
    assert len(await world.stored()) == 1


async def test_a_deletion_that_somebody_else_did() -> None:
    """What is gone, is gone."""
    world = contended(1, lambda world: world.backend._state.remove(key_of(user())))
    write(world, user(), Origin.TCTL)
    done = await remove(world.documents, "User", "joe", TCTL, CLOCK)
    assert (done.step.action, done.step.reason) == (Action.UNCHANGED, Reason.GONE)


async def test_a_race_that_never_ends_is_given_up() -> None:
    """It says what was changed, and how often it tried."""
    numbers = iter(range(1000))
    world = contended(1000, lambda world: write(world, user("joe", f"u{next(numbers)}"), Origin.TCTL))
    with pytest.raises(Unavailable, match=f"user joe was changed by others {ATTEMPTS} times"):
        await reconcile(world.documents, Desired(user()), TCTL, CLOCK)
    assert next(numbers) == ATTEMPTS


async def test_uses_counted_meanwhile_are_not_lost() -> None:
    """A member that joins between the look and the write counts."""
    before = token(maxUses=9).issued_as(digest_of(VALUE), CLOCK.now())

    def join(world: World) -> None:
        issue = before.metadata.issued
        assert issue is not None
        write(world, before.with_issue(issue.model_copy(update={"uses": 4})), Origin.TCTL)

    world = contended(1, join)
    write(world, before, Origin.TCTL)
    await reconcile(world.documents, Desired(token(maxUses=5), VALUE), TCTL, CLOCK)
    stored = decode(Token, (await world.backend.get(key_of(before))).value)
    assert stored.uses_left == 1


# --- the whole plan ----------------------------------------------------------------------------------------------


async def test_each_step_is_told_as_soon_as_it_is_done() -> None:
    """So that whoever is cut off knows what stands."""
    world = World()
    planned = await world.plan(user(), role("dev"))
    told: list[tuple[Action, str]] = []
    await apply(world.documents, planned, TCTL, CLOCK, tell=lambda done: told.append(_short(done.step)))
    assert told == [(Action.CREATE, "dev"), (Action.CREATE, "joe")]


def _short(step: Step) -> tuple[Action, str]:
    return step.action, step.name


class FullAfterOne(BackendDocuments):
    """Documents that take one resource and then none."""

    async def create(self, desired: Desired, resource: Resource) -> None:
        """Write the first."""
        if await self.list(resource.kind):
            raise Unavailable("away")
        await super().create(desired, resource)


async def test_an_error_ends_it_where_it_is() -> None:
    """What was told of is done; the rest is for the next time."""
    world = World()
    planned = await world.plan(role("a"), role("b"), role("c"))
    told: list[Done] = []
    with pytest.raises(Unavailable, match="away"):
        await apply(FullAfterOne(world.backend), planned, TCTL, CLOCK, tell=told.append)
    assert [done.step.name for done in told] == ["a"]
    assert [*await world.stored()] == ["resources/Role/a"]


async def test_the_backend_takes_no_token_that_nobody_could_join_with() -> None:
    """There is nobody here who could be told a value that is made."""
    (document,) = desired(token(), value=None)
    with pytest.raises(InvalidInput, match="token web has no value"):
        await reconcile(World().documents, document, TEAM, CLOCK)


async def test_a_stale_revision_is_refused_by_the_documents() -> None:
    """Which is what all of the above stands on."""
    world = World()
    await world.put(user(), origin=Origin.TCTL)
    there = await world.documents.get("User", "joe")
    assert there is not None
    await world.put(user("joe", "x"), origin=Origin.TCTL)
    with pytest.raises(CompareFailed):
        await world.documents.swap(Desired(user()), user(), revision=there.revision)
    with pytest.raises(CompareFailed):
        await world.documents.delete("User", "joe", revision=there.revision)
