"""Carries a plan out over a port to the documents: each step is one compare-and-swap, a lost race is decided anew.

A plan may end after any step, by an error or a kill: what was done stands, and the next plan holds the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from runtime.core.clock import Clock
from runtime.core.errors import AlreadyExists, CompareFailed, Unavailable
from runtime.core.resources import DECLARED, DeletionPolicy, Resource
from runtime.reconcile.decisions import decide, decide_removal
from runtime.reconcile.planning import Plan
from runtime.reconcile.steps import Action, Actual, Desired, Owner, Step

ATTEMPTS = 5
"""How often a step that somebody else's write crossed is decided anew before it is given up."""


class Documents(Protocol):
    """The way to the documents that are there. What belongs to a resource beside its document goes with it."""

    async def list(self, kind: str) -> list[Actual]:
        """Return all resources of a kind."""
        ...

    async def get(self, kind: str, name: str) -> Actual | None:
        """Return one resource, None if there is none."""
        ...

    async def create(self, desired: Desired, resource: Resource) -> str | None:
        """Write a resource that is new; return a token's value if one was made. Raises AlreadyExists."""
        ...

    async def swap(self, desired: Desired, resource: Resource, *, revision: int) -> str | None:
        """Write over the one at that revision; return a token's value if one was made. Raises CompareFailed."""
        ...

    async def delete(self, kind: str, name: str, *, revision: int) -> None:
        """Delete the one at that revision. Raises CompareFailed, NotFound never."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """A step as it was carried out in the end, and the value that a token got if one was made for it."""

    step: Step
    value: str | None = field(default=None, repr=False)


async def observe(documents: Documents, kinds: Iterable[str] = tuple(DECLARED)) -> list[Actual]:
    """Return all resources of the kinds."""
    return [each for kind in kinds for each in await documents.list(kind)]


async def apply(
    documents: Documents, planned: Plan, owner: Owner, clock: Clock, *, tell: Callable[[Done], None]
) -> None:
    """Carry out what changes something, and tell of each step as soon as it is done.

    A step that turns out to be another's to decide is told of as refused, and the others go on. Raises Unavailable, and
    what the documents raise; what was told of is done.
    """
    for step in planned.writes:
        tell(await carry_out(documents, step, owner, clock))


async def reconcile(documents: Documents, desired: Desired, owner: Owner, clock: Clock) -> Done:
    """Make one resource as its document says. Raises Unavailable, and what the documents raise."""
    there = await documents.get(desired.resource.kind, desired.resource.name)
    return await carry_out(documents, decide(desired, there, owner, now=clock.now()), owner, clock)


async def remove(
    documents: Documents, kind: str, name: str, owner: Owner, clock: Clock, policy: DeletionPolicy | None = None
) -> Done:
    """Make sure that the owner declares no such resource, unless it is to be kept (`decide_removal`).

    Raises Unavailable, and what the documents raise.
    """
    step = decide_removal(kind, name, await documents.get(kind, name), owner, policy)
    return await carry_out(documents, step, owner, clock)


async def carry_out(documents: Documents, step: Step, owner: Owner, clock: Clock) -> Done:
    """Carry one step out, decided anew while others are quicker. Raises Unavailable, and what the documents raise."""
    for _ in range(ATTEMPTS):
        if not step.writes:
            return Done(step)
        try:
            return Done(step, await _write(documents, step))
        except (AlreadyExists, CompareFailed):
            there = await documents.get(step.kind, step.name)
            if step.desired is None:
                anew = decide_removal(step.kind, step.name, there, owner, step.policy)
            else:
                anew = decide(step.desired, there, owner, now=clock.now())
            step = replace(anew, findings=anew.findings or step.findings)
    raise Unavailable(
        f"{step.kind.lower()} {step.name} was changed by others {ATTEMPTS} times while it was written",
        hint="Try again; find out who else declares it.",
    )


async def _write(documents: Documents, step: Step) -> str | None:
    if step.action is Action.DELETE:
        await documents.delete(step.kind, step.name, revision=step.revision)
        return None
    assert step.desired is not None  # noqa: S101 - every step that writes but a deletion has both
    assert step.resource is not None  # noqa: S101
    if step.action is Action.CREATE:
        return await documents.create(step.desired, step.resource)
    return await documents.swap(step.desired, step.resource, revision=step.revision)
