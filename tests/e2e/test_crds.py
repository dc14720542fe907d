"""The custom resources on a real API server: it judges every document of the table as the models do."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from runtime.core.resources import DECLARED
from tests.e2e.kubernetes.api import Api, collection
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.unit.core.resources.table import ROWS, Row

CRDS = Path(__file__).parents[2] / "crds"
STRICT = {"dryRun": "All", "fieldValidation": "Strict"}  # fieldValidation is what kubectl asks for
READY = {
    "type": "Ready",
    "status": "True",
    "reason": "Reconciled",
    "message": "as declared",
    "lastTransitionTime": "2026-01-02T03:04:05Z",
}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    """Declare the custom resources, and open a connection to the API server."""
    control_plane.kubectl("apply", "-f", CRDS)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRDS)
    with Api(control_plane.url, control_plane.authority.folder) as client:
        yield client


def fields_named(answer: dict[str, Any]) -> list[str]:
    """Return the paths that a refusal names, written as ours; of one map key it may name the map only."""
    causes = [cause.get("field", "") for cause in answer.get("details", {}).get("causes", [])]
    unknown = re.findall(r'unknown field "([^"]+)"', answer["message"])
    return [re.sub(r"\[([A-Za-z*]+)\]", r'["\1"]', field) for field in [*causes, *unknown] if field != "<nil>"]


def names(field: str, path: str) -> bool:
    """Return whether what the server calls `field` is at `path`, or an entry of it, or the map that holds its key."""
    plain = re.sub(r'\["([^"]*)"\]', r".\1", path)
    field = re.sub(r'\["([^"]*)"\]', r".\1", field)
    holder = plain.rpartition(".")[0] if re.search(r"(nodeLabels|labels|annotations)\.[^.\[]*$|\"\]$", path) else plain
    return field in {plain, holder} or re.fullmatch(re.escape(plain) + r"\[\d+\]", field) is not None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_the_api_server_judges_as_the_models_do(api: Api, row: Row) -> None:
    """It takes what they take and refuses what they refuse, and its refusal names the same field, that alone."""
    status, answer = api.request("POST", collection(row.document["kind"]), row.document, **STRICT)
    if row.path is None:
        assert status == HTTPStatus.CREATED, answer["message"]
        return
    assert status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
    named = fields_named(answer)
    assert named, answer["message"]
    assert [field for field in named if not names(field, row.path)] == [], answer["message"]


MESSAGES = [
    ("User: no login and no role", "expected at least one of logins and roles"),
    ("User: an upper-case login", "expected a login: a-z or `_`"),
    ("User: a generated role", "the cluster makes the roles user:NAME and ca:NAME itself"),
    ("User: an invite beyond 30 h", "expected 1m to 30h"),
    ("User: an unknown drift policy", 'supported values: "Correct", "Report"'),
    ("Role: any label with a value", "the label * goes with the value * only"),
    ("Role: an idle timeout of zero", "expected 1s to 30h"),
    ("Token: a day and a half", "expected 1m to 30h"),
    ("TrustedCluster: two proofs", "expected exactly one of tokenSecretRef and caSecretRef"),
    ("TrustedCluster: a token without webAddr", "tokenSecretRef needs proxy.webAddr"),
    ("TrustedCluster: no port", "expected HOST:PORT, such as proxy.example.com:3080"),
    ("TrustedCluster: a URL", "expected HOST:PORT, such as proxy.example.com:3080"),
]


@pytest.mark.parametrize(("title", "said"), MESSAGES, ids=[title for title, _ in MESSAGES])
def test_a_refusal_says_what_was_expected(api: Api, title: str, said: str) -> None:
    """Where a pattern alone would be a riddle, words stand beside it."""
    (row,) = [row for row in ROWS if row.title == title]
    _, answer = api.request("POST", collection(row.document["kind"]), row.document, **STRICT)
    assert said in answer["message"]


@pytest.mark.parametrize("kind", DECLARED)
def test_the_defaults_are_the_same(api: Api, kind: str) -> None:
    """What the API server fills in is what the models fill in, so that the stored document means what was written."""
    valid = [row for row in ROWS if row.path is None and row.document["kind"] == kind]
    assert valid
    for row in valid:
        stored = api.done("POST", collection(kind), row.document, **STRICT)
        written = DECLARED[kind].model_validate(without_nulls(row.document)).model_dump()["spec"]
        assert DECLARED[kind].model_validate({**row.document, "spec": stored["spec"]}).model_dump()["spec"] == written


def without_nulls(data: Any) -> Any:
    """Return a document without null fields."""
    if isinstance(data, dict):
        return {key: without_nulls(value) for key, value in data.items() if value is not None}
    return data


def first(kind: str) -> dict[str, Any]:
    """Return a valid document of that kind."""
    return copy.deepcopy(next(row.document for row in ROWS if row.path is None and row.document["kind"] == kind))


@pytest.mark.parametrize("kind", DECLARED)
def test_a_status_is_written_apart_from_the_rest(api: Api, control_plane: ControlPlane, kind: str) -> None:
    """Who declares cannot write the status, who writes it changes nothing else, and kubectl shows it."""
    document = {**first(kind), "status": {"conditions": [READY]}}
    name = document["metadata"]["name"] = "columns"
    path = f"{collection(kind)}/{name}"
    try:
        assert "status" not in api.done("POST", collection(kind), document)
        changed = {"metadata": {"labels": {"a": "b"}}, "spec": {}, "status": {"conditions": [READY]}}
        stored = api.done("PATCH", f"{path}/status", changed)
        assert stored["status"]["conditions"] == [READY]
        assert stored["metadata"]["generation"] == 1
        assert api.done("GET", path)["spec"] == stored["spec"]
        short = {"User": "tuser", "Role": "trole", "Token": "ttoken", "TrustedCluster": "tcluster"}[kind]
        heading, line = control_plane.kubectl("get", short, name).splitlines()
        assert heading.split()[:3] == ["NAME", "READY", "REASON"]
        assert line.split()[:3] == [name, "True", "Reconciled"]
        wide = control_plane.kubectl("get", short, name, "-o", "wide")
        assert "as declared" in wide
        assert f"{kind.lower()}.teleport.internal/{name}" in control_plane.kubectl("get", "teleport", "-o", "name")
    finally:
        api.request("DELETE", path)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"status": "Maybe"}, "status.conditions[0].status"),
        ({"reason": ""}, "status.conditions[0].reason"),
        ({"lastTransitionTime": "yesterday"}, "status.conditions[0].lastTransitionTime"),
    ],
    ids=lambda value: "",
)
def test_a_status_that_is_none_is_refused(api: Api, wrong: dict[str, str], field: str) -> None:
    """Conditions are as Kubernetes' API conventions have them, or they are not stored."""
    path = f"{collection('User')}/conditions"
    api.done("POST", collection("User"), {**first("User"), "metadata": {"name": "conditions"}})
    try:
        status, answer = api.request("PATCH", f"{path}/status", {"status": {"conditions": [{**READY, **wrong}]}})
        assert status == HTTPStatus.UNPROCESSABLE_ENTITY
        assert field in fields_named(answer)
    finally:
        api.request("DELETE", path)


@pytest.mark.parametrize("kind", DECLARED)
def test_the_schemas_are_structural(api: Api, kind: str) -> None:
    """The API server found nothing amiss in the CRD itself."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.lower()}s.teleport.internal"
    conditions = {each["type"]: each["status"] for each in api.done("GET", path)["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


def test_a_name_is_for_good(api: Api) -> None:
    """An object cannot be renamed: what the backend holds under its name would be left behind."""
    api.done("POST", collection("User"), {**first("User"), "metadata": {"name": "before"}})
    path = f"{collection('User')}/before"
    try:
        status, answer = api.request("PATCH", path, {"metadata": {"name": "after"}})
        assert status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
        assert "name" in answer["message"]
    finally:
        api.request("DELETE", path)
