"""What the method takes and gives by which a user gets the credentials of a Secret."""

from __future__ import annotations

from pydantic import SecretStr

from runtime.api.messages import Message, Secret, Text


class CredentialsRequest(Message):
    """What the Secret of a User document holds: its password, and the base32 seed of its one-time passwords."""

    user: Text
    password: Secret
    otp_secret: Secret = SecretStr("")
    check: bool = False
    """Only tell whether these are the user's already."""


class CredentialsReply(Message):
    """Whether they were the user's before."""

    held: bool
