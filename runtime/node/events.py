"""What a node's audit events say of a connection and a session (manual, "SSH Events"). Pure."""

from __future__ import annotations

from runtime.audit.log import Field
from runtime.node.copying.records import FileTransfer
from runtime.pki.identity import UserIdentity
from runtime.transport.capture import Proved
from runtime.transport.sessions import TerminalSize

MAX_TEXT = 4096
"""Characters of a command or path that the audit log keeps: they are the client's."""

_ACTIONS = {"upload": "write", "download": "read"}
"""The manual's words for what a copy does to a file."""


def who(host_id: str, proved: Proved[UserIdentity]) -> dict[str, Field]:
    """Return what each event of a connection has: who, as whom, between which addresses."""
    return {
        "user": proved.identity.user,
        "login": proved.login,
        "namespace": "default",
        "server_id": host_id,
        "addr.local": f"{proved.local.host}:{proved.local.port}",
        "addr.remote": f"{proved.peer.host}:{proved.peer.port}",
    }


def text(value: str) -> str:
    """Return the client's text as the log can have it: not too long, and bytes that are not UTF-8 escaped."""
    return value.encode("utf-8", "backslashreplace").decode()[:MAX_TEXT]


def size(terminal: TerminalSize) -> str:
    """Return a terminal's size as the manual writes it."""
    return f"{terminal.columns}:{terminal.rows}"


def transfer(record: FileTransfer) -> dict[str, Field]:
    """Return what the event `scp` says of a file: path, len and action as in the manual, and whether it was done."""
    fields: dict[str, Field] = {
        "protocol": record.protocol,
        "action": _ACTIONS.get(record.action, record.action),
        "path": text(record.path),
        "len": record.size,
        "success": "true" if record.success else "false",
    }
    if record.error:
        fields["error"] = text(record.error)
    if record.target:
        fields["target"] = text(record.target)
    return fields
