"""What a machine joins with: a token and the fingerprint of the CA to believe, as written or in a file that holds it.

A file is read at each try, so that it may come later, and be renewed: in Kubernetes a Secret is mounted there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from runtime.core.errors import InvalidInput, InvalidSettings, Unavailable
from runtime.service.values import parse_ca_pin, parse_secret

MAX_BYTES = 4096
"""Of a file with a token or a fingerprint."""


@dataclass(frozen=True)
class Invitation:
    """What was read at one moment."""

    token: SecretStr
    ca_pin: str | None


def read(token: SecretStr, ca_pin: str | None) -> Invitation:
    """Return what to join with now. Raises as `token_of` and `pin_of` do."""
    return Invitation(token_of(token), pin_of(ca_pin))


def files_of(token: SecretStr, ca_pin: str | None) -> list[str]:
    """Return the files that are named, which may hold something else later."""
    return [each for each in (token.get_secret_value(), ca_pin or "") if each.startswith("/")]


def token_of(given: SecretStr) -> SecretStr:
    """Return the token, or the one in the file that is named: no token begins with a slash.

    Raises Unavailable for a file that is not there or is empty, InvalidSettings for one that holds no token.
    """
    text = given.get_secret_value()
    if not text.startswith("/"):
        return given
    try:
        return parse_secret(_content(text, "teleport.auth_token"))
    except InvalidInput as error:
        raise InvalidSettings(f"teleport.auth_token: {text}: {error}", hint="It holds one token.") from error


def pin_of(given: str | None) -> str | None:
    """Return the fingerprint, or the one in the file that is named.

    Raises Unavailable for a file that is not there or is empty, InvalidSettings for one that holds no fingerprint.
    """
    if given is None or not given.startswith("/"):
        return given
    try:
        return parse_ca_pin(_content(given, "teleport.ca_pin"))
    except InvalidInput as error:
        raise InvalidSettings(f"teleport.ca_pin: {given}: {error}", hint="It holds one fingerprint.") from error


def _content(path: str, key: str) -> str:
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unavailable(
            f"{key}: {path} cannot be read: {error.strerror}", hint="It is looked for again, until it is there."
        ) from error
    # What is too long or no ASCII is no token either, and its parser says so without showing it.
    text = content.decode("ascii", "replace").strip()
    if not text:
        raise Unavailable(f"{key}: {path} is empty", hint="It is looked for again, until something is in it.")
    return text
