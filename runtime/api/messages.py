"""What the messages in the modules beside this one have in common: their rules, and the types of their fields.

Keys and certificates are OpenSSH's one-line text; times are aware and in UTC.

A newer side may send fields that an older one does not know: they are ignored, so that a rolling upgrade works.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr

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


class Name(Message):
    """Something by its name."""

    name: Text
