"""What a document means for the backend, and what is then to be said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from runtime.backend.base import Backend
from runtime.backend.documents import BackendDocuments
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, InvalidInput, InvalidResource, TeleportError
from runtime.core.resources import DeletionPolicy, Origin, Resource, SealedCredentials, Token, User, encode, read_object
from runtime.core.resources.trusted_cluster import TrustMeans
from runtime.core.yaml_marks import show_path
from runtime.reconcile import (
    Action,
    Desired,
    Documents,
    Finding,
    Owner,
    Step,
    decide,
    missing_roles,
    named_roles,
    reconcile,
    remove,
)
from runtime.reconcile import Reason as PlanReason
from teleport_operator.objects import Known
from teleport_operator.verdicts import invitations
from teleport_operator.verdicts.conditions import Condition, Reason, ready, synced
from teleport_operator.verdicts.invitations import Invitation


class Unready(InvalidInput):
    """Something beside the document has to change first; `reason` says what in one word."""

    def __init__(self, reason: Reason, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Given:
    """What the Secret gives that a document refers to."""

    value: str | None = field(default=None, repr=False)
    """A token's."""
    credentials: SealedCredentials | None = None
    means: TrustMeans | None = None
    """By which a trusted cluster is joined."""
    trouble: Unready | None = None
    """Why it gives nothing: the rest of the document is written, and Ready tells of this."""
    invitation: Invitation = field(default_factory=Invitation)
    """A user's."""
    invite_before: Mapping[str, object] = field(default_factory=dict)
    """What the user's status says of its invite so far."""
    person: str = ""
    """Who a user is who is new."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found and done: for status, for metrics, and whether to look again though nothing changes here."""

    conditions: tuple[Condition, ...]
    result: str
    """written, unchanged, refused, drifted or failed."""
    again: bool = False
    fields: Mapping[str, object] = field(default_factory=dict)
    """Of status, beside the conditions."""
    known: Known = field(default_factory=lambda: Known(None))
    """What the backend holds now of what the document says."""
    changed: str = ""
    """The fields that were not as declared."""
    until: datetime | None = None
    """When something of it ends, and there is something else to say then."""

    @property
    def waits(self) -> bool:
        """Whether the document is right, but has no effect until something else changes."""
        return self.again or self.result == "refused"

    @property
    def ready(self) -> Condition:
        """The condition that sums up."""
        return next(each for each in self.conditions if each.type == "Ready")


async def declare(
    backend: Backend,
    clock: Clock,
    resource: Resource,
    given: Given | None = None,
    *,
    only_report: bool = False,
) -> Verdict:
    """Make the backend hold the resource as its document says, with what its Secret gives.

    With `only_report` a difference that somebody made in the backend is told of and left. Raises Unavailable.
    """
    given = given or Given()
    documents = BackendDocuments(backend)
    owner = Owner(Origin.KUBERNETES, resource.metadata.namespace)
    desired = Desired(
        resource,
        given.value,
        credentials=given.credentials,
        means=given.means,
        invite=given.invitation.new,
        person=given.person,
    )
    if only_report:
        there = await documents.get(resource.kind, resource.name)
        step = decide(Desired(resource), there, owner, now=clock.now())
        if step.writes:
            message = f"was changed elsewhere, and stays so (driftPolicy is Report): {_changed(step)}"
            known = _known(resource, there.resource if there else None)
            return Verdict(_neither(Reason.DRIFTED, message), "drifted", known=known)
    step = (await reconcile(documents, desired, owner, clock)).step
    if step.action is Action.REFUSE:
        conditions = _neither(step.reason, f"{step.message}. {step.hint}")
        return Verdict(conditions, "refused", known=Known(None, named_roles(resource), refused=True))
    missing = await _missing_roles(documents, resource)
    there_are = [role for role in named_roles(resource) if role not in missing]
    findings = (*step.findings, *missing_roles(resource, there_are))
    held = synced(Reason.RECONCILED, "the backend holds it as declared", status=True)
    if given.trouble is not None:
        summed_up = ready(given.trouble.reason, given.trouble.in_full)
    else:
        summed_up = ready(findings[0].reason, _text(findings)) if findings else ready(Reason.RECONCILED, held.message)
    invited = _invited(step, given, clock.now())
    return Verdict(
        (held, summed_up, *invited.conditions),
        "unchanged" if step.action is Action.UNCHANGED else "written",
        again=given.trouble is not None
        or given.invitation.trouble is not None
        or any(found.reason is PlanReason.ROLE_NOT_FOUND for found in findings),
        fields={**_fields(step), **invited.fields},
        known=_known(resource, step.resource, missing),
        changed=_changed(step),
        until=invited.until,
    )


