"""What the methods take and give. Keys and certificates are OpenSSH's one-line text; times are aware and in UTC.

A newer side may send fields that an older one does not know: they are ignored, so that a rolling upgrade works.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, StrictBool, StrictInt

from runtime.core.callers import CallerKind
from runtime.core.defaults import CERTIFICATE_TTL, JOIN_TOKEN_TTL, SIGNUP_TTL

Text = Annotated[str, Field(max_length=1024)]
PublicKey = Annotated[str, Field(max_length=16 * 1024)]
Secret = Annotated[SecretStr, Field(max_length=1024), PlainSerializer(SecretStr.get_secret_value, when_used="json")]
"""Text that no repr and no log shows; JSON, which only the wire makes, does."""
SecretContent = Annotated[
    SecretStr, Field(max_length=64 * 1024), PlainSerializer(SecretStr.get_secret_value, when_used="json")
]
"""The same, longer: of a whole Secret."""
Labels = dict[Annotated[str, Field(max_length=256)], Annotated[str, Field(max_length=1024)]]


class Message(BaseModel):
    """The rules of all messages."""

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_timedelta="float")


class Nothing(Message):
    """No parameters, or nothing to tell but that it worked."""


# --- the cluster -------------------------------------------------------------------------------------------------


SecondFactor = Literal["off", "otp", "u2f"]


class Pong(Message):
    """Who answers, how people log in, and auth's clock, by which a caller notices that its own is off."""

    cluster: Text
    version: Text
    time: datetime
    second_factor: SecondFactor
    dynamic_config: bool = True
    """Whether the storage is the truth; else teleport.yaml is, and documents are not taken."""


class AuthorityKeys(Message):
    """The public half of one authority: what others trust. `keys` starts with the one that signs."""

    cluster: Text
    type: Literal["user", "host"]
    keys: tuple[PublicKey, ...]


class Authorities(Message):
    """All authorities that this cluster trusts, its own first."""

    authorities: tuple[AuthorityKeys, ...]


# --- membership --------------------------------------------------------------------------------------------------


class Presence(Message):
    """A member as it tells of itself by heartbeat. `addr` is host:port as others reach it."""

    id: UUID
    kind: CallerKind
    name: Text
    addr: Text
    labels: Labels = {}
    version: Text = ""


class JoinRequest(Message):
    """A newcomer's token, and who it wants to be. The key pair is its own; the private key never leaves it."""

    token: Secret
    roles: tuple[CallerKind, ...] = Field(min_length=1)
    name: Text
    advertised: tuple[Text, ...] = ()
    """Addresses and names beside `name` under which it wants to be known: host names or IPs, no ports."""
    public_key: PublicKey


class MemberCertificates(Message):
    """One role's certificates, signed by the host CA: `host` to serve with, `member` to call other services with.

    An administrator serves nothing; its `host` is empty.
    """

    role: CallerKind
    host: PublicKey
    member: PublicKey


class Membership(Message):
    """What a member holds: its id, its certificates, when the first of them ends, and whom to trust."""

    id: UUID
    certificates: tuple[MemberCertificates, ...]
    expires: datetime
    authorities: tuple[AuthorityKeys, ...]
    labels: Labels = {}
    """Labels that the token imposed; they override what the member reports of itself."""


class RenewRequest(Message):
    """A member asks for new certificates for the identity that it proved, with a key that may be new."""

    name: Text
    advertised: tuple[Text, ...] = ()
    public_key: PublicKey


class AdminRequest(Message):
    """An administrator asks for one more identity, to be used elsewhere until `ttl` is over; it is never renewed."""

    ttl: timedelta = CERTIFICATE_TTL
    public_key: PublicKey


class Heartbeat(Message):
    """A member is alive; forgotten after `ttl` unless it says so again."""

    presence: Presence
    ttl: timedelta = timedelta(seconds=60)


class HeartbeatReply(Message):
    """What a member should know after a heartbeat: where auth servers are (host:port)."""

    auth_servers: tuple[Text, ...]


class PresenceQuery(Message):
    """Which members to list."""

    kind: CallerKind


class PresenceEntry(Message):
    """A member as it was last heard; `labels` are already the merged ones."""

    presence: Presence
    expires: datetime


class PresenceList(Message):
    """Members, ordered by name and id."""

    members: tuple[PresenceEntry, ...]


# --- people ------------------------------------------------------------------------------------------------------


class LoginRequest(Message):
    """A person logs in at a proxy, which passes on what was typed and from where."""

    user: Text
    password: Secret
    otp: Secret = SecretStr("")
    public_key: PublicKey
    ttl: timedelta | None = None
    """How long the certificate should hold; None for as long as roles and the cluster's default allow."""
    address: Text
    """The person's address as the proxy saw it (the TCP peer)."""


class LoginReply(Message):
    """A signed certificate, and the cluster's authorities so that the client can verify hosts."""

    user: Text
    certificate: PublicKey
    expires: datetime
    cluster: Text
    authorities: tuple[AuthorityKeys, ...]


class SignupQuery(Message):
    """The token of a sign-up URL."""

    token: Secret
    address: Text


