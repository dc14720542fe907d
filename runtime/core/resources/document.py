"""Documents: the YAML or JSON that people hand to kubectl and tctl, read strictly and written readably."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from runtime.core import yaml_marks
from runtime.core.errors import InvalidResource
from runtime.core.resources.explain import Mistake, kind_of, mistakes_in, nearest, one_of
from runtime.core.resources.model import API_VERSION, Resource
from runtime.core.resources.names import WRITTEN_BY_PEOPLE, shown
from runtime.core.resources.role import Role
from runtime.core.resources.stored import encode
from runtime.core.resources.token import Token
from runtime.core.resources.trusted_cluster import TrustedCluster
from runtime.core.resources.user import User
from runtime.core.yaml_marks import Path, show_path

DECLARED: Mapping[str, type[Resource]] = {
    "User": User,
    "Role": Role,
    "Token": Token,
    "TrustedCluster": TrustedCluster,
}
"""The kinds that a document may have."""

MAX_RESOURCE_BYTES = 256 * 1024
"""Of one resource as it is stored; each backend holds more."""

MAX_MISTAKES_SHOWN = 20

_KUBERNETES_METADATA = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
"""What the API server keeps in metadata: dropped, so that what `kubectl get -o yaml` prints can be applied."""

_FOREIGN_ANNOTATIONS = ("kubectl.kubernetes.io/", "kopf.zalando.org/")
"""Notes that tools leave for themselves; dropped as well."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One resource within a document: the document itself, or an item of a List."""

    document: yaml_marks.Document | None
    at: Path
    data: object


def load_documents(text: str, *, source: str) -> list[Resource]:
    """Return the resources of a YAML or JSON text: several documents, and Lists of them; empty documents are skipped.

    `source` names the text in errors. A `status`, and what Kubernetes keeps in metadata, is dropped.

    Raises InvalidResource for what is not YAML, for a text without any resource, and with all mistakes of all
    documents at once, one on a line: `users.yaml:7: User joe: spec.logins[1]: …`.
    """
    documents = yaml_marks.load(text, source=source, raises=InvalidResource)
    reader = _Reader(source)
    resources = [resource for part in _parts(documents) if (resource := reader.read(part))]
    reader.raise_mistakes()
    if not resources:
        raise InvalidResource(
            f"{source}: holds no resource",
            hint=f"Write documents of kind {', '.join(DECLARED)}; see docs/resources.md.",
        )
    return resources


def read_object(data: object, *, source: str) -> Resource:
    """Return the resource of one document that is plain data already, such as an object from the Kubernetes API.

    Raises InvalidResource, as load_documents does.
    """
    reader = _Reader(source)
    resource = reader.read(_Part(None, (), data))
    reader.raise_mistakes()
    assert resource is not None  # noqa: S101  (read notes a mistake whenever it returns None)
    return resource


def dump(resource: Resource) -> str:
    """Return the resource as a YAML document for people: defaults are left out, and so is its origin.

    The text is stable, and load_documents reads it back.
    """
    body = resource.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    body["metadata"].pop("origin", None)
    return yaml_marks.dump({"apiVersion": API_VERSION, "kind": resource.kind, **body})


def dump_all(resources: Iterable[Resource]) -> str:
    """Return several resources as one text of several documents."""
    return "---\n".join(dump(resource) for resource in resources)


def _parts(documents: Iterable[yaml_marks.Document]) -> Iterator[_Part]:
    for document in documents:
        data = document.data
        if isinstance(data, dict) and data.get("kind") == "List" and isinstance(data.get("items"), list):
            for place, item in enumerate(data["items"]):
                yield _Part(document, ("items", place), item)
        elif data is not None:
            yield _Part(document, (), data)


class _Reader:
    """Reads the parts of one text and collects what is wrong with them."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._mistakes: list[tuple[int, str]] = []  # the line, for the order, and the words
        self._seen: dict[tuple[str, str | None, str], str] = {}

    def read(self, part: _Part) -> Resource | None:
        model = self._model(part)
        if model is None:
            return None
        try:
            resource = model.model_validate(
                _declared(part.data), by_alias=True, by_name=False, context={WRITTEN_BY_PEOPLE: True}
            )
        except ValidationError as error:
            for mistake in mistakes_in(model, error):
                self._note(part, mistake)
            return None
        if (size := len(encode(resource))) > MAX_RESOURCE_BYTES:
            self._note(part, Mistake((), f"has {size:,} bytes; {MAX_RESOURCE_BYTES:,} is the most"))
        identity = (resource.kind, resource.metadata.namespace, resource.name)
        if first := self._seen.get(identity):
            self._note(part, Mistake(("metadata", "name"), f"is declared before, at {first}"))
        self._seen.setdefault(identity, self._place(part, ("metadata", "name")))
        return resource

    def raise_mistakes(self) -> None:
        if self._mistakes:
            in_order = [text for _, text in sorted(self._mistakes, key=lambda mistake: mistake[0])]
            shown_ones = in_order[:MAX_MISTAKES_SHOWN]
            if more := len(self._mistakes) - len(shown_ones):
                shown_ones.append(f"{self._source}: and {more} more")
            raise InvalidResource("\n".join(shown_ones), hint="Each field is explained in docs/resources.md.")

    def _model(self, part: _Part) -> type[Resource] | None:
        if not isinstance(part.data, dict):
            what = f"expected a mapping with apiVersion, kind, metadata and spec, got {kind_of(part.data)}"
            self._note(part, Mistake((), what))
            return None
        kind = part.data.get("kind")
        if kind is None:
            self._note(part, Mistake(("kind",), f"is required: {one_of([*DECLARED])}"))
            return None
        if not isinstance(kind, str) or kind not in DECLARED:
            hint = nearest(kind, DECLARED) if isinstance(kind, str) else ""
            self._note(part, Mistake(("kind",), f"expected {one_of([*DECLARED])}, got {kind_of(kind)}{hint}"))
            return None
        if "apiVersion" not in part.data:
            self._note(part, Mistake(("apiVersion",), f"is required: {API_VERSION}"))
        return DECLARED[kind]

    def _note(self, part: _Part, mistake: Mistake) -> None:
        where = f"{show_path(mistake.path)}: " if mistake.path else ""
        line = part.document.line_of((*part.at, *mistake.path)) if part.document else 0
        text = f"{self._place(part, mistake.path)}: {_title(part.data)}{where}{mistake.what}"
        self._mistakes.append((line, text))

    def _place(self, part: _Part, path: Path) -> str:
        if part.document is None:
            return self._source
        return f"{self._source}:{part.document.line_of((*part.at, *path))}"


def _declared(data: object) -> object:
    """Return a document without what Kubernetes and its tools add to it."""
    if not isinstance(data, dict):
        return data
    data = {key: value for key, value in data.items() if key != "status"}
    metadata = data.get("metadata")
    if isinstance(metadata, dict):
        metadata = {key: value for key, value in metadata.items() if key not in _KUBERNETES_METADATA}
        annotations = metadata.get("annotations")
        if isinstance(annotations, dict):
            metadata["annotations"] = {
                key: value for key, value in annotations.items() if not key.startswith(_FOREIGN_ANNOTATIONS)
            }
        data["metadata"] = metadata
    return data


def _title(data: object) -> str:
    """Return `User joe: ` as far as the document says so."""
    if not isinstance(data, dict) or not isinstance(kind := data.get("kind"), str):
        return ""
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    kind = kind if kind in DECLARED else shown(kind)
    return f"{kind} {shown(name)[1:-1]}: " if isinstance(name, str) else f"{kind}: "
