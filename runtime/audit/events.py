"""Names of audit events: those of the manual ("SSH Events"), and ours for what concerns security beside sessions."""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """What happened."""

    AUTH = "auth"
    """An authentication attempt, with `success` and, if that is "false", `error` (manual)."""

    USER_SIGNUP = "user.signup"
    USER_LOCKED = "user.locked"
    USER_INVITED = "user.invited"
    USER_DELETED = "user.deleted"
    USER_RESET = "user.reset"
    CERTIFICATE_ISSUED = "cert.issued"
    MEMBER_JOINED = "member.joined"
    JOIN_REFUSED = "member.refused"
    ADMIN_SIGNED = "admin.signed"
    TOKEN_CREATED = "token.created"  # noqa: S105 - the name of an event
    TOKEN_DELETED = "token.deleted"  # noqa: S105 - the name of an event
    RESOURCE_WRITTEN = "resource.written"
    RESOURCE_REMOVED = "resource.removed"
    CALL_REFUSED = "call.refused"