class SignupForm(Message):
    """What the sign-up page shows. `otp_uri` (otpauth://…) is empty when the second factor is off."""

    user: Text
    second_factor: SecondFactor
    otp_uri: Text = ""
    expires: datetime


class SignupRequest(Message):
    """A person completes sign-up; the invite is consumed when this succeeds, and only then."""

    token: Secret
    password: Secret
    otp: Secret = SecretStr("")
    address: Text


class Signup(Message):
    """A completed sign-up."""

    user: Text


class InviteRequest(Message):
    """A user to invite, for how long, and the kind of one-time passwords: by the clock (totp) or by counting (hotp)."""

    name: Text
    ttl: timedelta = SIGNUP_TTL
    otp: Literal["totp", "hotp"] = "totp"


class UserRequest(InviteRequest):
    """A user to create and invite. Without logins the user's own name is the login."""

    logins: tuple[Text, ...] = ()


class Invite(Message):
    """A sign-up token: shown once to who created it. `urls` are complete, one for each known proxy."""

    user: Text
    token: Text
    expires: datetime
    urls: tuple[Text, ...] = ()


class Name(Message):
    """Something by its name."""

    name: Text


class UserEntry(Message):
    """A user as tctl lists it; `status` says whether it can log in."""

    name: Text
    logins: tuple[Text, ...]
    roles: tuple[Text, ...]
    origin: Text
    status: Literal["active", "invited", "locked"]


class UserList(Message):
    """Users, ordered by name."""

    users: tuple[UserEntry, ...]


# --- tokens ------------------------------------------------------------------------------------------------------


class TokenRequest(Message):
    """A join token to create. Without a value one of 128 random bits is made."""

    roles: tuple[Literal["node", "proxy", "auth", "trusted_cluster"], ...] = Field(min_length=1)
    ttl: timedelta = JOIN_TOKEN_TTL
    value: Secret | None = None
    max_uses: int | None = Field(default=None, ge=1)
    labels: Labels = {}


class TokenEntry(Message):
    """A token in full, for administrators only. `expires` None: a static one, from teleport.yaml, never ends."""

    token: Text
    """Empty for a declared one: its value is in its Secret, and auth does not know it."""
    roles: tuple[Text, ...]
    expires: datetime | None
    static: bool = False
    name: Text = ""
    """Of a declared one: that of its document."""


class TokenCreated(Message):
    """A new join token, and what a newcomer needs beside it."""

    entry: TokenEntry
    ca_pin: Text
    auth_servers: tuple[Text, ...]


class TokenList(Message):
    """Tokens, static ones first, then by expiry."""

    tokens: tuple[TokenEntry, ...]


class TokenValue(Message):
    """A token by its value."""

    token: Secret


# --- resources ---------------------------------------------------------------------------------------------------


class ResourceRef(Message):
    """A resource by kind (as in documents: User, Role, Token, TrustedCluster) and name."""

    kind: Text
    name: Text
    revision: int = 0
    """To remove it only if it is still at that revision; 0 for whichever."""


class ResourceQuery(Message):
    """Which resources to list or to follow."""

    kind: Text


class ResourceDocument(Message):
    """A resource as the backend has it: its document as JSON text, and its revision for compare-and-swap."""

    document: str
    revision: int = 0
    """0 in a request: the resource must be new. Else it must still be at that revision."""
    overwrite: bool = False
    """In a request: write whatever was there (tctl create --force)."""
    value: SecretContent | None = None
    """In a request: what the Secret of a token or trusted cluster holds. In the answer: the value that was made for a
    token that had none, told this once."""


class ResourceList(Message):
    """Resources of one kind, ordered by name."""

    resources: tuple[ResourceDocument, ...]


class ResourceEvent(Message):
    """A change, as a piece of the answer to resources.watch.

    `snapshot` replaces all that was known; else `put` came or changed, or `deleted` (a name) is gone.
    """

    snapshot: tuple[ResourceDocument, ...] | None = None
    put: ResourceDocument | None = None
    deleted: Text | None = None


# --- audit -------------------------------------------------------------------------------------------------------

MAX_AUDIT_EVENTS = 256
"""Events of one call."""


class AuditEvent(Message):
    """Something that happened at a member; it arrives at least once, and its uid tells when it came twice."""

    event: Text
    uid: UUID
    time: datetime
    fields: Annotated[
        dict[
            Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_.]{0,63}$")],
            Annotated[str, Field(max_length=64 * 1024)]
            | StrictBool
            | StrictInt
            | Annotated[list[Text], Field(max_length=256)],
        ],
        Field(max_length=64),
    ]


class AuditEvents(Message):
    """Events in the order in which they happened."""

    events: Annotated[tuple[AuditEvent, ...], Field(max_length=MAX_AUDIT_EVENTS)]


class EventQuery(Message):
    """Which events to tell of: all that is said must be true of one. `since` is included, `until` is not."""

    types: tuple[Text, ...] = ()
    """Any of these."""
    fields: dict[Text, Text] = {}
    """Values of fields, such as user, login, server_id, sid."""
    text: Text = ""
    since: datetime | None = None
    """None: the last 24 hours."""
    until: datetime | None = None
    follow: bool = False
    """Go on with what happens from now on, until the caller gives up."""


