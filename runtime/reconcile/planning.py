"""What to do about all resources: one step for each, in an order in which no step leaves somebody worse off midway."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from runtime.core.resources import Resource, TrustedCluster, User
from runtime.reconcile.decisions import decide, decide_removal
from runtime.reconcile.steps import Action, Actual, Desired, Finding, Owner, Reason, Step

_ORDER: Mapping[str, int] = {"Role": 0, "Token": 1, "TrustedCluster": 2, "User": 3}
"""What is named comes before what names it; deletions go the other way round, after everything else."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are to be carried out, those that change nothing among them."""

    steps: tuple[Step, ...]

    @property
    def writes(self) -> tuple[Step, ...]:
        """The steps that change something."""
        return tuple(step for step in self.steps if step.writes)

    @property
    def refused(self) -> tuple[Step, ...]:
        """The steps that are against what somebody else declared."""
        return self.of(Action.REFUSE)

    def of(self, action: Action) -> tuple[Step, ...]:
        """Return the steps of that action."""
        return tuple(step for step in self.steps if step.action is action)


def plan(
    desired: Sequence[Desired], actual: Iterable[Actual], owner: Owner, *, now: datetime, prune: bool = False
) -> Plan:
    """Return what makes the actual resources as the documents say, which name each resource once.

    With `prune`, what the owner declared before and no document declares any more is deleted; nobody else's ever is.
    """
    there = {(each.kind, each.name): each for each in actual}
    wanted = {(each.resource.kind, each.resource.name): each for each in desired}
    steps = [decide(each, there.get(key), owner, now=now) for key, each in wanted.items()]
    if prune:
        unnamed = [each for key, each in there.items() if key not in wanted]
        # What is not the owner's has no part in the plan: it is not even refused.
        ours = [each for each in unnamed if each.resource is not None and owner.owns(each.resource)]
        steps += [decide_removal(each.kind, each.name, each, owner) for each in ours]
    return Plan(tuple(_with_findings(sorted(steps, key=_place), there)))


def _place(step: Step) -> tuple[bool, int, str]:
    deleted = step.action is Action.DELETE
    rank = _ORDER[step.kind]
    return deleted, -rank if deleted else rank, step.name


def _with_findings(steps: Sequence[Step], there: Mapping[tuple[str, str], Actual]) -> Iterator[Step]:
    """Yield the steps with what only all of them together show."""
    after: dict[tuple[str, str], Resource | None] = {key: each.resource for key, each in there.items()}
    for step in steps:
        if step.action is Action.DELETE:
            after.pop((step.kind, step.name), None)
        elif step.writes:
            after[step.kind, step.name] = step.resource
    roles = {name for kind, name in after if kind == "Role"}
    users = [resource for resource in after.values() if isinstance(resource, User)]
    for step in steps:
        if step.action is Action.DELETE and step.kind == "Role":
            found = _still_named(step.name, users)
        else:
            found = missing_roles(step.resource, roles) if step.resource and step.action is not Action.REFUSE else ()
        yield replace(step, findings=(*step.findings, *found))


def named_roles(resource: Resource) -> tuple[str, ...]:
    """Return the declared roles that a resource names, each once."""
    match resource:
        case User():
            return tuple(dict.fromkeys(resource.spec.roles))
        case TrustedCluster():
            return tuple(dict.fromkeys(role for mapping in resource.spec.role_map for role in mapping.local))
    return ()


def missing_roles(resource: Resource, roles: Collection[str]) -> tuple[Finding, ...]:
    """Return a finding for each role that a resource names and that is not among those there are."""
    effect = "may do nothing until it does" if isinstance(resource, User) else "maps to nothing there"
    return tuple(
        Finding(Reason.ROLE_NOT_FOUND, f"has the role {role}, which does not exist: {effect}")
        for role in named_roles(resource)
        if role not in roles
    )


def _still_named(role: str, users: Iterable[User]) -> tuple[Finding, ...]:
    names = sorted(user.name for user in users if role in user.spec.roles)
    if not names:
        return ()
    who = f"user {names[0]} has" if len(names) == 1 else f"{len(names)} users ({', '.join(names[:3])}, …) have"
    return (Finding(Reason.ROLE_IN_USE, f"{who} this role, and may do nothing without it"),)
