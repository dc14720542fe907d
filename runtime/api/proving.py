"""Who signed a request (`runtime.api.signed`): asked by the proxy at which it arrives, and again by auth.

The certificate says who has the key, the signature that this key asked for exactly this. For reads only: whoever could
repeat a request within its minute must have read it inside of TLS, where the answer stands beside it, and gets that
answer again; nothing changes by it, and rights are looked up anew. A request that changes something would need more: a
nonce, used once, and the body's hash among what is signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from runtime.api.signed import NAMESPACE, TIME_FORMAT, TIME_HEADER, to_be_signed
from runtime.core.errors import AccessDenied
from runtime.pki.identity import UserIdentity
from runtime.pki.sshsig import verify
from runtime.pki.trust import Trust
from runtime.pki.verify import verify_user

MAX_AGE = timedelta(seconds=60)
"""How far the time of a request may lie from ours, before it or after: two machines' clocks, and the way."""
HOW = "Log in, and ask with tsh: tsh --proxy=HOST --user=NAME login"


class Unauthenticated(AccessDenied):
    """Nobody who may ask has signed the request as it arrived."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of who signed it. Nothing of it is proved."""

    certificate: bytes
    signature: bytes
    time: str


def prove(
    claim: Claim, method: str, target: str, *, cluster: str, trust: Trust, now: datetime, here: str = "the proxy"
) -> UserIdentity:
    """Return who signed the request `method target` for `cluster`, which is ours, at about `now`.

    Raises Unauthenticated; `here` is whose clock its message names.
    """
    _check_time(claim.time, now, here)
    try:
        identity = verify_user(claim.certificate, trust, now)
        if identity.cluster != cluster:
            raise AccessDenied(f"the certificate is one of cluster {identity.cluster}; this is cluster {cluster}")
        if identity.force_command is not None:
            raise AccessDenied("the certificate is for running one command on a node, and for nothing else")
        covered = to_be_signed(method, target, cluster, claim.time)
        verify(claim.signature, covered, identity.proof.key, namespace=NAMESPACE)
    except AccessDenied as error:
        raise Unauthenticated(str(error), hint=error.hint or HOW) from error
    return identity


def _check_time(text: str, now: datetime, here: str) -> None:
    """Refuse a time that is far from ours, or not written in the one way that there is."""
    try:
        time = datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)
        if time.strftime(TIME_FORMAT) != text:
            raise ValueError("it is written in another way")
    except ValueError:
        raise Unauthenticated(
            f"the header {TIME_HEADER} is no time such as {now.strftime(TIME_FORMAT)}", hint=HOW
        ) from None
    if abs(now - time) > MAX_AGE:
        raise Unauthenticated(
            f"the request was signed at {time:%Y-%m-%d %H:%M:%S} UTC; by {here}'s clock it is "
            f"{now:%Y-%m-%d %H:%M:%S} UTC",
            hint=f"Set the clock of your machine (timedatectl); if it is right, tell an administrator of {here}.",
        )