class EventPage(Message):
    """Events as the log has them, lines of JSON, ordered by uid."""

    lines: tuple[str, ...]


class SignedRequest(Message):
    """An HTTP request as a person signed it (`runtime.api.signed`), passed on by the proxy at which it arrived."""

    method: Text
    target: Annotated[str, Field(max_length=8 * 1024)]
    certificate: Annotated[bytes, Field(max_length=16 * 1024)]
    signature: Annotated[bytes, Field(max_length=16 * 1024)]
    time: Text
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


# --- recordings --------------------------------------------------------------------------------------------------

MAX_RECORDING_BYTES = 512 * 1024
"""Of one call."""

RecordingPart = Literal["bytes", "log"]
"""The two files of a recording (`runtime.audit.recording`)."""
RecordingFile = Literal[RecordingPart, "index"]
"""Those, and what auth derives from them (`runtime.audit.index`)."""


class RecordingSession(Message):
    """What a recording is of."""

    sid: UUID
    user: Text
    login: Text
    started: AwareDatetime
    command: Text = ""
    """Empty for a shell."""


class RecordingPiece(Message):
    """More of a recording: bytes from `offset` on of one of its files."""

    session: RecordingSession
    part: RecordingPart
    offset: int = Field(ge=0)
    data: Annotated[bytes, Field(max_length=MAX_RECORDING_BYTES)]
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class RecordingSize(Message):
    """How many bytes auth has of that file now: where to go on."""

    size: int


class RecordingEnd(Message):
    """A recording is over; so many bytes its files have."""

    session: RecordingSession
    sizes: dict[RecordingPart, int]


class RecordingQuery(Message):
    """Which recordings to list; those of all users if none is named."""

    user: Text = ""
    signed: SignedRequest | None = None
    """What the person signed for whom a proxy asks: those that this one may read."""


class RecordingEntry(Message):
    """A recording that auth knows; `over` once all of it is there."""

    session: RecordingSession
    node: Text
    over: bool
    size: int
    auth: Text
    head: str = ""
    """The link that a line after the log's last would name, as the storage has it; empty if it does not."""


class RecordingList(Message):
    """Recordings, the latest first."""

    recordings: tuple[RecordingEntry, ...]


class RecordingRead(Message):
    """Which bytes of a recording to read."""

    sid: UUID
    part: RecordingFile
    offset: int = Field(default=0, ge=0, lt=2**53)
    size: int = Field(default=MAX_RECORDING_BYTES, ge=1, le=MAX_RECORDING_BYTES)
    signed: SignedRequest | None = None
    """What the person signed for whom a proxy asks."""


class RecordingData(Message):
    """Bytes of a recording; none at its end."""

    data: bytes
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


# --- running sessions --------------------------------------------------------------------------------------------

MAX_RUNNING_SESSIONS = 2048
"""Sessions of one report: as many as a message can surely hold."""


MAX_PARTICIPANTS = 4096
"""People who have joined sessions that one report tells of; it has to be one message."""


class Participant(Message):
    """Somebody who has joined a session."""

    user: Text
    mode: Literal["peer", "observer"]


class RunningSession(Message):
    """A session that runs on a node."""

    sid: UUID
    user: Text
    login: Text
    started: AwareDatetime
    command: Text = ""
    """Empty for a shell."""
    interactive: bool
    """The log has a session.start of it, and is owed a session.end; of others it is told when the command ends."""
    joinable: bool = False
    """It has a terminal."""
    parties: Annotated[tuple[Participant, ...], Field(max_length=MAX_PARTICIPANTS)] = ()
    """Those who have joined, without whose session it is."""


class SessionReport(Message):
    """All sessions that run on a node and started up to `time`, by the node's clock.

    The end of any other session that started before has been logged already, if the node knew of it: what is missing
    here and has no end was lost.
    """

    boot: UUID
    """The node's process: another one knows nothing of its predecessor's sessions."""
    time: datetime
    sessions: Annotated[tuple[RunningSession, ...], Field(max_length=MAX_RUNNING_SESSIONS)]
    complete: bool = True
    """False: there are more, and nothing follows from one that is missing."""


class SessionQuery(Message):
    """Which running sessions to list: all, or one."""

    sid: UUID | None = None
    signed: SignedRequest | None = None
    """What the person signed for whom a proxy asks: those that this one may list, or the one that it may know of."""


class SessionEntry(Message):
    """A running session, and where it runs; `hostname` is empty when the node is not known now."""

    session: RunningSession
    node: Text
    hostname: Text = ""


class SessionList(Message):
    """Running sessions, the oldest first."""

    sessions: tuple[SessionEntry, ...]


class SessionKill(Message):
    """A session to end."""

    sid: UUID


class SessionOrder(Message):
    """Sessions that a node has to end, as a piece of the answer to sessions.orders."""

    sids: tuple[UUID, ...]
