"""The whole picture: which steps there are, in which order, and what only all of them together show."""

from __future__ import annotations

import pytest

from runtime.core.resources import Origin, Resource
from runtime.reconcile import Action, Plan, Reason, Step
from tests.unit.reconcile.documents import TEAM, World, role, token, trusted_cluster, user


def told(planned: Plan) -> list[tuple[str, str, str]]:
    """Return what is done to what, in order."""
    return [(step.action.value, step.kind, step.name) for step in planned.steps]


def findings(step: Step) -> list[tuple[Reason, str]]:
    """Return what a step points out."""
    return [(each.reason, each.message) for each in step.findings]


async def test_what_is_named_comes_before_what_names_it() -> None:
    """Roles before users; deletions last, and users before the roles that they had."""
    world = World()
    await world.put(role("old"), user("gone", roles=("old",)), role("dev"), token("past"), origin=Origin.TCTL)
    planned = await world.plan(user("b"), user("a"), role("dev", "x"), token("new"), role("ops"), prune=True)
    assert told(planned) == [
        ("update", "Role", "dev"),
        ("create", "Role", "ops"),
        ("create", "Token", "new"),
        ("create", "User", "a"),
        ("create", "User", "b"),
        ("delete", "User", "gone"),
        ("delete", "Token", "past"),
        ("delete", "Role", "old"),
    ]


async def test_without_prune_nothing_is_deleted() -> None:
    """What the documents do not name has no part in the plan."""
    world = World()
    await world.put(role("old"), origin=Origin.TCTL)
    assert told(await world.plan(role("dev"))) == [("create", "Role", "dev")]


@pytest.mark.parametrize("origin", [Origin.KUBERNETES, Origin.CONFIG, None])
async def test_prune_leaves_others_alone(origin: Origin | None) -> None:
    """Neither another origin's resources, nor those of another namespace, nor what cannot be read."""
    world = World()
    await world.put(role("theirs"), user("theirs", namespace="other"), origin=origin)
    await world.backend.put("resources/User/newer", b'{"kind": "User", "spec": {"logins": [7]}}')
    assert told(await world.plan(role("dev"), prune=True)) == [("create", "Role", "dev")]
    assert told(await world.plan(role("dev"), owner=TEAM, prune=True)) == [("create", "Role", "dev")]


async def test_keep_keeps() -> None:
    """A user whose deletionPolicy is Keep stays, and the plan says why."""
    world = World()
    await world.put(user("joe", spec={"deletionPolicy": "Keep"}), origin=Origin.TCTL)
    planned = await world.plan(role("dev"), prune=True)
    assert told(planned) == [("create", "Role", "dev"), ("unchanged", "User", "joe")]
    assert planned.steps[1].reason is Reason.KEPT


@pytest.mark.parametrize("resource", [user("joe", roles=("dev", "gone")), trusted_cluster("main", "dev", "gone")])
async def test_a_role_that_will_not_exist(resource: Resource) -> None:
    """It is no mistake of the document, which is written; but somebody should know."""
    planned = await World().plan(resource, role("dev"))
    found = [each for each in findings(planned.steps[1]) if each[0] is Reason.ROLE_NOT_FOUND]
    assert len(found) == 1
    assert "has the role gone, which does not exist" in found[0][1]
    assert planned.steps[1].action is Action.CREATE


async def test_a_role_that_exists_or_is_about_to() -> None:
    """Whoever declared it; also one that is declared by another and refused."""
    world = World()
    await world.put(role("theirs"), role("refused"), origin=Origin.KUBERNETES)
    await world.put(role("ours"), origin=Origin.TCTL)
    joe = user("joe", roles=("theirs", "refused", "ours", "new"))
    planned = await world.plan(joe, role("new"), role("refused", "x"))
    assert [step.name for step in planned.refused] == ["refused"]
    assert planned.steps[-1].findings == ()


async def test_a_role_that_goes_while_somebody_has_it() -> None:
    """Pruning says who would be left with a role that is no more."""
    world = World()
    await world.put(role("dev"), user("joe", roles=("dev",)), origin=Origin.TCTL)
    await world.put(user("ann", roles=("dev",)), origin=Origin.KUBERNETES)
    planned = await world.plan(user("joe", roles=("dev",)), prune=True)
    assert told(planned) == [("unchanged", "User", "joe"), ("delete", "Role", "dev")]
    assert findings(planned.steps[0])[0][0] is Reason.ROLE_NOT_FOUND
    assert findings(planned.steps[1]) == [
        (Reason.ROLE_IN_USE, "2 users (ann, joe, …) have this role, and may do nothing without it")
    ]


async def test_what_is_refused_says_nothing_more() -> None:
    """Its roles are not looked at: it is not written."""
    world = World()
    await world.put(user("joe"), origin=Origin.CONFIG)
    (step,) = (await world.plan(user("joe", "x", roles=("gone",)))).steps
    assert (step.action, step.findings) == (Action.REFUSE, ())
