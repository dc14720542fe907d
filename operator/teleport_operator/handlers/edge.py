"""What the handlers of all kinds share: unpack → reconcile → one patch of the status, an Event if it is news."""

from __future__ import annotations

import logging
from typing import Any

import kopf

from runtime.core.errors import InvalidInput, TeleportError, Unavailable
from runtime.core.resources import DeletionPolicy
from teleport_operator.context import Context
from teleport_operator.judging import conditions_of, judge, news_of_invite, ref_of, status_after
from teleport_operator.settings import LONGEST_AWAY_SECONDS, LONGEST_RETRY_SECONDS, retry_delay
from teleport_operator.verdicts.conditions import has_turned
from teleport_operator.verdicts.invitations import severity_of
from teleport_operator.verdicts.reconciling import Unready, forget

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

    Raises kopf's errors: one to try again after, unless only a person can mend the document. What waits for something
    else is done with here, and costs nothing until that changes (`teleport_operator.following.looking`).
    """
    context: Context = memo.context
    verdict, error = await judge(context, kind, body)
    if has_turned(verdict.ready, conditions_of(body)):
        severity = "Normal" if verdict.ready.status else "Warning"
        kopf.event(body, type=severity, reason=verdict.ready.reason.value, message=verdict.ready.message)
    for news in news_of_invite(verdict, body):
        kopf.event(body, type=severity_of(news), reason=f"Invite{news.reason.value}", message=news.message)
    patch.status.update(status_after(context, body, verdict))
    waits = isinstance(error, Unready) and context.objects.refers(ref_of(kind, body))
    if error is not None and not waits:
        raise as_kopf_error(error, retry) from error
    said = "" if verdict.ready.status else f", {verdict.ready.reason}: {verdict.ready.message}"
    logger.info("%s %s: %s%s", kind.lower(), body.metadata.name, verdict.result, said)


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
    policy = DeletionPolicy(body.spec.get("deletionPolicy", DeletionPolicy.DELETE))
    if policy is DeletionPolicy.KEEP and kind == "Token":
        # Its Secret is kept too, whether that was looked at since the document says so or not.
        _verdict, trouble = await judge(context, kind, body)
        context.objects.forget(ref_of(kind, body))
        if trouble is not None and not isinstance(trouble, InvalidInput):
            raise kopf.TemporaryError(trouble.in_full, delay=_delay(trouble, retry)) from trouble
    try:
        step = await forget(context.backend, context.clock, kind, name, body.metadata.namespace, policy)
    except TeleportError as error:
        context.metrics.reconciles.labels(kind, "failed").inc()
        raise kopf.TemporaryError(error.in_full, delay=_delay(error, retry)) from error
    context.metrics.reconciles.labels(kind, "written" if step.writes else "unchanged").inc()
    logger.info("%s %s: %s", kind.lower(), name, "deleted" if step.writes else step.message)


def as_kopf_error(error: TeleportError, retry: int) -> kopf.PermanentError | kopf.TemporaryError:
    """Return what tells kopf whether trying again can help: not for a document that somebody has to change."""
    if isinstance(error, InvalidInput) and not isinstance(error, Unready):
        return kopf.PermanentError(error.in_full)
    return kopf.TemporaryError(error.in_full, delay=_delay(error, retry))


def _delay(error: TeleportError, retry: int) -> float:
    """Return after how many seconds to try again; what is away may be back at any moment."""
    return retry_delay(retry, longest=LONGEST_AWAY_SECONDS if isinstance(error, Unavailable) else LONGEST_RETRY_SECONDS)
