"""From a token to an identity at the first start; from data_dir at every later one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from pydantic import SecretStr

from runtime.api import methods
from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.messages import Nothing
from runtime.core.callers import CallerKind
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, CorruptState, InvalidSettings, NotFound, TeleportError, Unavailable
from runtime.service.estranged import Estranged
from runtime.service.identity import DataDir, StoredIdentity
from runtime.service.invitation import Invitation, files_of, read
from runtime.service.member import AuthServers, auth_client, join

logger = logging.getLogger(__name__)

RECOGNISED_SECONDS = 3.0
"""How long a start waits to hear whether auth still takes what we are; it does not wait for one that is away."""
MAX_PAUSE_SECONDS = 30.0
"""Longest pause between two tries to join while auth is away."""
REFUSED_SECONDS = 300.0
"""How long a token from a file that was refused is not shown again, unless the file changes."""
LOOK_SECONDS = 2.0
"""How often that file is looked at meanwhile."""


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
    """Return an identity for each role: the one in data_dir while auth takes it, else one for the token, kept there.

    Token and pin may name files (`invitation`). While auth, or such a file, is away it tries on, and says so; also when
    what is in a file is refused, since that is renewed. Raises AccessDenied for a refused token or pin that was given
    as such, InvalidSettings when there is neither identity nor token, or the clock is off.
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
    doubtful = False
    for role, identity in list(found.items()):
        try:
            found[role] = await recognised(identity, data_dir=data_dir, servers=servers, clock=clock)
        except Estranged as error:
            logger.error("%s", error.in_full)  # noqa: TRY400 - no bug of ours
            del found[role]
            why.append(str(error))
            doubtful = doubtful or not error.proved
    missing = [role for role in roles if role not in found]
    if not missing:
        return found
    if doubtful and ca_pin is None:
        raise AccessDenied(
            f"{'; '.join(why)}: it joins no cluster anew by a token alone",
            hint="Whoever answers there may be somebody else. On the auth server run: tctl nodes add --roles="
            f"{','.join(missing)}; then start here with its --token and --ca-pin.",
        )
    if token is None:
        raise InvalidSettings(
            f"{'; '.join(why)}: a token is needed to join",
            hint=f"On the auth server run: tctl nodes add --roles={','.join(missing)}; then start here with --token.",
        )
    rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
    wait = 1.0
    while True:
        shown: Invitation | None = None
        try:
            shown = read(token, ca_pin)
            joined = await join(
                token=shown.token.get_secret_value(),
                roles=missing,
                name=name,
                advertised=advertised,
                servers=servers,
                ca_pin=shown.ca_pin,
                clock=clock,
            )
        except Unavailable as error:
            # An error in the log, not a warning: this service is not there until somebody does something.
            logger.error("cannot join the cluster yet: %s. %s Trying again.", error, error.hint)  # noqa: TRY400
            await pause(rng.uniform(wait / 2, wait))
            wait = min(MAX_PAUSE_SECONDS, 2 * wait)
            continue
        except AccessDenied as error:
            refused = AccessDenied(f"this machine may not join the cluster: {error}", hint=error.hint)
            if not (files := files_of(token, ca_pin)):
                raise refused from error
            logger.error("%s Trying again with what comes into %s.", refused.in_full, " or ".join(files))  # noqa: TRY400
            await _other(token, ca_pin, shown, pause)
            continue
        for identity in joined.values():
            data_dir.keep(identity)
        logger.info("joined cluster %s as %s", joined[missing[0]].cluster, ",".join(missing))
        return {**found, **joined}


async def _other(
    token: SecretStr, ca_pin: str | None, shown: Invitation | None, pause: Callable[[float], Awaitable[None]]
) -> None:
    """Wait until the files hold something else than what was refused, or for five minutes: clocks are set, too."""
    for _ in range(int(REFUSED_SECONDS / LOOK_SECONDS)):
        await pause(LOOK_SECONDS)
        with suppress(Unavailable):  # it is just being written
            if read(token, ca_pin) != shown:
                return


async def recognised(
    identity: StoredIdentity, *, data_dir: DataDir, servers: AuthServers, clock: Clock
) -> StoredIdentity:
    """Return the identity as it is good today: with the keys to which those lead that it knew. Raises Estranged.

    While auth is away it is taken to be good.
    """
    now = identity

    def believe(authorities: tuple[AuthorityKeys, ...]) -> None:
        nonlocal now
        now = identity.believing(authorities)
        data_dir.keep(now)
        logger.info("the cluster's authorities were rotated while %s was away; it has followed", identity.login)

    client = auth_client(lambda: now, servers, clock, believe=believe)
    try:
        await client.call(methods.PING, Nothing(), timeout=RECOGNISED_SECONDS)
    except Estranged:
        raise
    except TeleportError as error:
        logger.info("%s has not heard of auth yet: %s", identity.login, error)
    finally:
        await client.close()
    return now
