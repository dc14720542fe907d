"""One object from the API server, judged: what its document asks for is done, and the verdict is remembered."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from runtime.core.errors import TeleportError
from runtime.core.resources import DriftPolicy, Resource, Token, TrustedCluster, User
from teleport_operator.context import Context
from teleport_operator.inviting import invite, told
from teleport_operator.objects import Known, Ref
from teleport_operator.secrets.credentials import credentials_of, trust_means_of
from teleport_operator.secrets.referenced import NotedSecrets, secrets_of
from teleport_operator.secrets.tokens import value_of
from teleport_operator.settings import RECHECK_SECONDS, retry_delay
from teleport_operator.verdicts import invitations
from teleport_operator.verdicts.conditions import Condition, Reason, status_with
from teleport_operator.verdicts.reconciling import Given, Unready, Verdict, declare, failed, read_document
from teleport_operator.verdicts.trust import read_told, with_trust

Body = Mapping[str, Any]
"""An object as the API server gives it."""


def ref_of(kind: str, body: Body) -> Ref:
    """Return what an object is called."""
    return Ref(kind, str(body["metadata"].get("namespace") or ""), str(body["metadata"]["name"]))


async def judge(context: Context, kind: str, body: Body) -> tuple[Verdict, TeleportError | None]:
    """Bring the backend to what a document says, or find out why that cannot be; the error is part of the verdict."""
    error: TeleportError | None = None
    ref = ref_of(kind, body)
    facts = context.facts.version
    try:
        resource = read_document(body, kind)
        context.objects.refer(ref, secrets_of(resource))
        found = NotedSecrets(context.api, context.objects, ref)
        given = await _given(found, context, resource, str(body["metadata"]["uid"]))
        if isinstance(resource, User):
            given = await _invited(context, resource, body, given)
        verdict = await declare(
            context.backend,
            context.clock,
            resource,
            given,
            only_report=_reports_only(resource, body) and given.invitation.new is None,
        )
        if isinstance(resource, TrustedCluster) and verdict.known.stored is not None:
            verdict = with_trust(verdict, resource, await read_told(context.backend, resource.name))
        context.objects.note(ref, verdict.known)
        _note_end(context, ref, verdict)
        if facts != context.facts.version:  # learnt meanwhile, when nobody knew yet that this object uses them
            context.deadlines[ref] = context.clock.now()
    except TeleportError as caught:
        error, verdict = caught, failed(caught)
        if context.objects.get(ref) is None:  # else what was known of it is as true as before
            context.objects.note(ref, Known(None))
        if isinstance(caught, Unready) and context.objects.refers(ref):
            context.deadlines[ref] = _recheck(context)
    context.metrics.reconciles.labels(kind, verdict.result).inc()
    return verdict, error


def status_after(context: Context, body: Body, verdict: Verdict) -> dict[str, object]:
    """Return what of the object's status changes; empty if it says all that already."""
    before: Mapping[str, object] = body.get("status", {})
    generation = int(body["metadata"].get("generation", 0))
    said = status_with(verdict.conditions, generation=generation, previous=conditions_of(body), now=context.clock.now())
    after: dict[str, object] = {**verdict.fields, **said}
    return {name: value for name, value in after.items() if before.get(name) != value}


def news_of_invite(verdict: Verdict, body: Body) -> list[Condition]:
    """Return what an Event should tell of the user's invite."""
    before = {each.get("type"): each for each in conditions_of(body)}
    return [each for each in verdict.conditions if invitations.is_news(each, before.get(each.type, {}))]


def conditions_of(body: Body) -> Iterable[Mapping[str, object]]:
    """Return the conditions that an object has so far."""
    found: Iterable[Mapping[str, object]] = body.get("status", {}).get("conditions", [])
    return [dict(each) for each in found]


async def _given(found: NotedSecrets, context: Context, resource: Resource, uid: str) -> Given:
    """Return what the document's Secret gives, or why it gives nothing: what else it says is done all the same.

    A Token without its value is nothing, though. Raises Unready for one, and what the API server and the backend raise.
    """
    try:
        match resource:
            case Token():
                beside = context.facts.beside_token()
                now = context.clock.now()
                value = await value_of(
                    found, resource, uid, now=now, new_value=lambda: secrets.token_hex(16), beside=beside
                )
                return Given(value=value)
            case User():
                return Given(credentials=await credentials_of(found, context.backend, resource))
            case TrustedCluster():
                return Given(means=await trust_means_of(found, context.backend, resource))
    except Unready as trouble:
        if isinstance(resource, Token):
            raise
        return Given(trouble=trouble)
    return Given()


async def _invited(context: Context, user: User, body: Body, given: Given) -> Given:
    """Return what the document's Secret gives, and with it the user's invite."""
    return replace(
        given,
        invitation=await invite(context, user, body),
        invite_before=told(body),
        person=hashlib.sha256(str(body["metadata"]["uid"]).encode()).hexdigest()[:32],
    )


def _note_end(context: Context, ref: Ref, verdict: Verdict) -> None:
    """Remember when to look again, though nothing has changed."""
    ends = [verdict.until] if verdict.until else []
    if ends := [*ends, *([_recheck(context)] if verdict.waits else [])]:
        context.deadlines[ref] = min(ends)
    else:
        context.deadlines.pop(ref, None)


def _recheck(context: Context) -> datetime:
    """Return when to look again at what waits for something else, though nobody should have noticed that change."""
    return context.clock.now() + timedelta(seconds=retry_delay(0, RECHECK_SECONDS))


def _reports_only(resource: Resource, body: Body) -> bool:
    """Return whether a difference is drift that is only to be told of: the document as it is was written before."""
    if not isinstance(resource, User) or resource.spec.drift_policy is not DriftPolicy.REPORT:
        return False
    synced = next((each for each in conditions_of(body) if each.get("type") == "Synced"), {})
    return synced.get("observedGeneration") == body["metadata"].get("generation") and (
        synced.get("status") == "True" or synced.get("reason") == Reason.DRIFTED
    )
