"""What our certificates say beyond OpenSSH's own vocabulary. OpenSSH ignores extensions that it does not know."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.core.errors import AccessDenied
from runtime.pki.claims import MemberRole

ROLES = "roles@teleport.internal"
"""On user certificates: cluster and roles."""
ROLE = "role@teleport.internal"
"""On member certificates: cluster and role."""

# PROTOCOL.certkeys, "Extensions" and "Critical options".
PERMIT_PTY = "permit-pty"
PERMIT_PORT_FORWARDING = "permit-port-forwarding"
PERMIT_AGENT_FORWARDING = "permit-agent-forwarding"
SOURCE_ADDRESS = "source-address"
FORCE_COMMAND = "force-command"
KNOWN_OPTIONS = frozenset({SOURCE_ADDRESS, FORCE_COMMAND})


class _Extension(BaseModel):
    # A later version may say more: what is not known here is skipped, as OpenSSH skips extensions.
    model_config = ConfigDict(frozen=True, extra="ignore")
    cluster: str


class RolesExtension(_Extension):
    """The value of `roles@teleport.internal`, JSON."""

    roles: tuple[str, ...]
    person: str = ""
    """Who the user was when it was issued; empty for one who has no id."""


class RoleExtension(_Extension):
    """The value of `role@teleport.internal`, JSON."""

    role: MemberRole


_Model = TypeVar("_Model", bound=_Extension)


def write_extension(extension: _Extension) -> str:
    """Return the extension as compact JSON."""
    return extension.model_dump_json(exclude_defaults=True)


def read_extension(model: type[_Model], name: str, value: str | None) -> _Model:
    """Return the extension read from the certificate's value. Raises AccessDenied when it is missing or malformed."""
    if value is None:
        raise AccessDenied(f"the certificate has no extension {name}; it was not issued by Teleport for this use")
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        raise AccessDenied(f"the certificate's extension {name} cannot be read") from error
