"""A user and roles for decisions, as documents declare them."""

from __future__ import annotations

from runtime.core.resources import Role, User, load_documents


def user(spec: str) -> User:
    """Return the user joe with a spec in YAML's flow style."""
    text = f"{{apiVersion: teleport.internal/v1, kind: User, metadata: {{name: joe}}, spec: {spec}}}"
    (found,) = load_documents(text, source="test")
    assert isinstance(found, User)
    return found


def role(name: str, spec: str) -> dict[str, Role]:
    """Return one declared role by its name."""
    text = f"{{apiVersion: teleport.internal/v1, kind: Role, metadata: {{name: {name}}}, spec: {spec}}}"
    (found,) = load_documents(text, source="test")
    assert isinstance(found, Role)
    return {name: found}
