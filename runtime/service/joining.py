"""From a token to an identity at the first start; from data_dir at every later one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from pydantic import SecretStr

from runtime.core.callers import CallerKind
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, CorruptState, InvalidSettings, NotFound, Unavailable
from runtime.service.identity import DataDir, StoredIdentity
from runtime.service.invitation import pin_of, token_of
from runtime.service.member import AuthServers, join

logger = logging.getLogger(__name__)

MAX_PAUSE_SECONDS = 30.0
"""Longest pause between two tries to join while auth is away."""


async def obtain(
    roles: Sequence[CallerKind],
    *,
    data_dir: DataDir,
    servers: AuthServers,
    token: SecretStr | None,
    ca_pin: str | None,
    name: str,
    advertised: Sequence[str],
    clock: Clock,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    rng: random.Random | None = None,
) -> dict[CallerKind, StoredIdentity]:
    """Return an identity for each role: the one in data_dir, else one for the token, which is kept there.

    Token and pin may name files (`invitation`). While auth, or such a file, is away it tries on, and says so. Raises
    AccessDenied for a refused token or pin, InvalidSettings when there is neither identity nor token, or the clock is
    off.
    """
    found: dict[CallerKind, StoredIdentity] = {}
    why: list[str] = []
    for role in roles:
        try:
            identity = data_dir.identity(role)
        except NotFound:
            why.append(f"{role} has not joined a cluster yet")
        except CorruptState as error:
            why.append(str(error))
        else:
            if identity.expires > clock.now():
                found[role] = identity
            else:
                why.append(f"the certificates of {role} ended at {identity.expires:%Y-%m-%d %H:%M:%S} UTC")
    missing = [role for role in roles if role not in found]
    if not missing:
        return found
    if token is None:
        raise InvalidSettings(
            f"{'; '.join(why)}: a token is needed to join",
            hint=f"On the auth server run: tctl nodes add --roles={','.join(missing)}; then start here with --token.",
        )
    rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
    wait = 1.0
    while True:
        try:
            joined = await join(
                token=token_of(token).get_secret_value(),
                roles=missing,
                name=name,
                advertised=advertised,
                servers=servers,
                ca_pin=pin_of(ca_pin),
                clock=clock,
            )
        except Unavailable as error:
            # An error in the log, not a warning: this service is not there until somebody does something.
            logger.error("cannot join the cluster yet: %s. %s Trying again.", error, error.hint)  # noqa: TRY400
            await pause(rng.uniform(wait / 2, wait))
            wait = min(MAX_PAUSE_SECONDS, 2 * wait)
            continue
        except AccessDenied as error:
            raise AccessDenied(f"this machine may not join the cluster: {error}", hint=error.hint) from error
        for identity in joined.values():
            data_dir.keep(identity)
        logger.info("joined cluster %s as %s", joined[missing[0]].cluster, ",".join(missing))
        return {**found, **joined}
