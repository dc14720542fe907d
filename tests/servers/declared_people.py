"""Users and roles as a node or proxy knows them, without an auth service that tells of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runtime.core.errors import AccessDenied
from runtime.core.resources import API_VERSION, Role, User


@dataclass
class People:
    """Users and roles that a test declares and changes."""

    users: dict[str, User] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)

    def user(self, name: str) -> User:
        """Return a user."""
        try:
            return self.users[name]
        except KeyError:
            raise AccessDenied(f"there is no user {name}") from None

    def declare(self, name: str, *logins: str, roles: tuple[str, ...] = ()) -> None:
        """Make or change a user."""
        document = {"kind": "User", "metadata": {"name": name}, "spec": {"logins": logins, "roles": roles}}
        self.users[name] = User.model_validate({"apiVersion": API_VERSION, **document})

    def role(self, name: str, **spec: Any) -> None:
        """Make or change a role."""
        document = {"kind": "Role", "metadata": {"name": name}, "spec": spec}
        self.roles[name] = Role.model_validate({"apiVersion": API_VERSION, **document})
