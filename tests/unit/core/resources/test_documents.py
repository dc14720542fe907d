"""Documents from people: what is dropped, and how each mistake is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtime.core.errors import InvalidResource
from runtime.core.resources import load_documents, read_object

ROOT = Path(__file__).parents[4]
JOE = """\
apiVersion: teleport.internal/v1
kind: User
metadata: {name: joe}
spec: {logins: [joe]}
"""


LOGIN = "expected a login: a-z or `_`, then at most 31 of a-z, 0-9, `_`, `.` and `-`"
KINDS = "one of User, Role, Token, TrustedCluster"


def refused(text: str) -> list[str]:
    """Return the lines of the error."""
    with pytest.raises(InvalidResource) as caught:
        load_documents(text, source="u.yaml")
    assert caught.value.hint
    return str(caught.value).splitlines()


def test_all_mistakes_at_once() -> None:
    """Each mistake of each document is one line: file, line, kind and name, path, what was expected."""
    text = (
        JOE.replace("spec: {logins: [joe]}", "spec:\n  logins: [joe, 'ro,ot']\n  role: [dev]\n  invite: {ttl: 31h}")
        + "---\n"
        + JOE.replace("User", "Rol")
        + "---\n- x\n"
    )
    assert refused(text) == [
        f"u.yaml:5: User joe: spec.logins[1]: 'ro,ot': {LOGIN}",
        "u.yaml:6: User joe: spec.role: is not a field here; did you mean roles?",
        "u.yaml:7: User joe: spec.invite.ttl: '31h': expected 1m to 30h",
        f"u.yaml:10: 'Rol' joe: kind: expected {KINDS}, got the text 'Rol'; did you mean Role?",
        "u.yaml:14: expected a mapping with apiVersion, kind, metadata and spec, got a list",
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("v1", "v2"), "u.yaml:1: User joe: apiVersion: expected teleport.internal/v1, got"),
        (("apiVersion: teleport.internal/v1\n", ""), "u.yaml:1: User joe: apiVersion: is required"),
        (("kind: User\n", ""), "u.yaml:1: kind: is required: one of User"),
        (("kind: User", "kind: user"), "u.yaml:2: 'user' joe: kind: expected one of"),
        (("kind: User", "kind: [User]"), "u.yaml:2: kind: expected one of"),
        (("metadata: {name: joe}\n", ""), "u.yaml:1: User: metadata: is required"),
        (("{name: joe}", "joe"), "u.yaml:3: User: metadata: expected a mapping, got the text 'joe'"),
        (("name: joe", "name: j\u043ee"), "u.yaml:3: User j\\u043ee: metadata.name: 'j\\u043ee': expected a name"),
        (("name: joe", 'name: "joe\\e[2J"'), "u.yaml:3: User joe\\x1b[2J: metadata.name: "),
        (("name: joe", "name: joe, origin: tctl"), "u.yaml:3: User joe: metadata.origin: is set by what applies"),
        (
            ("name: joe", "name: joe, nam: x"),
            "u.yaml:3: User joe: metadata.nam: is not a field here; did you mean name",
        ),
        (("{logins: [joe]}", ""), "u.yaml:4: User joe: spec: is required"),
        (
            ("[joe]", "[yes]"),
            "u.yaml:4: User joe: spec.logins[0]: expected text, got the boolean true; put it in quotes",
        ),
        (("logins: [joe]", "logins: [joe], driftPolicy: correct"), "u.yaml:4: User joe: spec.driftPolicy: expected "),
        (("spec:", "spce: 1\nspec:"), "u.yaml:4: User joe: spce: is not a field here; did you mean spec?"),
        (("[joe]", "[joe"), "u.yaml:4: is not YAML"),
    ],
)
def test_one_mistake(change: tuple[str, str], line: str) -> None:
    """A mistake has one line, which says where and what."""
    (found,) = refused(JOE.replace(*change))
    assert found.startswith(line)
    assert found.isascii()
    assert found.isprintable()


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n---\n", "{kind: List, apiVersion: v1, items: []}"])
def test_a_text_without_any_resource(text: str) -> None:
    """It is a mistake: whoever applies it meant something."""
    assert refused(text) == ["u.yaml: holds no resource"]


def test_the_same_name_twice() -> None:
    """Two documents of one kind and name contradict each other; another kind or namespace is another thing."""
    assert refused(JOE + "---\n" + JOE) == ["u.yaml:8: User joe: metadata.name: is declared before, at u.yaml:3"]
    role = JOE.replace("User", "Role").replace("{logins: [joe]}", "{}")
    elsewhere = JOE.replace("name: joe", "name: joe, namespace: other")
    assert len(load_documents(JOE + "---\n" + role + "---\n" + elsewhere, source="s")) == 3


def test_too_large() -> None:
    """A resource that a store could not hold is refused by its size, and the list of mistakes ends somewhere."""
    notes = ", ".join(f"n{number}: {'x' * 5000}" for number in range(60))
    (line,) = refused(JOE.replace("name: joe", f"name: joe, annotations: {{{notes}}}"))
    assert re.search(r"has 3\d\d,\d{3} bytes; 262,144 is the most", line)
    lines = refused("---\n- x\n" * 50)
    assert len(lines) == 21
    assert lines[-1] == "u.yaml: and 30 more"


def test_a_list() -> None:
    """`kubectl get -o yaml` prints a List: its items are read, and their mistakes have their lines."""
    item = JOE.replace("\n", "\n    ").rstrip()
    assert len(load_documents(f"kind: List\napiVersion: v1\nitems:\n  - {item}\n", source="s")) == 1
    (line,) = refused(f"kind: List\napiVersion: v1\nitems:\n  - {item.replace('[joe]', '[Joe]')}\n")
    assert line.startswith("u.yaml:7: User joe: spec.logins[0]: ")


def test_what_kubernetes_adds_is_dropped() -> None:
    """An object from the API server is the document that was applied."""
    (plain,) = load_documents(JOE, source="s")
    body = {
        "apiVersion": "teleport.internal/v1",
        "kind": "User",
        "metadata": {
            "name": "joe",
            "uid": "u",
            "resourceVersion": "1",
            "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{}],
            "finalizers": ["f"],
            "ownerReferences": [],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kopf.zalando.org/x": "{}"},
        },
        "spec": {"logins": ["joe"]},
        "status": {"conditions": []},
    }
    assert read_object(body, source="User joe") == plain
    with pytest.raises(InvalidResource, match=r"^User joe: User joe: spec: expected at least one"):
        read_object({**body, "spec": {}}, source="User joe")
    with pytest.raises(InvalidResource, match="expected a mapping"):
        read_object(None, source="s")


def test_adoption_is_asked_for_by_annotation() -> None:
    """Only the text "true" takes over what another origin declared."""
    for value, adopts in (('"true"', True), ('"yes"', False)):
        text = JOE.replace("name: joe", f"name: joe, annotations: {{teleport.internal/adopt: {value}}}")
        assert load_documents(text, source="s")[0].metadata.adopt is adopts


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "quickstart").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples(path: Path) -> None:
    """Each example is a valid document."""
    assert load_documents(path.read_text(), source=path.name)


def test_the_reference() -> None:
    """Each YAML block of docs/resources.md is valid, and each kind has one."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "resources.md").read_text(), re.MULTILINE | re.DOTALL)
    kinds = {resource.kind for block in blocks for resource in load_documents(block, source="docs/resources.md")}
    assert kinds == {"User", "Role", "Token", "TrustedCluster"}