async def forget(
    backend: Backend, clock: Clock, kind: str, name: str, namespace: str | None, policy: DeletionPolicy | None = None
) -> Step:
    """Make the backend forget what a document in that namespace declared; what others declared stays.

    What is to be kept stays too: by `policy`, which the document said last, else by what is stored.

    Raises Unavailable, InvalidResource for what cannot be read: it may be ours.
    """
    owner = Owner(Origin.KUBERNETES, namespace)
    step = (await remove(BackendDocuments(backend), kind, name, owner, clock, policy)).step
    if step.action is Action.REFUSE:
        raise InvalidResource(step.message, hint=step.hint)
    return step


def failed(error: TeleportError) -> Verdict:
    """Return what is to be said of a document that an error kept from being reconciled."""
    return Verdict(_neither(reason_of(error), error.in_full), "failed")


def reason_of(error: TeleportError) -> Reason:
    """Return the one word for conditions that this error makes untrue."""
    match error:
        case Unready(reason=reason):
            return reason
        case AccessDenied():
            return Reason.DENIED
        case InvalidInput():
            return Reason.INVALID
    return Reason.UNAVAILABLE


def read_document(body: Mapping[str, object], kind: str) -> Resource:
    """Return the resource of an object from the API server. Raises InvalidResource."""
    resource = read_object({**body}, source="the document")
    if resource.kind != kind:
        raise InvalidResource(f"the document is of kind {resource.kind}, not {kind}")
    return resource


async def _missing_roles(documents: Documents, resource: Resource) -> tuple[str, ...]:
    """Return the roles that the document names and that nobody declares."""
    return tuple([role for role in named_roles(resource) if await documents.get("Role", role) is None])


def _neither(reason: StrEnum, message: str) -> tuple[Condition, ...]:
    """Return what is said of a document that the backend does not hold as it is declared."""
    return synced(reason, message, status=False), ready(reason, message)


def _known(resource: Resource, stored: Resource | None, missing: tuple[str, ...] = ()) -> Known:
    return Known(encode(stored) if stored else None, named_roles(resource), missing)


def _changed(step: Step) -> str:
    """Return the fields that are not as declared."""
    if step.action is Action.CREATE:
        return "it was deleted"
    return ", ".join(show_path(change.path) for change in step.changes)


def _text(findings: tuple[Finding, ...]) -> str:
    return "; ".join(found.message for found in findings)


@dataclass(frozen=True, slots=True)
class _Invited:
    """What a verdict has of a user's invite."""

    conditions: tuple[Condition, ...] = ()
    fields: Mapping[str, object] = field(default_factory=dict)
    until: datetime | None = None


def _invited(step: Step, given: Given, now: datetime) -> _Invited:
    user = step.resource
    if not isinstance(user, User):
        return _Invited()
    invite = user.metadata.invite
    return _Invited(
        (invitations.condition(user, given.invitation, now),),
        {"invite": told} if (told := invitations.status(user, given.invite_before)) else {},
        invite.expires if invite is not None and invite.is_good(now) else None,
    )


def _fields(step: Step) -> dict[str, object]:
    """Return what is to be seen of a token at a glance."""
    token = step.resource
    if not isinstance(token, Token) or token.expires is None or token.metadata.issued is None:
        return {}
    return {"expires": f"{token.expires:%Y-%m-%dT%H:%M:%SZ}", "uses": token.metadata.issued.uses}
