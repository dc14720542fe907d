"""The audit section of teleport.yaml: how events and recordings are kept, and to whom auth passes events on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from runtime.audit.log import Sync
from runtime.backend.objects import S3Options
from runtime.core import defaults
from runtime.core.durations import format_duration, parse_duration
from runtime.core.errors import InvalidInput
from runtime.service.object_uri import parse_object_uri
from runtime.service.schema import ADDED, Section, choice, contradiction, read
from runtime.service.values import is_loopback, parse_count, parse_path, parse_peer, parse_text, parse_url, shown

SYSLOG_PORT = 514
"""Of UDP (RFC 5426 §3.3); for TCP it is what most servers take."""
MIN_AGE = timedelta(hours=1)
"""Nothing is deleted before that age."""

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}\Z")  # RFC 9110 §5.6.2, token
_OURS = frozenset({"connection", "content-length", "content-type", "host", "idempotency-key", "transfer-encoding"})
"""Headers that the webhook sets by itself."""


class Facility(StrEnum):
    """Where syslog files an entry (RFC 5424 §6.2.1)."""

    AUTH = "auth"
    AUTHPRIV = "authpriv"
    DAEMON = "daemon"
    USER = "user"
    LOCAL0 = "local0"
    LOCAL1 = "local1"
    LOCAL2 = "local2"
    LOCAL3 = "local3"
    LOCAL4 = "local4"
    LOCAL5 = "local5"
    LOCAL6 = "local6"
    LOCAL7 = "local7"


def _syslog_address(text: str) -> str:
    """Return `udp://HOST[:PORT]` or `tcp://HOST[:PORT]` with its port, or `unix:///PATH`. Raises InvalidInput."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme in ("udp", "tcp"):
        return f"{scheme}://{parse_peer(rest, default_port=SYSLOG_PORT)}"
    if separator and scheme == "unix":
        return f"unix://{parse_path(rest)}"
    raise InvalidInput(
        f"expected udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH such as unix:///dev/log, found {shown(text)}"
    )


def _webhook_url(text: str) -> str:
    """Return a URL with https, or with http to this machine. Raises InvalidInput, which shows no more than the host."""
    try:
        url = parse_url(text, schemes=("https", "http"))
    except InvalidInput as error:  # its path may be a secret, as with many chats
        raise InvalidInput("expected a URL that starts with https:// and has no user in it (not shown)") from error
    host = urlsplit(url).hostname or ""
    if url.startswith("http:") and not is_loopback(host):
        raise InvalidInput(f"expected https: events would travel to {shown(host)} for everybody to read and change")
    return url


def _header(text: str) -> str:
    """Return the name of an HTTP header. Raises InvalidInput."""
    if not _HEADER.match(text):
        raise InvalidInput(f"expected the name of an HTTP header, found {shown(text)}")
    return text


def _header_value(text: str) -> SecretStr:
    """Return the value of an HTTP header. Raises InvalidInput, which does not show it."""
    try:
        if parse_text(text).isascii():
            return SecretStr(text)
    except InvalidInput:
        pass
    raise InvalidInput("expected printable ASCII (not shown: a secret)") from None


def _age(text: str) -> timedelta:
    """Return an age of at least MIN_AGE. Raises InvalidInput."""
    try:
        age = parse_duration(text)
    except InvalidInput as error:
        raise InvalidInput(f"expected a duration such as 2160h (90 days), but {error}") from error
    if age < MIN_AGE:
        raise InvalidInput(f"expected {format_duration(MIN_AGE)} or more, found {shown(text)}")
    return age


class StdoutSink(Section):
    """Events go to stdout, one line of JSON each, for the collector of a container."""

    type: Literal["stdout"] = Field(
        description="Events go to stdout, one line of JSON each: for a container's collector.", examples=["stdout"]
    )


class SyslogSink(Section):
    """Events go to a syslog server, as RFC 5424 has them."""

    type: Literal["syslog"] = Field(description="Events go to syslog, in the format of RFC 5424.", examples=["syslog"])
    address: Annotated[str, read(str, _syslog_address)] = Field(
        default="unix:///dev/log",
        description="`unix:///PATH`, `udp://HOST:PORT` or `tcp://HOST:PORT`, port 514 if none is given. The latter two "
        "travel in the clear.",
    )
    facility: Annotated[Facility, choice(Facility)] = Field(
        default=Facility.AUTHPRIV, description="Where syslog files them: `authpriv`, `daemon`, `local0`, say."
    )

    @property
    def is_local(self) -> bool:
        """Whether events stay on this machine."""
        url = urlsplit(self.address)
        return url.scheme == "unix" or is_loopback(url.hostname or "")


