"""Names of audit events: those of the manual ("SSH Events"), and ours for what concerns security beside sessions."""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """What happened."""

    AUTH = "auth"
    """An authentication attempt, with `success` and, if that is "false", `error` (manual)."""

    SESSION_START = "session.start"
    """A session in a terminal has begun (manual)."""
    SESSION_END = "session.end"
    """It has ended, with the `reason` if it did not by itself; `lost`: its node was, and nobody saw how (ours)."""
    EXEC = "exec"
    """A command has ended, with `command`, `exitCode` and `exitError` (manual)."""
    SCP = "scp"
    """A file was copied, with `path`, `len` and `action`: read or write (manual)."""
    RESIZE = "resize"
    """A terminal has another `size` (manual)."""
    SESSION_JOIN = "session.join"
    """Somebody (`user`) has joined the session of `owner`, as a peer or observer (`mode`)."""
    SESSION_LEAVE = "session.leave"
    """That person has left, of whose keys so many bytes went into the session (`typed`)."""
    SESSION_REJECTED = "session.rejected"
    GUEST_DISMISSED = "guest.dismissed"
    """A person (`user`) of another `cluster` was cut off, with so many `sessions`: trust in it has ended (`reason`)."""
    PORT_FORWARD = "port.forward"
    PROXY_CONNECT = "proxy.connect"
    PROXY_REJECTED = "proxy.rejected"
    WEB_REJECTED = "web.rejected"
    TUNNEL_CONNECTED = "tunnel.connected"
    """A tunnel is up between a proxy here and one (`peer`) of another `cluster`, which is our root or leaf (`side`)."""
    TUNNEL_CLOSED = "tunnel.closed"
    TUNNEL_REFUSED = "tunnel.refused"
    """Somebody at the port for tunnels, or at the other end of one, was not believed; `error` says why."""

    RECORDING_DELETED = "recording.deleted"
    """Auth has deleted a recording, whose `reason` is age or size (`audit` in teleport.yaml)."""
    RECORDING_READ = "recording.read"
    """Somebody (`by`) plays, exports or verifies the recording of `user`: told once for each quarter of an hour."""
    RECORDINGS_SEARCHED = "recordings.searched"
    """An administrator (`by`) has looked for `text` in so many recordings (`count`)."""
    SESSION_KILLED = "session.killed"
    """An administrator (`by`) had it ended."""

    USER_SIGNUP = "user.signup"
    USER_LOCKED = "user.locked"
    USER_INVITED = "user.invited"
    USER_DELETED = "user.deleted"
    USER_RESET = "user.reset"
    USER_CREDENTIALS = "user.credentials"
    """An administrator gave a user the password and one-time passwords that a Secret holds."""
    CERTIFICATE_ISSUED = "cert.issued"
    MEMBER_JOINED = "member.joined"
    JOIN_REFUSED = "member.refused"
    ADMIN_SIGNED = "admin.signed"
    TOKEN_CREATED = "token.created"  # noqa: S105 - the name of an event
    TOKEN_DELETED = "token.deleted"  # noqa: S105 - the name of an event
    TRUST_BEGUN = "trust.begun"
    """Another cluster (`cluster`) is trusted, as our root or as our leaf (`side`), by these keys (`fingerprints`)."""
    TRUST_REFUSED = "trust.refused"
    """A cluster that wanted to be our leaf was refused, or our root refused us."""
    TRUST_ENDED = "trust.ended"
    TRUST_ROTATED = "trust.rotated"
    """Another cluster's authority (`type`) has other keys, as it has proved: these `came`, those `went`."""
    CA_ROTATED = "ca.rotated"
    """The rotation of an authority (`type`) has come to a `phase`, by somebody (`by`) or by itself (`auto`)."""
    RESOURCE_WRITTEN = "resource.written"
    RESOURCE_REMOVED = "resource.removed"
    CALL_REFUSED = "call.refused"
    AUDIT_LOST = "audit.lost"
    """A node or proxy could not keep `count` of its events, up to here, until auth took them; `reason` says why."""


FROM_MEMBERS = frozenset(
    {
        EventType.AUTH,
        EventType.SESSION_START,
        EventType.SESSION_END,
        EventType.EXEC,
        EventType.SCP,
        EventType.RESIZE,
        EventType.SESSION_JOIN,
        EventType.SESSION_LEAVE,
        EventType.SESSION_REJECTED,
        EventType.GUEST_DISMISSED,
        EventType.PORT_FORWARD,
        EventType.PROXY_CONNECT,
        EventType.PROXY_REJECTED,
        EventType.WEB_REJECTED,
        EventType.TUNNEL_CONNECTED,
        EventType.TUNNEL_CLOSED,
        EventType.TUNNEL_REFUSED,
        EventType.AUDIT_LOST,
    }
)
"""What nodes and proxies may tell of; the rest only auth knows."""
