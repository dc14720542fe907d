"""One-time passwords, TOTP (RFC 6238) and HOTP (RFC 4226): what is stored, a code and the time in, a counter out."""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import Literal

import pyotp
from pydantic import BaseModel, ConfigDict
from pyotp.hotp import HOTP
from pyotp.totp import TOTP

STEP_SECONDS = 30
DIGITS = 6
TOTP_WINDOW = 1
"""Steps that a clock may be off, either way (RFC 6238 §5.2)."""
HOTP_LOOK_AHEAD = 10
"""Codes that may have been made and not used (RFC 4226 §7.4)."""


class OneTimePassword(BaseModel):
    """A person's generator as it is stored: `counter` is the last one accepted, never to be accepted again."""

    model_config = ConfigDict(frozen=True)

    type: Literal["totp", "hotp"] = "totp"
    seed: str
    """Base32, as authenticator apps take it (160 bits, RFC 4226 §4 R6)."""
    counter: int = -1

    def __repr__(self) -> str:
        """Return it without the seed."""
        return f"OneTimePassword(type={self.type!r}, counter={self.counter})"

    __str__ = __repr__


def new_seed() -> str:
    """Return a new random seed of 160 bits, in base32."""
    return pyotp.random_base32(32)


def provisioning_uri(otp: OneTimePassword, *, user: str, issuer: str) -> str:
    """Return the otpauth:// URI that the sign-up page shows as a QR code (Google Authenticator's Key URI Format)."""
    if otp.type == "hotp":
        return HOTP(otp.seed).provisioning_uri(name=user, issuer_name=issuer, initial_count=otp.counter + 1)
    return TOTP(otp.seed).provisioning_uri(name=user, issuer_name=issuer)


def accept(otp: OneTimePassword, code: str, now: datetime) -> int | None:
    """Return the counter that `code` stands for if it may be accepted now, else None.

    The caller stores it (by compare-and-swap) before anything is issued: each counter is accepted once.
    """
    generator = HOTP(otp.seed, digits=DIGITS)
    typed = "".join(code.split()).encode(errors="replace")  # apps show "123 456"
    accepted = None
    for counter in _window(otp, now):
        # Every counter is tried, so that the time does not tell which one was near.
        if hmac.compare_digest(generator.at(counter).encode(), typed) and counter > otp.counter:
            accepted = counter
    return accepted


def _window(otp: OneTimePassword, now: datetime) -> range:
    if otp.type == "hotp":
        return range(otp.counter + 1, otp.counter + 2 + HOTP_LOOK_AHEAD)
    step = int(now.timestamp()) // STEP_SECONDS
    return range(max(0, step - TOTP_WINDOW), step + TOTP_WINDOW + 1)
