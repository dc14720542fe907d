"""What to do about one resource. Read from top to bottom, this is the rule of origins."""

from __future__ import annotations

from datetime import datetime

from runtime.core.durations import format_duration
from runtime.core.resources import DeletionPolicy, Resource, Token, TrustedCluster, User, encode
from runtime.core.resources.token import digest_of
from runtime.core.resources.trusted_cluster import means_of
from runtime.reconcile.differences import SECRET, Change, differences
from runtime.reconcile.steps import Action, Actual, Desired, Finding, Owner, Reason, Step, owner_of

_CHANGE_IT_THERE = (
    'Change it there, choose another name, or annotate the document: teleport.internal/adopt: "true" takes it over.'
)

_UPGRADE = "A newer version may have written it: upgrade this one."


def decide(desired: Desired, actual: Actual | None, owner: Owner, *, now: datetime) -> Step:
    """Return what makes the resource as the document says."""
    before = actual.resource if actual else None
    wanted = _stored(desired, before, owner, now)
    kind, name = wanted.kind, wanted.name

    def step(action: Action, reason: Reason, message: str, *, hint: str = "") -> Step:
        revision = actual.revision if actual else 0
        writes = action not in (Action.REFUSE, Action.UNCHANGED)
        changes = (*differences(before, wanted), *_credentials(desired, before)) if writes else ()
        findings = _findings(wanted, before, now)
        return Step(action, kind, name, reason, message, hint, wanted, revision, changes, findings, desired)

    if actual is None:
        return step(Action.CREATE, Reason.NEW, "is new")
    if before is None:
        return step(Action.REFUSE, Reason.UNREADABLE, actual.problem, hint=_UPGRADE)
    if not owner.owns(before):
        if wanted.metadata.adopt:
            return step(Action.ADOPT, Reason.ADOPTED, f"was declared by {owner_of(before)}")
        what = f"{kind.lower()} {name} is declared by {owner_of(before)}, not by {owner}"
        return step(Action.REFUSE, Reason.OTHER_OWNER, what, hint=_CHANGE_IT_THERE)
    if encode(wanted) != encode(before):
        return step(Action.UPDATE, Reason.CHANGED, "is not as declared")
    if isinstance(wanted, Token) and wanted.metadata.issued is None:
        return step(Action.UPDATE, Reason.CHANGED, "has no value yet")
    if _credentials(desired, before):
        return step(Action.UPDATE, Reason.CHANGED, "has other credentials")
    return step(Action.UNCHANGED, Reason.AS_DECLARED, "is as declared")


def decide_removal(
    kind: str, name: str, actual: Actual | None, owner: Owner, policy: DeletionPolicy | None = None
) -> Step:
    """Return what makes sure that the owner declares no such resource. What others declare, and `Keep`, stays.

    `policy` is what the document said last, where that is known; else what is stored counts.
    """

    def step(action: Action, reason: Reason, message: str, *, hint: str = "") -> Step:
        revision = actual.revision if actual else 0
        return Step(action, kind, name, reason, message, hint, revision=revision, policy=policy)

    if actual is None:
        return step(Action.UNCHANGED, Reason.GONE, "there is none")
    if actual.resource is None:
        return step(Action.REFUSE, Reason.UNREADABLE, actual.problem, hint=_UPGRADE)
    if not owner.owns(actual.resource):
        return step(Action.UNCHANGED, Reason.OTHER_OWNER, f"is declared by {owner_of(actual.resource)}")
    if (policy or actual.resource.spec.deletion_policy) is DeletionPolicy.KEEP:
        return step(Action.UNCHANGED, Reason.KEPT, "its deletionPolicy is Keep")
    return step(Action.DELETE, Reason.NOT_DECLARED, "no document declares it any more")


def _stored(desired: Desired, before: Resource | None, owner: Owner, now: datetime) -> Resource:
    """Return the document as it is to be stored: with its origin, and a token with what is known of its value."""
    resource = _placed(desired.resource.with_origin(owner.origin), before)
    if isinstance(resource, User):
        user = resource.as_kept(before if isinstance(before, User) else None)
        if before is None and desired.person:
            user = user.with_id(desired.person)
        if user.spec.credentials_secret_ref is not None:
            user = user.with_invite(None)
        user = user.with_invite(desired.invite) if desired.invite else user
        if resource.spec.credentials_secret_ref is None or (before is not None and not owner.owns(before)):
            return user.with_credentials(None).with_credentials(desired.credentials)
        return user.with_credentials(desired.credentials) if desired.credentials else user
    if isinstance(resource, TrustedCluster):
        cluster = resource.with_means(before.metadata.means if isinstance(before, TrustedCluster) else None)
        if desired.value is not None:
            return cluster.given(means_of(desired.value))
        return cluster.given(desired.means) if desired.means is not None else cluster
    if not isinstance(resource, Token):
        return resource
    token = resource.with_issue(before.metadata.issued if isinstance(before, Token) else None)
    return token if desired.value is None else token.issued_as(digest_of(desired.value), now)


def _placed(resource: Resource, before: Resource | None) -> Resource:
    """Return it in the namespace that it has, where the document names none: kubectl's own say one of each object."""
    if before is None or resource.metadata.namespace is not None:
        return resource
    metadata = resource.metadata.model_copy(update={"namespace": before.metadata.namespace})
    return resource.model_copy(update={"metadata": metadata})


def _credentials(desired: Desired, before: Resource | None) -> tuple[Change, ...]:
    """Tell that a user gets what its Secret holds, not what that is."""
    if desired.login is None or desired.login.held:
        return ()
    return (Change(("credentials",), SECRET if before else None, SECRET),)


def _findings(wanted: Resource, before: Resource | None, now: datetime) -> tuple[Finding, ...]:
    """Return what a resource itself shows to be without the effect that it seems to have."""
    if isinstance(wanted, TrustedCluster) and wanted.metadata.means is None:
        message = f"cannot be trusted without its Secret {wanted.secret()[0]}, which was not given"
        return (Finding(Reason.NO_SECRET, message),)
    if isinstance(wanted, User) and (found := _credentials_awaited(wanted)):
        return (found,)
    if isinstance(wanted, Token) and isinstance(before, Token):
        return tuple(found for check in (_expired, _used_up) if (found := check(wanted, now)))
    return ()


def _credentials_awaited(user: User) -> Finding | None:
    credentials = user.metadata.credentials
    if credentials is None or credentials.taken is not None:
        return None
    if credentials.problem:
        message = f"cannot log in with what its Secret holds: {credentials.problem}"
        return Finding(Reason.CREDENTIALS_REFUSED, message)
    return Finding(Reason.CREDENTIALS_PENDING, "can log in once an auth server has taken over what its Secret holds")


_ANEW = "to have it anew, change the value in its Secret, or delete it (tctl rm token/{}) and apply again"


def _expired(token: Token, now: datetime) -> Finding | None:
    if token.expires is None or now < token.expires:
        return None
    lived = f"{format_duration(token.spec.ttl)} after its value was issued"
    message = f"expired at {token.expires:%Y-%m-%d %H:%M} UTC, {lived}; {_ANEW.format(token.name)}"
    return Finding(Reason.EXPIRED, message)


def _used_up(token: Token, now: datetime) -> Finding | None:
    if token.uses_left != 0:
        return None
    return Finding(Reason.USED_UP, f"is used up: {token.spec.max_uses} joined with it; {_ANEW.format(token.name)}")