class WebhookSink(Section):
    """Events are posted to a URL."""

    type: Literal["webhook"] = Field(
        description="Events are posted to a URL, up to 256 at a time, one line of JSON each.", examples=["webhook"]
    )
    url: Annotated[str, read(str, _webhook_url)] = Field(
        repr=False,
        description="The URL: https, or http to this machine. It is never shown but for its host.",
        examples=["https://events.main.example/teleport"],
    )
    headers: Mapping[Annotated[str, read(str, _header)], Annotated[SecretStr, read(SecretStr, _header_value)]] = Field(
        default_factory=dict,
        description="Headers to send with them; their values are secrets.",
        examples=[{"X-Scope-OrgID": "security"}],
    )
    token_file: Annotated[str, read(str, parse_path)] | None = Field(
        default=None,
        description="A file with a token that is sent as `Authorization: Bearer`; it is read each time.",
        examples=["/etc/teleport/webhook.token"],
    )
    ca_file: Annotated[str, read(str, parse_path)] | None = Field(
        default=None,
        description="The authority that has signed the server's certificate (PEM); the system's if not given.",
        examples=["/etc/teleport/webhook-ca.pem"],
    )

    @model_validator(mode="after")
    def _headers_are_free(self) -> Self:
        for name in self.headers:
            if name.lower() in _OURS:
                raise contradiction("headers", name, reason="teleport sets this header by itself")
            if name.lower() == "authorization" and self.token_file:
                raise contradiction("headers", name, reason="token_file sets this header")
        return self


AuditSink = StdoutSink | SyslogSink | WebhookSink


class AuditSection(Section):
    """What auth does with events and recordings, and how many events wait for it elsewhere."""

    fsync: Annotated[Sync, choice(Sync)] = Field(
        default=Sync.ALWAYS,
        description=(
            "When events are put on the disk: `always` (before nodes and proxies are told that they were taken), "
            "`interval` (once a second), `never` (the system does it). Only a crash of the machine makes a difference."
        ),
        json_schema_extra=ADDED,
    )
    retention: Annotated[timedelta, read(timedelta, _age)] = Field(
        default=defaults.EVENT_RETENTION,
        description=(
            "How long the storage keeps events for `tctl events ls`; 2160h are 90 days. "
            "The files in data_dir/log stay until somebody removes them."
        ),
        json_schema_extra=ADDED,
    )
    spool_limit: Annotated[int, read(int, parse_count)] = Field(
        default=256,
        description=(
            "MiB of events that a node, and a proxy, keeps in data_dir until auth has them. Beyond that the oldest are "
            "lost, which the audit log says (`audit.lost`)."
        ),
        json_schema_extra=ADDED,
    )
    recordings_retention: Annotated[timedelta, read(timedelta, _age)] | None = Field(
        default=None,
        description="How old recordings become before they are deleted; if not given they stay.",
        examples=["8760h"],
        json_schema_extra=ADDED,
    )
    recordings_limit: Annotated[int, read(int, parse_count)] | None = Field(
        default=None,
        description=(
            "MiB that recordings may take on this auth server, and in `recordings_uri`; the oldest are deleted. "
            "No limit if not given."
        ),
        examples=[102400],
        json_schema_extra=ADDED,
    )
    recordings_uri: Annotated[S3Options, read(S3Options, parse_object_uri)] | None = Field(
        default=None,
        description=(
            "Where recordings go once they are over: a bucket of S3, or of what speaks as S3 does (`endpoint`), the "
            "same for all auth servers. Credentials are found as AWS's own tools find them. "
            "If not given they stay in data_dir."
        ),
        examples=["s3://recordings.main.example/teleport?region=eu-west-1"],
        json_schema_extra=ADDED,
    )
    sinks: tuple[Annotated[AuditSink, Field(discriminator="type")], ...] = Field(
        default=(),
        description=(
            "To whom events are passed on, each event at least once and in order: `stdout`, `syslog`, `webhook`. "
            "A sink that is away gets them when it is back; a new one gets all that data_dir/log still holds."
        ),
        examples=[
            [
                {"type": "stdout"},
                {"type": "syslog", "address": "unix:///dev/log", "facility": "authpriv"},
                {
                    "type": "webhook",
                    "url": "https://events.main.example/teleport",
                    "headers": {"X-Scope-OrgID": "security"},
                    "token_file": "/etc/teleport/webhook.token",
                    "ca_file": "/etc/teleport/webhook-ca.pem",
                },
            ]
        ],
        json_schema_extra=ADDED,
    )

    @model_validator(mode="after")
    def _each_sink_once(self) -> Self:
        seen = set()
        for place, sink in enumerate(self.sinks):
            where = target(sink)
            if where in seen:
                raise contradiction("sinks", place, reason="events go there already; name each place once")
            seen.add(where)
        return self


def target(sink: AuditSink) -> str:
    """Return where a sink's events go, which tells it from others."""
    match sink:
        case StdoutSink():
            return "stdout"
        case SyslogSink():
            return sink.address
        case WebhookSink():
            return sink.url
