"""Users: unpack → apply or remove → patch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import kopf

from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, InvalidInput, InvalidResource, TeleportError, Unavailable
from runtime.core.resources import GROUP, VERSION, DeletionPolicy, User, read_object
from teleport_operator import users
from teleport_operator.conditions import Reason, ready, status_with
from teleport_operator.context import Context

RETRY_SECONDS = 10.0
"""The pause before the backend is asked again."""


@kopf.on.resume(GROUP, VERSION, "users")
@kopf.on.create(GROUP, VERSION, "users")
@kopf.on.update(GROUP, VERSION, "users")
async def user_declared(body: kopf.Body, patch: kopf.Patch, memo: kopf.Memo, logger: kopf.Logger, **_: Any) -> None:
    """Bring the backend to what a document says: a new one, a changed one, or one found at the start."""
    context: Context = memo.context
    try:
        written = await users.apply(context.backend, read_user(body))
    except TeleportError as error:
        patch.status.update(report(reason_of(error), text_of(error), body, context.clock))
        raise as_kopf_error(error) from error
    logger.info("user %s %s", body.metadata.name, "written" if written else "is as declared")
    patch.status.update(report(Reason.RECONCILED, "the backend holds it as declared", body, context.clock))


@kopf.on.delete(GROUP, VERSION, "users")
async def user_deleted(body: kopf.Body, memo: kopf.Memo, logger: kopf.Logger, **_: Any) -> None:
    """Make the backend forget the user; the finalizer keeps the document until that has succeeded.

    So every error here is one to try again after: giving up would leave somebody in who was told to go.
    """
    context: Context = memo.context
    if body.spec.get("deletionPolicy") == DeletionPolicy.KEEP:
        logger.info("user %s stays in the backend: deletionPolicy is Keep", body.metadata.name)
        return
    try:
        removed = await users.remove(context.backend, str(body.metadata.name), body.metadata.namespace)
    except TeleportError as error:
        raise kopf.TemporaryError(text_of(error), delay=RETRY_SECONDS) from error
    logger.info("user %s %s", body.metadata.name, "deleted" if removed else "was not there, or is not ours")


def read_user(body: Mapping[str, Any]) -> User:
    """Return the user of a document from the API server. Raises InvalidResource."""
    resource = read_object({**body}, source="the document")
    if not isinstance(resource, User):
        raise InvalidResource(f"the document is of kind {resource.kind}, not User")
    return resource


def reason_of(error: TeleportError) -> Reason:
    """Return the one word for a condition that this error makes untrue."""
    match error:
        case AccessDenied():
            return Reason.OTHER_OWNER
        case Unavailable():
            return Reason.BACKEND_UNAVAILABLE
        case _:
            return Reason.INVALID


def text_of(error: TeleportError) -> str:
    """Return what happened and what to do next, as one text."""
    return f"{error}. {error.hint}" if error.hint else str(error)


def as_kopf_error(error: TeleportError) -> kopf.PermanentError | kopf.TemporaryError:
    """Return what tells kopf whether trying again can help: not for a document that somebody has to change."""
    if isinstance(error, (InvalidInput, AccessDenied)):
        return kopf.PermanentError(text_of(error))
    return kopf.TemporaryError(text_of(error), delay=RETRY_SECONDS)


def report(reason: Reason, message: str, body: Mapping[str, Any], clock: Clock) -> dict[str, object]:
    """Return the status that says so of this document."""
    previous: Iterable[Mapping[str, object]] = body.get("status", {}).get("conditions", [])
    generation = int(body["metadata"].get("generation", 0))
    return status_with(ready(reason, message), generation=generation, previous=previous, now=clock.now())
