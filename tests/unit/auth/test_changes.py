"""What the audit log says of a change to a declared resource."""

from __future__ import annotations

from datetime import UTC, datetime

from runtime.auth import changes as module
from runtime.auth.changes import changes, of
from runtime.core.resources import Origin, Resource, Token, TokenIssue, load_documents

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "0123456789abcdef" * 4


def document(kind: str, spec: str, metadata: str = "") -> Resource:
    """Return a resource with the name x."""
    text = f"{{apiVersion: teleport.internal/v1, kind: {kind}, metadata: {{name: x, {metadata}}}, spec: {spec}}}"
    (resource,) = load_documents(text, source="test")
    return resource


def test_created_and_deleted() -> None:
    """What somebody set is told, and nothing else."""
    user = document("User", "{logins: [joe], invite: {ttl: 2h}}")
    assert changes(None, user) == ['spec.invite.ttl: none -> "2h"', 'spec.logins: none -> ["joe"]']
    assert changes(user, None) == ['spec.invite.ttl: "2h" -> none', 'spec.logins: ["joe"] -> none']
    assert of(user, None) == {"kind": "User", "name": "x", "changes": changes(user, None)}


def test_updated() -> None:
    """Old and new value of each field that differs, also where one is the default."""
    before = document("User", "{logins: [joe], deletionPolicy: Keep}", "labels: {team: a, env: prod}")
    after = document("User", "{logins: [joe, root], roles: [dev]}", "labels: {team: b, new: c}")
    assert changes(before, after) == [
        'metadata.labels.env: "prod" -> none',
        'metadata.labels.new: none -> "c"',
        'metadata.labels.team: "a" -> "b"',
        'spec.deletionPolicy: "Keep" -> "Delete"',
        'spec.logins: ["joe"] -> ["joe","root"]',
        'spec.roles: [] -> ["dev"]',
    ]
    assert changes(after, after) == []


def test_whose_it_became() -> None:
    """A document that was taken over has another origin."""
    role = document("Role", "{}")
    assert changes(role.with_origin(Origin.TCTL), role.with_origin(Origin.KUBERNETES)) == [
        'metadata.origin: "tctl" -> "kubernetes"'
    ]


def test_a_tokens_value_is_told_to_nobody() -> None:
    """Not even its hash, by which a weak one could be found; that it is another one is told."""
    token = document("Token", "{roles: [node]}")
    assert isinstance(token, Token)
    first = token.with_issue(TokenIssue(digest=DIGEST, since=NOW))
    used = token.with_issue(TokenIssue(digest=DIGEST, since=NOW, uses=3))
    other = token.with_issue(TokenIssue(digest=DIGEST[::-1], since=NOW))
    told = [*changes(None, first), *changes(first, other), *changes(other, None)]
    assert told == [
        'spec.roles: none -> ["node"]',
        "value: none -> a new one",
        "value: the old one -> a new one",
        'spec.roles: ["node"] -> none',
        "value: the old one -> none",
    ]
    assert changes(first, used) == []


def test_much_is_cut() -> None:
    """An event has room for what people need to know."""
    many = ", ".join(f"k{number:03}: {'v' * 300}" for number in range(64))
    told = changes(document("Role", "{}"), document("Role", "{}", f"annotations: {{{many}}}"))
    assert len(told) == module.MAX_CHANGES + 1
    assert told[-1] == "and 14 more"
    assert max(map(len, told)) < module.MAX_VALUE + 60
