"""People: logging in, signing up, what they sign, and users as administrators see them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, SecretStr

from runtime.api.cluster_messages import AuthorityKeys, SecondFactor
from runtime.api.messages import Message, PublicKey, Secret, Text
from runtime.core.defaults import SIGNUP_TTL


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


class SignedRequest(Message):
    """An HTTP request as a person signed it (`runtime.api.signed`), passed on by the proxy at which it arrived."""

    method: Text
    target: Annotated[str, Field(max_length=8 * 1024)]
    certificate: Annotated[bytes, Field(max_length=16 * 1024)]
    signature: Annotated[bytes, Field(max_length=16 * 1024)]
    time: Text
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
