"""What the release itself declares: the documents in a folder become objects of the operator's own namespace.

A release cannot hold custom resources of definitions that it brings along: Helm knows no such kind before it has begun.
So the chart puts its Tokens and TrustedClusters into a ConfigMap, and here they are made, changed and removed with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runtime.core import yaml_marks
from runtime.core.errors import AlreadyExists, CompareFailed, InvalidResource, NotFound, TeleportError
from runtime.core.resources import API_VERSION, GROUP

logger = logging.getLogger(__name__)

LABEL = f"{GROUP}/declared-by"
"""On an object that was made here: which release declares it. Others' objects are never touched."""

KINDS = ("Token", "TrustedCluster")
"""What a release may declare; the operator has no right to make anything else."""

LOOK_SECONDS = 2.0
"""Between two looks at the folder: the kubelet renews it within a minute after the ConfigMap."""
AGAIN_SECONDS = 60.0
"""Between two looks at the objects: what somebody has deleted comes back."""


class Api(Protocol):
    """What is needed of the API server (`teleport_operator.kubernetes.api_server.ApiServer`)."""

    async def get(self, path: str) -> dict[str, Any]:
        """Return an object, or a list of them. Raises NotFound."""
        ...

    async def create(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Create an object in a collection. Raises AlreadyExists."""
        ...

    async def replace(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Replace an object of that resourceVersion. Raises CompareFailed, NotFound."""
        ...

    async def delete(self, path: str) -> None:
        """Delete an object. Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder, the namespace in which its documents hold, and the name of whoever declares them."""

    path: Path
    namespace: str
    owner: str

    def read(self) -> dict[str, str]:
        """Return the text of each file. Raises InvalidResource."""
        try:
            return {file.name: file.read_text() for file in sorted(self.path.glob("*.yaml"))}
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidResource(f"{self.path}: {error}", hint="It is looked at again.") from error

    def collection(self, kind: str) -> str:
        """Return the path of all objects of a kind."""
        return f"/apis/{API_VERSION}/namespaces/{self.namespace}/{kind.lower()}s"


async def keep(
    api: Api, folder: Folder, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep, again: float = AGAIN_SECONDS
) -> None:
    """Bring objects to what the folder says, again when it changes and now and then, until cancelled."""
    done: dict[str, str] | None = None
    said = ""
    waited = 0.0
    while True:
        try:
            texts = folder.read()
            if texts != done or waited >= again:
                # At a change everything is written: a field that is no longer there goes too.
                await apply(api, folder, texts, rewrite=texts != done)
                done, said, waited = texts, "", 0.0
        except TeleportError as error:
            done = None
            if str(error) != said:
                said = str(error)
                logger.error("the documents of the release: %s. %s", error, error.hint)  # noqa: TRY400 - no bug of ours
        await pause(LOOK_SECONDS)
        waited += LOOK_SECONDS


async def apply(api: Api, folder: Folder, texts: Mapping[str, str], *, rewrite: bool = True) -> None:
    """Make and change the objects that the texts declare, and delete those that they no longer do.

    Without `rewrite` only what is missing is made. One that fails holds up no other; raises the first error at the end.
    """
    failures: list[TeleportError] = []
    wanted = [document for name, text in texts.items() for document in documents(name, text)]
    for document in wanted:
        try:
            await _declare(api, folder, document, rewrite=rewrite)
        except TeleportError as error:
            failures.append(error)
    if rewrite:
        names = {(document["kind"], document["metadata"]["name"]) for document in wanted}
        for kind in KINDS:
            try:
                await _prune(api, folder, kind, {name for each, name in names if each == kind})
            except TeleportError as error:
                failures.append(error)
    if failures:
        raise failures[0]


def documents(source: str, text: str) -> list[dict[str, Any]]:
    """Return the documents of a text. Raises InvalidResource for what no release declares."""
    found: list[dict[str, Any]] = []
    for document in yaml_marks.load(text, source=source, raises=InvalidResource):
        data: Any = document.data
        match data:
            case {"apiVersion": str(version), "kind": str(kind), "metadata": {"name": str()}, "spec": dict()} if (
                version == API_VERSION and kind in KINDS
            ):
                found.append(data)
            case None:
                continue
            case _:
                raise InvalidResource(
                    f"{source}:{document.line_of()}: expected a {' or a '.join(KINDS)} of {API_VERSION} with a name",
                    hint="Apply anything else yourself.",
                )
    return found


async def _declare(api: Api, folder: Folder, document: Mapping[str, Any], *, rewrite: bool) -> None:
    kind, name = document["kind"], document["metadata"]["name"]
    collection = folder.collection(kind)
    try:
        there = await api.get(f"{collection}/{name}")
    except NotFound:
        metadata = {"name": name, "namespace": folder.namespace, "labels": {LABEL: folder.owner}}
        try:
            await api.create(collection, {**document, "metadata": metadata})
        except AlreadyExists as error:
            raise CompareFailed(f"{kind} {name} was made meanwhile", hint="It is looked at again.") from error
        logger.info("made %s %s, which the release declares", kind, name)
        return
    if (there["metadata"].get("labels") or {}).get(LABEL) != folder.owner:
        raise InvalidResource(
            f"{kind} {name} is there already, and not this release's",
            hint=f"Delete it, or let the release have it: kubectl label {kind.lower()} {name} {LABEL}={folder.owner}",
        )
    if rewrite and "deletionTimestamp" not in there["metadata"]:
        await api.replace(f"{collection}/{name}", {**there, "spec": document["spec"]})


async def _prune(api: Api, folder: Folder, kind: str, wanted: set[str]) -> None:
    collection = folder.collection(kind)
    listed = await api.get(f"{collection}?labelSelector={LABEL}%3D{folder.owner}")
    for each in listed["items"]:
        name = each["metadata"]["name"]
        if name not in wanted and "deletionTimestamp" not in each["metadata"]:
            await api.delete(f"{collection}/{name}")
            logger.info("deleted %s %s, which the release no longer declares", kind, name)
