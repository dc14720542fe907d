"""What the handlers of all kinds share: unpack → reconcile → one patch of the status, an Event if it is news."""

from __future__ import annotations

import logging
from typing import Any

import kopf

from runtime.core.errors import InvalidInput, TeleportError
from runtime.core.resources import DeletionPolicy
from teleport_operator.conditions import has_turned
from teleport_operator.context import Context
from teleport_operator.judging import conditions_of, judge, ref_of, status_after
from teleport_operator.reconciling import Unready, Verdict, forget, text_of
from teleport_operator.settings import RECHECK_SECONDS, retry_delay

Logger = logging.Logger | logging.LoggerAdapter[Any]


async def declared(
    kind: str,
    *,
    body: kopf.Body,
    patch: kopf.Patch,
    memo: kopf.Memo,
    retry: int,
    logger: Logger,
    **_: Any,
) -> None:
    """Bring the backend to what a document says: a new one, a changed one, or one found at the start.

    Raises kopf's errors: one to try again after, unless only a person can mend the document.
    """
    context: Context = memo.context
    verdict, error = await judge(context, kind, body)
    if has_turned(verdict.ready, conditions_of(body)):
        severity = "Normal" if verdict.ready.status else "Warning"
        kopf.event(body, type=severity, reason=verdict.ready.reason.value, message=verdict.ready.message)
    patch.status.update(status_after(context, body, verdict))
    if error is not None:
        raise as_kopf_error(error, retry) from error
    if ended := end_of(verdict, retry):
        raise ended
    logger.info("%s %s: %s", kind.lower(), body.metadata.name, verdict.result)


async def deleted(
    kind: str,
    *,
    body: kopf.Body,
    memo: kopf.Memo,
    retry: int,
    logger: Logger,
    **_: Any,
) -> None:
    """Make the backend forget what the document declared; the finalizer keeps the document until that has succeeded.

    So every error here is one to try again after: giving up would leave somebody in who was told to go.
    """
    context: Context = memo.context
    name = str(body.metadata.name)
    context.objects.forget(ref_of(kind, body))
    if body.spec.get("deletionPolicy") == DeletionPolicy.KEEP:
        logger.info("%s %s stays in the backend: deletionPolicy is Keep", kind.lower(), name)
        return
    try:
        step = await forget(context.backend, context.clock, kind, name, body.metadata.namespace)
    except TeleportError as error:
        context.metrics.reconciles.labels(kind, "failed").inc()
        raise kopf.TemporaryError(text_of(error), delay=retry_delay(retry)) from error
    context.metrics.reconciles.labels(kind, "written" if step.writes else "unchanged").inc()
    logger.info("%s %s: %s", kind.lower(), name, "deleted" if step.writes else step.message)


def as_kopf_error(error: TeleportError, retry: int) -> kopf.PermanentError | kopf.TemporaryError:
    """Return what tells kopf whether trying again can help: not for a document that somebody has to change."""
    if isinstance(error, InvalidInput) and not isinstance(error, Unready):
        return kopf.PermanentError(text_of(error))
    return kopf.TemporaryError(text_of(error), delay=retry_delay(retry))


def end_of(verdict: Verdict, retry: int) -> kopf.TemporaryError | None:
    """Return what has kopf look again at a document that is right, but has no effect until something else changes."""
    if verdict.result == "refused" or verdict.again:
        return kopf.TemporaryError(verdict.ready.message, delay=retry_delay(retry, RECHECK_SECONDS))
    return None
