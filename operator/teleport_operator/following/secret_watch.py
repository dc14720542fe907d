"""Follows the Secrets that documents refer to, so that a change to one, or its appearance, counts within seconds.

The API server is asked for metadata only, and only of Secrets that let documents refer to them (`OPT_IN`): no value
comes in here, and nothing of any other Secret. What one holds is read when a document that refers to it is judged.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

from runtime.core.errors import AccessDenied, TeleportError, Unavailable
from teleport_operator.context import Context
from teleport_operator.following.looking import SECRETS, Looking
from teleport_operator.kubernetes.watches import Watched, Watches
from teleport_operator.objects import NO_SECRET, Ref
from teleport_operator.secrets.tokens import OPT_IN

logger = logging.getLogger(__name__)

WATCH_SECONDS = 300
"""How long one watch lasts before it is opened anew."""
PAGE = 500
AGAIN_SECONDS = 1.0
"""Before the Secrets are listed anew."""
FORBIDDEN_SECONDS = 60.0
"""Without the right to watch Secrets, those that are referred to are looked at this often."""

_FORM = "application/json;as=%s;g=meta.k8s.io;v=v1"
LIST_FORM = _FORM % "PartialObjectMetadataList"
WATCH_FORM = _FORM % "PartialObjectMetadata"

Versions = dict[str, str]
"""The resourceVersion of each Secret, by name."""


class SecretWatch:
    """Has objects looked at when a Secret that they refer to has changed, in one namespace or in all."""

    def __init__(
        self, context: Context, looking: Looking, watches: Watches, *, namespace: str = "", silence: float
    ) -> None:
        """Take it that a watch is dead on which nothing was heard for `silence` seconds."""
        self._context = context
        self._looking = looking
        self._watches = watches
        self._watched = Watched("secrets", namespace)
        self._namespace = namespace
        self._path = f"/api/v1/namespaces/{namespace}/secrets" if namespace else "/api/v1/secrets"
        self._silence = silence
        self._forbidden = False

    async def run(self) -> None:
        """Follow them for ever."""
        while True:
            try:
                version = await self._list()
                while True:
                    version = await self._watch(version)
            except AccessDenied as error:
                await self._refused(error)
            except TeleportError as error:
                logger.info("the Secrets are listed anew: %s", error)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _list(self) -> str:
        """Compare all with what documents were judged by; return the version from which to watch."""
        found: dict[str, Versions] = {}
        query = {"labelSelector": f"{OPT_IN}=true", "limit": str(PAGE)}
        while True:
            page = await self._context.api.get(f"{self._path}?{urlencode(query)}", accept=LIST_FORM)
            for item in page.get("items") or []:
                metadata = item["metadata"]
                found.setdefault(metadata["namespace"], {})[metadata["name"]] = metadata["resourceVersion"]
            if not (more := page["metadata"].get("continue")):
                break
            query["continue"] = more
        if self._forbidden:
            self._forbidden = False
            logger.info("the Secrets that documents refer to are watched")
        self._heard()
        for ref, name in self._context.objects.references():
            if not self._namespace or ref.namespace == self._namespace:
                self._compare(ref, name, found.get(ref.namespace, {}).get(name, NO_SECRET))
        return str(page["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str:
        """Follow them until the API server ends the watch; return the version reached."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            "labelSelector": f"{OPT_IN}=true",
            "resourceVersion": version,
        }
        path = f"{self._path}?{urlencode(query)}"
        async with aclosing(self._context.api.follow(path, accept=WATCH_FORM, silence=self._silence)) as lines:
            async for line in lines:
                self._heard()
                version = self._take(line) or version
        return version

    def _take(self, line: bytes) -> str:
        """Take in one event of a watch, and return the version that it brings.

        Raises Unavailable for what is none, and where the API server no longer remembers what happened since.
        """
        try:
            event: Mapping[str, Any] = json.loads(line)
            kind, subject = event["type"], event["object"]
            if kind == "ERROR":
                raise Unavailable(f"the watch on Secrets ended: {subject.get('message')}")
            metadata = subject["metadata"]
            version = str(metadata["resourceVersion"])
            if kind != "BOOKMARK":
                self._changed(metadata["namespace"], metadata["name"], NO_SECRET if kind == "DELETED" else version)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"the watch on Secrets brought what is no event: {error}") from error
        return version

    def _changed(self, namespace: str, name: str, version: str) -> None:
        for ref, secret in self._context.objects.references():
            if (ref.namespace, secret) == (namespace, name):
                self._compare(ref, name, version)

    def _compare(self, ref: Ref, secret: str, version: str) -> None:
        """Have an object looked at, unless it turns out to have been judged by just this version."""

        def differs() -> bool:
            return self._context.objects.sees(ref, secret, version)

        if differs():
            self._looking.look(ref, f"{SECRETS}/{secret}", differs)

    async def _refused(self, error: AccessDenied) -> None:
        """Do without the watch, for a while."""
        if not self._forbidden:
            self._forbidden = True
            logger.warning("Secrets that documents refer to are looked at once a minute only: %s", error)
        self._watches.forget(self._watched)
        await asyncio.sleep(FORBIDDEN_SECONDS)
        for ref, _ in self._context.objects.references():
            if not self._namespace or ref.namespace == self._namespace:
                self._looking.look(ref, SECRETS)

    def _heard(self) -> None:
        self._watches.heard(self._watched)
