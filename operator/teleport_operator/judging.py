"""One object from the API server, judged: what its document asks for is done, and the verdict is remembered."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from runtime.core.errors import TeleportError
from runtime.core.resources import DriftPolicy, Resource, Token, User
from teleport_operator.conditions import Reason, status_with
from teleport_operator.context import Context
from teleport_operator.objects import Known, Ref
from teleport_operator.reconciling import Verdict, declare, failed, read_document
from teleport_operator.token_secrets import value_of

Body = Mapping[str, Any]
"""An object as the API server gives it."""


def ref_of(kind: str, body: Body) -> Ref:
    """Return what an object is called."""
    return Ref(kind, str(body["metadata"].get("namespace") or ""), str(body["metadata"]["name"]))


async def judge(context: Context, kind: str, body: Body) -> tuple[Verdict, TeleportError | None]:
    """Bring the backend to what a document says, or find out why that cannot be; the error is part of the verdict."""
    error: TeleportError | None = None
    try:
        resource = read_document(body, kind)
        value = await _value(context, resource, str(body["metadata"]["uid"]))
        only_report = _reports_only(resource, body)
        verdict = await declare(context.backend, context.clock, resource, value, only_report=only_report)
        context.objects.note(ref_of(kind, body), verdict.known)
    except TeleportError as caught:
        error, verdict = caught, failed(caught)
        context.objects.note(ref_of(kind, body), Known(None))
    context.metrics.reconciles.labels(kind, verdict.result).inc()
    return verdict, error


def status_after(context: Context, body: Body, verdict: Verdict) -> dict[str, object]:
    """Return what of the object's status changes; empty if it says all that already."""
    before: Mapping[str, object] = body.get("status", {})
    generation = int(body["metadata"].get("generation", 0))
    said = status_with(verdict.conditions, generation=generation, previous=conditions_of(body), now=context.clock.now())
    after: dict[str, object] = {**verdict.fields, **said}
    return {name: value for name, value in after.items() if before.get(name) != value}


def conditions_of(body: Body) -> Iterable[Mapping[str, object]]:
    """Return the conditions that an object has so far."""
    found: Iterable[Mapping[str, object]] = body.get("status", {}).get("conditions", [])
    return [dict(each) for each in found]


async def _value(context: Context, resource: Resource, uid: str) -> str | None:
    if not isinstance(resource, Token):
        return None
    return await value_of(context.api, resource, uid, new_value=lambda: secrets.token_hex(16))


def _reports_only(resource: Resource, body: Body) -> bool:
    """Return whether a difference is drift that is only to be told of: the document as it is was written before."""
    if not isinstance(resource, User) or resource.spec.drift_policy is not DriftPolicy.REPORT:
        return False
    synced = next((each for each in conditions_of(body) if each.get("type") == "Synced"), {})
    return synced.get("observedGeneration") == body["metadata"].get("generation") and (
        synced.get("status") == "True" or synced.get("reason") == Reason.DRIFTED
    )
