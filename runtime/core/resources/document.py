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

EXPLAINED = "Each field is explained in docs/resources.md."

Seen = dict[tuple[str, str | None, str], str]
"""Kind, namespace and name of what is declared so far, and where."""

KEPT_BY_THE_CLUSTER = ("origin", "issued", "id", "invite", "renewed", "means", "credentials")
"""Fields of metadata that no document has."""

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
class Part:
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
    reader = Reader(source)
    resources = [resource for part in parts(documents) if (resource := reader.read(part))]
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
    reader = Reader(source)
    resource = reader.read(Part(None, (), data))
    reader.raise_mistakes()
    assert resource is not None  # noqa: S101  (read notes a mistake whenever it returns None)
    return resource


def dump(resource: Resource) -> str:
    """Return the resource as a YAML document for people: defaults are left out, and so is what the cluster keeps of it.

    The text is stable, and load_documents reads it back.
    """
    body = resource.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    for kept in KEPT_BY_THE_CLUSTER:
        body["metadata"].pop(kept, None)
    return yaml_marks.dump({"apiVersion": API_VERSION, "kind": resource.kind, **body})


def dump_all(resources: Iterable[Resource]) -> str:
    """Return several resources as one text of several documents."""
    return "---\n".join(dump(resource) for resource in resources)


def parts(documents: Iterable[yaml_marks.Document]) -> Iterator[Part]:
    """Yield the resources within documents: each, or the items of a List. Empty documents are skipped."""
    for document in documents:
        data = document.data
        if isinstance(data, dict) and data.get("kind") == "List" and isinstance(data.get("items"), list):
            for place, item in enumerate(data["items"]):
                yield Part(document, ("items", place), item)
        elif data is not None:
            yield Part(document, (), data)


class Reader:
    """Reads the parts of one text and collects what is wrong with them."""

    def __init__(self, source: str, seen: Seen | None = None) -> None:
        """Read a text of that name; `seen` is what others before it declare."""
        self._source = source
        self._mistakes: list[tuple[int, str]] = []  # the line, for the order, and the words
        self._seen: Seen = {} if seen is None else seen

    def read(self, part: Part) -> Resource | None:
        """Return the resource of a part; None, and a mistake is noted, if it is none."""
        model = self._model(part)
        if model is None:
            return None
        try:
            resource = model.model_validate(
                _declared(part.data), by_alias=True, by_name=False, context={WRITTEN_BY_PEOPLE: True}
            )
        except ValidationError as error:
            for mistake in mistakes_in(model, error):
                self.note(part, mistake)
            return None
        if (size := len(encode(resource))) > MAX_RESOURCE_BYTES:
            self.note(part, Mistake((), f"has {size:,} bytes; {MAX_RESOURCE_BYTES:,} is the most"))
        identity = (resource.kind, resource.metadata.namespace, resource.name)
        if first := self._seen.get(identity):
            self.note(part, Mistake(("metadata", "name"), f"is declared before, at {first}"))
        self._seen.setdefault(identity, self.place(part, ("metadata", "name")))
        return resource

    def mistakes(self) -> list[str]:
        """Return what is wrong, a line each, by line of the text; of very many the first ones."""
        in_order = [text for _, text in sorted(self._mistakes, key=lambda mistake: mistake[0])]
        shown_ones = in_order[:MAX_MISTAKES_SHOWN]
        if more := len(self._mistakes) - len(shown_ones):
            shown_ones.append(f"{self._source}: and {more} more")
        return shown_ones

    def raise_mistakes(self) -> None:
        """Raise InvalidResource if there are any."""
        if mistakes := self.mistakes():
            raise InvalidResource("\n".join(mistakes), hint=EXPLAINED)

    def _model(self, part: Part) -> type[Resource] | None:
        if not isinstance(part.data, dict):
            what = f"expected a mapping with apiVersion, kind, metadata and spec, got {kind_of(part.data)}"
            self.note(part, Mistake((), what))
            return None
        kind = part.data.get("kind")
        if kind is None:
            self.note(part, Mistake(("kind",), f"is required: {one_of([*DECLARED])}"))
            return None
        if not isinstance(kind, str) or kind not in DECLARED:
            hint = nearest(kind, DECLARED) if isinstance(kind, str) else ""
            self.note(part, Mistake(("kind",), f"expected {one_of([*DECLARED])}, got {kind_of(kind)}{hint}"))
            return None
        if "apiVersion" not in part.data:
            self.note(part, Mistake(("apiVersion",), f"is required: {API_VERSION}"))
        return DECLARED[kind]

    def note(self, part: Part, mistake: Mistake) -> None:
        """Note that something is wrong with a part."""
        where = f"{show_path(mistake.path)}: " if mistake.path else ""
        line = part.document.line_of((*part.at, *mistake.path)) if part.document else 0
        text = f"{self.place(part, mistake.path)}: {_title(part.data)}{where}{mistake.what}"
        self._mistakes.append((line, text))

    def place(self, part: Part, path: Path = ()) -> str:
        """Return where something stands: `SOURCE:LINE`."""
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
    return _without_nulls(data)


def _without_nulls(data: object) -> object:
    """Return it without fields that are null, which to an API server are absent; entries of lists stay."""
    match data:
        case dict():
            return {key: _without_nulls(value) for key, value in data.items() if value is not None}
        case list():
            return [_without_nulls(value) for value in data]
    return data


def _title(data: object) -> str:
    """Return `User joe: ` as far as the document says so."""
    if not isinstance(data, dict) or not isinstance(kind := data.get("kind"), str):
        return ""
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    kind = kind if kind in DECLARED or kind == "Secret" else shown(kind)
    return f"{kind} {shown(name)[1:-1]}: " if isinstance(name, str) else f"{kind}: "
