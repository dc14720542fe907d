"""The methods of auth: for each its name, what it takes and gives, and the callers that may use it.

This table is the list that the authorising function of auth goes by: a caller of another kind is refused and audited,
and what is not here does not exist. A method whose `pieces` is set answers with pieces of that type before its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from runtime.api import event_messages
from runtime.api import messages as m
from runtime.api import search_messages as searching
from runtime.api import trust_messages as trust
from runtime.api.credential_messages import CredentialsReply, CredentialsRequest
from runtime.api.tunnel_messages import TunnelList, TunnelReport
from runtime.core.callers import MEMBERS, CallerKind

Params = TypeVar("Params", bound=m.Message)
Result = TypeVar("Result", bound=m.Message)

_NOBODY, _PROXY, _ADMIN = CallerKind.NOBODY, CallerKind.PROXY, CallerKind.ADMIN
_ALL = frozenset(CallerKind)
_CERTIFIED = _ALL - {_NOBODY}


@dataclass(frozen=True, slots=True)
class Method(Generic[Params, Result]):
    """One method; `params` and `result` are the types of its messages."""

    name: str
    params: type[Params]
    result: type[Result]
    callers: frozenset[CallerKind]
    pieces: type[m.Message] | None = None


PING = Method("ping", m.Nothing, m.Pong, _ALL)
AUTHORITIES = Method("authorities.list", m.Nothing, m.Authorities, _ALL)

JOIN = Method("members.join", m.JoinRequest, m.Membership, frozenset({_NOBODY}))
RENEW = Method("members.renew", m.RenewRequest, m.Membership, MEMBERS)
ADMINS_SIGN = Method("admins.sign", m.AdminRequest, m.Membership, frozenset({_ADMIN}))
HEARTBEAT = Method("presence.heartbeat", m.Heartbeat, m.HeartbeatReply, MEMBERS)
LEAVE = Method("presence.leave", m.Nothing, m.Nothing, MEMBERS)
PRESENCE = Method("presence.list", m.PresenceQuery, m.PresenceList, MEMBERS | {_ADMIN})

LOGIN = Method("people.login", m.LoginRequest, m.LoginReply, frozenset({_PROXY}))
SIGNUP_SHOW = Method("people.signup.show", m.SignupQuery, m.SignupForm, frozenset({_PROXY}))
SIGNUP_COMPLETE = Method("people.signup.complete", m.SignupRequest, m.Signup, frozenset({_PROXY}))

USERS_CREATE = Method("users.create", m.UserRequest, m.Invite, frozenset({_ADMIN}))
USERS_INVITE = Method("users.invite", m.InviteRequest, m.Invite, frozenset({_ADMIN}))
USERS_RESET = Method("users.reset", m.InviteRequest, m.Invite, frozenset({_ADMIN}))
USERS_CREDENTIALS = Method("users.credentials", CredentialsRequest, CredentialsReply, frozenset({_ADMIN}))
USERS_LIST = Method("users.list", m.Nothing, m.UserList, frozenset({_ADMIN}))
USERS_DELETE = Method("users.delete", m.Name, m.Nothing, frozenset({_ADMIN}))

TOKENS_CREATE = Method("tokens.create", m.TokenRequest, m.TokenCreated, frozenset({_ADMIN}))
TOKENS_LIST = Method("tokens.list", m.Nothing, m.TokenList, frozenset({_ADMIN}))
TOKENS_DELETE = Method("tokens.delete", m.TokenValue, m.Nothing, frozenset({_ADMIN}))

RESOURCES_GET = Method("resources.get", m.ResourceRef, m.ResourceDocument, frozenset({_ADMIN}))
RESOURCES_LIST = Method("resources.list", m.ResourceQuery, m.ResourceList, frozenset({_ADMIN}))
RESOURCES_WRITE = Method("resources.write", m.ResourceDocument, m.ResourceDocument, frozenset({_ADMIN}))
RESOURCES_REMOVE = Method("resources.remove", m.ResourceRef, m.Nothing, frozenset({_ADMIN}))
RESOURCES_WATCH = Method("resources.watch", m.ResourceQuery, m.Nothing, MEMBERS | {_ADMIN}, pieces=m.ResourceEvent)

AUDIT = Method("audit.emit", m.AuditEvents, m.Nothing, frozenset({CallerKind.NODE, _PROXY}))
EVENTS = Method("audit.search", m.EventQuery, m.Nothing, frozenset({_ADMIN}), pieces=m.EventPage)
SEGMENTS = Method(
    "audit.segments",
    event_messages.SegmentQuery,
    m.Nothing,
    frozenset({_ADMIN}),
    pieces=event_messages.SegmentPage,
)
RECORDING_APPEND = Method("recordings.append", m.RecordingPiece, m.RecordingSize, frozenset({CallerKind.NODE}))
RECORDING_END = Method("recordings.end", m.RecordingEnd, m.Nothing, frozenset({CallerKind.NODE}))
RECORDINGS_LIST = Method("recordings.list", m.RecordingQuery, m.RecordingList, frozenset({_ADMIN, _PROXY}))
RECORDING_READ = Method(  # of another auth server, too: of recordings on the disk of the one that is asked
    "recordings.read", m.RecordingRead, m.RecordingData, frozenset({_ADMIN, _PROXY, CallerKind.AUTH})
)
RECORDINGS_SEARCH = Method(
    "recordings.search",
    searching.RecordingSearch,
    m.Nothing,
    frozenset({_ADMIN}),
    pieces=searching.RecordingFinding,
)

SESSIONS_REPORT = Method("sessions.report", m.SessionReport, m.Nothing, frozenset({CallerKind.NODE}))
SESSIONS_ORDERS = Method("sessions.orders", m.Nothing, m.Nothing, frozenset({CallerKind.NODE}), pieces=m.SessionOrder)
SESSIONS_LIST = Method("sessions.list", m.SessionQuery, m.SessionList, frozenset({_ADMIN, _PROXY}))
SESSIONS_KILL = Method("sessions.kill", m.SessionKill, m.Nothing, frozenset({_ADMIN}))

TRUSTED_WATCH = Method("trusted.watch", m.Nothing, m.Nothing, MEMBERS | {_ADMIN}, pieces=trust.TrustedClusters)
TRUSTED_LIST = Method("trusted.list", m.Nothing, trust.TrustedClusters, frozenset({_ADMIN}))
TRUSTED_STATUS = Method("trusted.status", m.Nothing, trust.TrustStatuses, frozenset({_ADMIN}))
TRUSTED_ACCEPT = Method("trusted.accept", trust.LeafRequest, trust.RootReply, frozenset({_PROXY}))
TRUSTED_FORGET = Method("trusted.forget", trust.ClusterName, m.Nothing, frozenset({_ADMIN}))

TUNNELS_REPORT = Method("tunnels.report", TunnelReport, m.Nothing, frozenset({_PROXY}))
TUNNELS_LIST = Method("tunnels.list", m.Nothing, TunnelList, MEMBERS | {_ADMIN})

METHODS: dict[str, Method[Any, Any]] = {  # Any: each entry has its own types, checked where it is called and served
    method.name: method for method in list(globals().values()) if isinstance(method, Method)
}
