"""The models and the CRDs agree on more than a hundred documents, and on every field's type, limits and default."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import TypeAdapter

from runtime.core.durations import format_duration
from runtime.core.errors import InvalidResource
from runtime.core.resources import DECLARED, load_documents
from tests.unit.core.resources.table import ROWS, Row, Seen

CRDS = Path(__file__).parents[4] / "crds"


def crd(kind: str) -> dict[str, Any]:
    """Return the CRD of a kind; JSON has no better type than Any."""
    loaded: dict[str, Any] = yaml.safe_load((CRDS / f"{kind.lower()}s.yaml").read_text())
    return loaded


def schema(kind: str) -> dict[str, Any]:
    """Return the schema of a kind's CRD."""
    found: dict[str, Any] = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def as_the_server_reads_it(node: Any) -> Any:
    """Return a schema with what kubectl's strict validation and the list types add, in words jsonschema knows."""
    if isinstance(node, list):
        return [as_the_server_reads_it(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: as_the_server_reads_it(value) for key, value in node.items()}
    if node.get("x-kubernetes-list-type") == "set":
        node["uniqueItems"] = True
    if isinstance(node.get("pattern"), str):
        node["pattern"] = node["pattern"].removesuffix("$") + r"\Z"  # Go's `$` is the end, Python's may be a newline
    # An object's own metadata has more fields than a CRD may describe.
    if node.get("type") == "object" and "properties" in node and "name" not in node["properties"]:
        node["additionalProperties"] = False
    return node


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_the_models_judge(row: Row) -> None:
    """A right document is read; a wrong one is refused with one error that names the path of the mistake."""
    text = json.dumps(row.document)
    if row.path is None:
        (resource,) = load_documents(text, source="doc.json")
        assert resource.kind == row.document["kind"]
        return
    with pytest.raises(InvalidResource) as caught:
        load_documents(text, source="doc.json")
    message = str(caught.value)
    assert message.startswith("doc.json:1: ")
    assert f": {row.path}: " in message
    assert "\n" not in message


BY_SCHEMA = [row for row in ROWS if row.seen in {None, Seen.SCHEMA}]


@pytest.mark.parametrize("row", BY_SCHEMA, ids=lambda row: row.title)
def test_the_crds_judge_alike(row: Row) -> None:
    """The CRD's schema accepts and refuses the same documents; of others tests/e2e/test_crds.py asks an API server."""
    document = copy.deepcopy(row.document)
    if "mapped twice" in row.title:  # a list of type map: keys are compared by the server, not by a schema
        assert schema("TrustedCluster")["properties"]["spec"]["properties"]["roleMap"][
            "x-kubernetes-list-map-keys"
        ] == ["remote"]
        return
    validator = jsonschema.Draft202012Validator(as_the_server_reads_it(schema(document["kind"])))
    problems = [error.message for error in validator.iter_errors(document)]
    assert bool(problems) == (row.path is not None), problems


@pytest.mark.parametrize("kind", DECLARED)
def test_the_frame_of_a_crd(kind: str) -> None:
    """Names, group, version, status subresource and printer columns are as the design has them."""
    loaded = crd(kind)
    spec, names = loaded["spec"], loaded["spec"]["names"]
    short = {"User": "tuser", "Role": "trole", "Token": "ttoken", "TrustedCluster": "tcluster"}[kind]
    assert loaded["metadata"]["name"] == f"{names['plural']}.teleport.internal"
    assert (spec["group"], spec["scope"]) == ("teleport.internal", "Namespaced")
    assert (names["kind"], names["listKind"]) == (kind, f"{kind}List")
    assert (names["shortNames"], names["categories"]) == ([short], ["teleport"])
    (version,) = spec["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1", True, True)
    assert version["subresources"] == {"status": {}}
    columns = {column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")}
    assert {"Ready", "Reason", "Age"} <= columns


LIMITS = (
    "type",
    "enum",
    "default",
    "pattern",
    "maxLength",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "maxProperties",
)


def flat(node: dict[str, Any], definitions: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    """Return every field of a schema by path, with its limits and whether it is required."""
    default = node.get("default")
    if "anyOf" in node:  # pydantic's `X | None`
        (node,) = (each for each in node["anyOf"] if each.get("type") != "null")
    if "$ref" in node:
        node = definitions[node["$ref"].rpartition("/")[2]]
    own = {limit: node[limit] for limit in LIMITS if limit in node}
    own.pop("default", None)
    if default not in (None, []) and node.get("type") != "object":  # an empty list or object is what absence means
        is_duration = isinstance(default, str) and default.startswith("PT")  # pydantic's own way to write one
        own["default"] = format_duration(TypeAdapter(timedelta).validate_python(default)) if is_duration else default
    own["required"] = sorted(node.get("required", []))
    if own.get("enum"):
        own["enum"] = sorted(own["enum"])
    found = {path: own}
    for name, child in node.get("properties", {}).items():
        found |= flat(child, definitions, f"{path}.{name}")
    if "items" in node:
        found |= flat(node["items"], definitions, f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        found |= flat(node["additionalProperties"], definitions, f"{path}.*")
    if "patternProperties" in node:  # a pattern of keys; the CRDs have a validation rule for it
        (child,) = node["patternProperties"].values()
        found |= flat(child, definitions, f"{path}.*")
    return found


@pytest.mark.parametrize("kind", DECLARED)
def test_the_fields_are_the_same(kind: str) -> None:
    """Each field of `spec` is the same on both sides: type, pattern, limits, default, and whether it is required."""
    ours = DECLARED[kind].model_json_schema(by_alias=True)
    theirs = schema(kind)
    definitions = ours["$defs"]
    assert flat(theirs["properties"]["spec"], {}) == flat(ours["properties"]["spec"], definitions)
    name = flat(ours["properties"]["metadata"], definitions)[".name"]
    assert flat(theirs["properties"]["metadata"]["properties"]["name"], {})[""] == name
