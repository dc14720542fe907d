"""A folder of YAML as somebody keeps it for kubectl: our documents, Secrets, and what is not for us."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.core.errors import InvalidResource
from runtime.core.resources.manifests import Manifests, load_manifests

USER = "{apiVersion: teleport.internal/v1, kind: User, metadata: {name: joe}, spec: {logins: [joe]}}"


def load(*texts: str) -> Manifests:
    """Return what is in texts called 1.yaml, 2.yaml and so on."""
    return load_manifests((f"{number}.yaml", text) for number, text in enumerate(texts, 1))


def mistakes(*texts: str) -> list[str]:
    """Return what is wrong with texts, line by line."""
    with pytest.raises(InvalidResource) as caught:
        load(*texts)
    return str(caught.value).splitlines()


def test_each_document_has_its_place() -> None:
    """File and line, also of what is in a List."""
    found = load(f"---\n---\n{USER}\n", f"apiVersion: v1\nkind: List\nitems:\n- {USER.replace('joe', 'ann')}\n")
    assert [(each.resource.name, each.place) for each in found.resources] == [("joe", "1.yaml:3"), ("ann", "2.yaml:4")]


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("v1", "ConfigMap"),
        ("apps/v1", "Deployment"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("resources.teleport.dev/v2", "TeleportUser"),
        ("user.openshift.io/v1", "User"),
        ("kustomize.config.k8s.io/v1beta1", "Kustomization"),
    ],
)
def test_what_is_not_for_us(version: str, kind: str) -> None:
    """It is skipped, whatever else is in it, and named."""
    found = load(f"{USER}\n---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: 7\n")
    assert len(found.resources) == 1
    assert found.skipped == (f"1.yaml:3: {kind} x ({version})",)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (USER.replace("internal", "internl"), "1.yaml:1: User joe: apiVersion: expected teleport.internal/v1"),
        (USER.replace("/v1", "/v2"), "1.yaml:1: User joe: apiVersion: expected teleport.internal/v1"),
        (USER.replace("teleport.internal/", ""), "1.yaml:1: User joe: apiVersion: expected teleport.internal/v1"),
        ("kind: Deployment\n", "1.yaml:1: 'Deployment': kind: expected one of User, Role"),
        ("apiVersion: apps/v1\n", "1.yaml:1: kind: is required"),
        ("apiVersion: 1\nkind: User\n", "1.yaml:1: User: apiVersion: expected teleport.internal/v1"),
        ("- a\n", "1.yaml:1: expected a mapping with apiVersion"),
        ("a: [", "1.yaml:2: is not YAML"),
    ],
)
def test_what_nearly_is_for_us_is_a_mistake(text: str, mistake: str) -> None:
    """Nothing that somebody meant for us is skipped in silence."""
    assert mistakes(text)[0].startswith(mistake)


def test_secrets() -> None:
    """Both ways to write them, the plain one over the other; keys that are no text are left out."""
    encoded = base64.b64encode(b"one").decode()
    text = (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: team}\n"
        f'data: {{a: {encoded}, b: {encoded}, key.bin: "/w=="}}\nstringData: {{b: two}}\n'
    )
    (secret,) = load(text).secrets
    assert (secret.name, secret.namespace, secret.place) == ("s", "team", "1.yaml:1")
    assert secret.values == {"a": "one", "b": "two"}
    assert "one" not in repr(secret)
    assert load("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n").secrets[0].values == {}


@pytest.mark.parametrize(
    ("body", "mistake"),
    [
        ("metadata: {}", "metadata.name: is required"),
        ("metadata: {name: s}\ndata: {a: geheim}", "data.a: is not base64; text as it is goes under stringData"),
        ("metadata: {name: s}\ndata: geheim", "data: expected a mapping of keys to texts"),
        ("metadata: {name: s}\nstringData: {a: 4711}", "stringData.a: expected text; put it in quotes"),
    ],
)
def test_a_secret_that_is_wrong(body: str, mistake: str) -> None:
    """The place is named, what is there never is."""
    (said,) = mistakes(f"apiVersion: v1\nkind: Secret\n{body}\n")
    assert said.endswith(mistake)
    assert "geheim" not in said
    assert "4711" not in said


def test_a_name_is_the_clusters() -> None:
    """Twice in one namespace or in two, in one file or in two; as another kind it is another."""
    elsewhere = USER.replace("{name: joe}", "{name: joe, namespace: team}")
    assert mistakes(USER, USER) == ["2.yaml:1: User joe: metadata.name: is declared before, at 1.yaml:1"]
    (said,) = mistakes(f"{USER}\n---\n{elsewhere}")
    assert said.startswith("1.yaml:3: User joe: is declared before, at 1.yaml:1, in another namespace")
    role = "{apiVersion: teleport.internal/v1, kind: Role, metadata: {name: joe}, spec: {}}"
    assert len(load(USER, role).resources) == 2


def test_all_mistakes_of_all_texts() -> None:
    """One that cannot be read at all does not hide the others."""
    said = mistakes("a: [", USER.replace("logins", "login"), USER, "kind: Usr")
    assert [each[:7] for each in said] == ["1.yaml:", "2.yaml:", "4.yaml:"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="{}[]:,-\n apiVersonkdSctUw1/.&*!'\"#", max_size=60), max_size=3))
def test_whatever_it_is(texts: list[str]) -> None:
    """Text of any kind is read or refused, and nothing else happens."""
    with contextlib.suppress(InvalidResource):
        load(*texts)
