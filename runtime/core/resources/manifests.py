"""Manifests: the folder of YAML that a person keeps for kubectl. Our documents, the Secrets beside them, and others."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from runtime.core import yaml_marks
from runtime.core.errors import InvalidResource
from runtime.core.resources.document import DECLARED, EXPLAINED, Part, Reader, Seen, parts
from runtime.core.resources.explain import Mistake
from runtime.core.resources.model import GROUP, Resource
from runtime.core.resources.names import shown

_CORE = "v1"
_MISSPELT = 0.8
"""From this likeness on another group's name is taken for a slip of the pen in ours."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One of our documents, and where it stands (`FILE:LINE`)."""

    resource: Resource
    place: str


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret of Kubernetes: its texts by key. What is no text is left out, for we refer to texts only."""

    name: str
    namespace: str | None
    values: Mapping[str, str] = field(repr=False)
    place: str


@dataclass(frozen=True, slots=True)
class Manifests:
    """What several texts hold; `skipped` tells of documents that are not for us, such as `a.yaml:7: ConfigMap x`."""

    resources: tuple[Manifest, ...]
    secrets: tuple[Secret, ...]
    skipped: tuple[str, ...]


def load_manifests(texts: Iterable[tuple[str, str]]) -> Manifests:
    """Return what is in texts, given with their names: documents as load_documents takes them, and Secrets.

    Documents of other groups are skipped, whatever their kind: a Role of rbac.authorization.k8s.io is not ours. Without
    Kubernetes a name is the cluster's, whatever its namespace, so that one that is there twice is a mistake.

    Raises InvalidResource with the mistakes of all texts at once.
    """
    seen: Seen = {}
    found: list[Manifest] = []
    secrets: list[Secret] = []
    skipped: list[str] = []
    mistakes: list[str] = []
    for source, text in texts:
        try:
            documents = yaml_marks.load(text, source=source, raises=InvalidResource)
        except InvalidResource as error:
            mistakes.append(error.in_full)
            continue
        reader = Reader(source, seen)
        for part in parts(documents):
            if _is_foreign(part.data):
                skipped.append(f"{reader.place(part)}: {_title(part.data)}")
            elif _is_secret(part.data):
                secrets += _secret(part, reader)
            elif resource := reader.read(part):
                found.append(Manifest(resource, reader.place(part)))
        mistakes += reader.mistakes()
    mistakes += _twice(found)
    if mistakes:
        raise InvalidResource("\n".join(mistakes), hint=EXPLAINED)
    return Manifests(tuple(found), tuple(secrets), tuple(skipped))


def _is_secret(data: object) -> bool:
    return isinstance(data, dict) and (data.get("apiVersion"), data.get("kind")) == (_CORE, "Secret")


def _is_foreign(data: object) -> bool:
    """Return whether a document is somebody else's. One that says too little, or nearly ours, is a mistake in ours."""
    if not isinstance(data, dict) or not isinstance(version := data.get("apiVersion"), str):
        return False
    if not isinstance(kind := data.get("kind"), str):
        return False
    group, slash, _ = version.partition("/")
    if not slash:
        return version == _CORE and kind != "Secret" and kind not in DECLARED
    likeness = SequenceMatcher(None, group.casefold(), GROUP).ratio()
    return likeness < _MISSPELT and ("." in group or kind not in DECLARED)


def _title(data: object) -> str:
    assert isinstance(data, dict)  # noqa: S101 - nothing else is foreign
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    named = f" {shown(name)[1:-1]}" if isinstance(name, str) else ""
    return f"{shown(data['kind'])[1:-1]}{named} ({shown(data['apiVersion'])[1:-1]})"


def _secret(part: Part, reader: Reader) -> Iterable[Secret]:
    """Yield the Secret of a part, or note what is wrong with it; no value is ever shown."""
    data = part.data
    assert isinstance(data, dict)  # noqa: S101 - _is_secret said so
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str):
        reader.note(part, Mistake(("metadata", "name"), "is required"))
        return
    values: dict[str, str] = {}
    for key, value in _texts(part, reader, "data"):
        try:
            values[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            if isinstance(error, UnicodeDecodeError):
                continue  # a key in binary, say: nothing that we refer to
            what = "is not base64; text as it is goes under stringData"
            reader.note(part, Mistake(("data", key), what))
    values.update(_texts(part, reader, "stringData"))
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    yield Secret(name, namespace if isinstance(namespace, str) else None, values, reader.place(part))


def _texts(part: Part, reader: Reader, section: str) -> Iterable[tuple[str, str]]:
    assert isinstance(part.data, dict)  # noqa: S101 - _is_secret said so
    content = part.data.get(section)
    if content is None:
        return
    if not isinstance(content, dict):
        reader.note(part, Mistake((section,), "expected a mapping of keys to texts"))
        return
    for key, value in content.items():
        if isinstance(value, str):
            yield key, value
        else:
            reader.note(part, Mistake((section, key), "expected text; put it in quotes"))


def _twice(found: Iterable[Manifest]) -> Iterable[str]:
    """Yield what is declared in two namespaces; twice in one, the reader has told of."""
    first: dict[tuple[str, str], Manifest] = {}
    for manifest in found:
        resource = manifest.resource
        other = first.setdefault((resource.kind, resource.name), manifest)
        if other is not manifest and other.resource.metadata.namespace != resource.metadata.namespace:
            yield (
                f"{manifest.place}: {resource.kind} {resource.name}: is declared before, at {other.place}, in another "
                "namespace: without Kubernetes it would be the same"
            )
