"""The methods of auth: for each its name, what it takes and gives, and the callers that may use it.

This table is the list that the authorising function of auth goes by: a caller of another kind is refused and audited,
and what is not here does not exist. A method whose `pieces` is set answers with pieces of that type before its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from runtime.api.cluster_messages import Authorities, Pong
from runtime.api.credential_messages import CredentialsReply, CredentialsRequest
from runtime.api.event_messages import AuditEvents, EventPage, EventQuery, SegmentPage, SegmentQuery
from runtime.api.member_messages import (
    AdminRequest,
    Heartbeat,
    HeartbeatReply,
    JoinRequest,
    Membership,
    PresenceList,
    PresenceQuery,
    RenewRequest,
)
from runtime.api.messages import Message, Name, Nothing
from runtime.api.people_messages import (
    Invite,
    InviteRequest,
    LoginReply,
    LoginRequest,
    Signup,
    SignupForm,
    SignupQuery,
    SignupRequest,
    UserList,
    UserRequest,
)
from runtime.api.proof_messages import KeysProof, KeysQuery
from runtime.api.recording_messages import (
    RecordingData,
    RecordingEnd,
    RecordingList,
    RecordingPiece,
    RecordingQuery,
    RecordingRead,
    RecordingSize,
)
from runtime.api.resource_messages import ResourceDocument, ResourceEvent, ResourceList, ResourceQuery, ResourceRef
from runtime.api.rotation_messages import AuthorityStates, RotateRequest, RotationStatuses
from runtime.api.search_messages import RecordingFinding, RecordingSearch
from runtime.api.session_messages import SessionKill, SessionList, SessionOrder, SessionQuery, SessionReport
from runtime.api.succession_messages import Successions
from runtime.api.token_messages import TokenCreated, TokenList, TokenRequest, TokenValue
from runtime.api.trust_messages import ClusterName, LeafRequest, RootReply, TrustedClusters, TrustStatuses
from runtime.api.tunnel_messages import TunnelList, TunnelReport
from runtime.core.callers import MEMBERS, CallerKind

Params = TypeVar("Params", bound=Message)
Result = TypeVar("Result", bound=Message)

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
    pieces: type[Message] | None = None


PING = Method("ping", Nothing, Pong, _ALL)
AUTHORITIES = Method("authorities.list", Nothing, Authorities, _ALL)
AUTHORITIES_PROVE = Method("authorities.prove", KeysQuery, KeysProof, frozenset({_NOBODY}))
AUTHORITIES_WATCH = Method("authorities.watch", Nothing, Nothing, MEMBERS | {_ADMIN}, pieces=AuthorityStates)
AUTHORITIES_ROTATE = Method("authorities.rotate", RotateRequest, RotationStatuses, frozenset({_ADMIN}))
AUTHORITIES_ROTATION = Method("authorities.rotation", Nothing, RotationStatuses, frozenset({_ADMIN}))

JOIN = Method("members.join", JoinRequest, Membership, frozenset({_NOBODY}))
RENEW = Method("members.renew", RenewRequest, Membership, MEMBERS)
ADMINS_SIGN = Method("admins.sign", AdminRequest, Membership, frozenset({_ADMIN}))
HEARTBEAT = Method("presence.heartbeat", Heartbeat, HeartbeatReply, MEMBERS)
LEAVE = Method("presence.leave", Nothing, Nothing, MEMBERS)
PRESENCE = Method("presence.list", PresenceQuery, PresenceList, MEMBERS | {_ADMIN})

LOGIN = Method("people.login", LoginRequest, LoginReply, frozenset({_PROXY}))
SIGNUP_SHOW = Method("people.signup.show", SignupQuery, SignupForm, frozenset({_PROXY}))
SIGNUP_COMPLETE = Method("people.signup.complete", SignupRequest, Signup, frozenset({_PROXY}))

USERS_CREATE = Method("users.create", UserRequest, Invite, frozenset({_ADMIN}))
USERS_INVITE = Method("users.invite", InviteRequest, Invite, frozenset({_ADMIN}))
USERS_RESET = Method("users.reset", InviteRequest, Invite, frozenset({_ADMIN}))
USERS_CREDENTIALS = Method("users.credentials", CredentialsRequest, CredentialsReply, frozenset({_ADMIN}))
USERS_LIST = Method("users.list", Nothing, UserList, frozenset({_ADMIN}))
USERS_DELETE = Method("users.delete", Name, Nothing, frozenset({_ADMIN}))

TOKENS_CREATE = Method("tokens.create", TokenRequest, TokenCreated, frozenset({_ADMIN}))
TOKENS_LIST = Method("tokens.list", Nothing, TokenList, frozenset({_ADMIN}))
TOKENS_DELETE = Method("tokens.delete", TokenValue, Nothing, frozenset({_ADMIN}))

RESOURCES_GET = Method("resources.get", ResourceRef, ResourceDocument, frozenset({_ADMIN}))
RESOURCES_LIST = Method("resources.list", ResourceQuery, ResourceList, frozenset({_ADMIN}))
RESOURCES_WRITE = Method("resources.write", ResourceDocument, ResourceDocument, frozenset({_ADMIN}))
RESOURCES_REMOVE = Method("resources.remove", ResourceRef, Nothing, frozenset({_ADMIN}))
RESOURCES_WATCH = Method("resources.watch", ResourceQuery, Nothing, MEMBERS | {_ADMIN}, pieces=ResourceEvent)

AUDIT = Method("audit.emit", AuditEvents, Nothing, frozenset({CallerKind.NODE, _PROXY}))
EVENTS = Method("audit.search", EventQuery, Nothing, frozenset({_ADMIN}), pieces=EventPage)
SEGMENTS = Method(
    "audit.segments",
    SegmentQuery,
    Nothing,
    frozenset({_ADMIN}),
    pieces=SegmentPage,
)
RECORDING_APPEND = Method("recordings.append", RecordingPiece, RecordingSize, frozenset({CallerKind.NODE}))
RECORDING_END = Method("recordings.end", RecordingEnd, Nothing, frozenset({CallerKind.NODE}))
RECORDINGS_LIST = Method("recordings.list", RecordingQuery, RecordingList, frozenset({_ADMIN, _PROXY}))
RECORDING_READ = Method(  # of another auth server, too: of recordings on the disk of the one that is asked
    "recordings.read", RecordingRead, RecordingData, frozenset({_ADMIN, _PROXY, CallerKind.AUTH})
)
RECORDINGS_SEARCH = Method(
    "recordings.search",
    RecordingSearch,
    Nothing,
    frozenset({_ADMIN}),
    pieces=RecordingFinding,
)

SESSIONS_REPORT = Method("sessions.report", SessionReport, Nothing, frozenset({CallerKind.NODE}))
SESSIONS_ORDERS = Method("sessions.orders", Nothing, Nothing, frozenset({CallerKind.NODE}), pieces=SessionOrder)
SESSIONS_LIST = Method("sessions.list", SessionQuery, SessionList, frozenset({_ADMIN, _PROXY}))
SESSIONS_KILL = Method("sessions.kill", SessionKill, Nothing, frozenset({_ADMIN}))

TRUSTED_WATCH = Method("trusted.watch", Nothing, Nothing, MEMBERS | {_ADMIN}, pieces=TrustedClusters)
TRUSTED_LIST = Method("trusted.list", Nothing, TrustedClusters, frozenset({_ADMIN}))
TRUSTED_STATUS = Method("trusted.status", Nothing, TrustStatuses, frozenset({_ADMIN}))
TRUSTED_ACCEPT = Method("trusted.accept", LeafRequest, RootReply, frozenset({_PROXY}))
TRUSTED_LEARN = Method("trusted.learn", Successions, Successions, frozenset({_PROXY}))
TRUSTED_FORGET = Method("trusted.forget", ClusterName, Nothing, frozenset({_ADMIN}))

TUNNELS_REPORT = Method("tunnels.report", TunnelReport, Nothing, frozenset({_PROXY}))
TUNNELS_LIST = Method("tunnels.list", Nothing, TunnelList, MEMBERS | {_ADMIN})

METHODS: dict[str, Method[Any, Any]] = {  # Any: each entry has its own types, checked where it is called and served
    method.name: method for method in list(globals().values()) if isinstance(method, Method)
}
