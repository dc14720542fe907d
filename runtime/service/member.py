"""Being a member of the cluster: joining, staying certified, and saying so every few seconds."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from pydantic import SecretStr

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.dial import NOBODY_LOGIN, Dialer, Identity
from runtime.api.member_messages import Heartbeat, JoinRequest, Presence, RenewRequest
from runtime.api.messages import Nothing
from runtime.api.session import Stream
from runtime.core.callers import CallerKind
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, InvalidSettings, TeleportError, Unavailable
from runtime.pki.claims import service_principal
from runtime.pki.keys import generate_key, parse_public_key
from runtime.pki.newcomer import believe_newly, self_signed
from runtime.pki.verify import verify_host
from runtime.service.estranged import leads_from, look_again
from runtime.service.identity import DataDir, StoredIdentity, identities_of, signer_of

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
"""Between two heartbeats ("every few seconds", manual, "Adding Nodes to the Cluster")."""
HELLO_SECONDS = 3.0
"""How long a start waits for its first heartbeat: it does not wait for an auth server that is away."""
GOODBYES = 3
GOODBYE_SECONDS = 1.75
"""How often, and for how long each time, auth is told that we stop: the first may go to one that is gone itself."""
PRESENCE_TTL = timedelta(seconds=60)
"""A member that was not heard for so long is no longer listed."""
AUTH_SERVERS_FILE = "authservers.json"
"""In data_dir; it takes precedence over teleport.yaml (manual, "Run multiple instances of Teleport Proxy")."""

MAX_CLOCK_SKEW = timedelta(minutes=1)
"""Difference to auth's clock above which certificates may not be valid yet, or already be over."""


class AuthServers:
    """Which auth servers there are: those last heard of, else those of the settings."""

    def __init__(self, data_dir: DataDir, configured: Sequence[str], *, rng: random.Random | None = None) -> None:
        self._data_dir = data_dir
        self._configured = tuple(configured)
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._heard = self._read()

    def __call__(self) -> tuple[str, ...]:
        """Return the servers' addresses (host:port) in the order in which to try them.

        First those heard of, then the configured ones that are not: if all that was heard of is gone, those are left.
        Within each group the order is random, so that members spread over the servers.
        """
        heard, configured = (self._rng.sample(group, len(group)) for group in (self._heard, self._configured))
        return tuple(dict.fromkeys((*heard, *configured)))

    def heard(self, servers: Sequence[str]) -> None:
        """Remember what a heartbeat told; an empty list is no news."""
        if servers and tuple(servers) != self._heard:
            self._heard = tuple(servers)
            self._data_dir.write(AUTH_SERVERS_FILE, json.dumps(list(servers)).encode() + b"\n")

    def _read(self) -> tuple[str, ...]:
        content = self._data_dir.read(AUTH_SERVERS_FILE)
        if content is None:
            return ()
        try:
            servers = json.loads(content)
        except ValueError:
            servers = None
        if not isinstance(servers, list) or not all(isinstance(server, str) for server in servers):
            logger.warning("%s in data_dir is not a list of addresses; it is ignored", AUTH_SERVERS_FILE)
            return ()
        return tuple(servers)


Believe = Callable[[tuple[AuthorityKeys, ...]], None]
"""Takes whom to believe from now on."""


def auth_client(
    identity: Callable[[], StoredIdentity],
    servers: Callable[[], Sequence[str]],
    clock: Clock,
    *,
    believe: Believe | None = None,
) -> AuthClient:
    """Return a client that calls auth as a member. It believes auth servers of its cluster only, no other member.

    `believe` is called with the authorities to which those that are known lead, where these were rotated meanwhile.
    Where nothing leads on, calls raise Estranged.
    """

    def verify(name: str, certificate: bytes) -> None:
        verify_host(certificate, name, identity().trust, clock.now(), cluster=identity().cluster)

    dialer = Dialer(lambda: identity().client, verify, service_principal(CallerKind.AUTH))

    async def dial(server: str) -> Stream:
        try:
            return await dialer.dial(server)
        except AccessDenied as refused:
            try:
                found = await look_again(server, identity())
            except Unavailable:
                raise refused from None
            if believe is None or found == identity().authorities:
                raise
            believe(found)
        return await dialer.dial(server)

    return AuthClient(dial, servers)


async def join(
    *,
    token: str,
    roles: Sequence[CallerKind],
    name: str,
    advertised: Sequence[str],
    servers: AuthServers,
    ca_pin: str | None,
    clock: Clock,
) -> dict[CallerKind, StoredIdentity]:
    """Become a member in these roles with a token, and return an identity for each.

    `ca_pin` is the fingerprint of auth's host CA (`SHA256:…`); without it the first that answers is believed, with a
    warning. Raises AccessDenied for a pin that does not match or a token that is refused, Unavailable.
    """
    key = await asyncio.to_thread(generate_key)
    first_seen: dict[str, None] = {}

    led: list[str] = []
    """Keys to which the one that is pinned leads: it was rotated since."""

    def verify(expected: str, certificate: bytes) -> None:
        shown = signer_of(certificate.decode())
        fingerprint = believe_newly(certificate, expected, shown if shown in led else ca_pin, clock.now())
        if ca_pin is None and fingerprint not in first_seen:
            first_seen[fingerprint] = None
            logger.warning(
                "joining without --ca-pin: whoever answers for auth is believed, this time a CA with fingerprint %s",
                fingerprint,
            )

    newcomer = Identity(NOBODY_LOGIN, key.to_openssh().encode(), self_signed(key, NOBODY_LOGIN))
    dialer = Dialer(lambda: newcomer, verify, service_principal(CallerKind.AUTH))

    async def dial(server: str) -> Stream:
        try:
            return await dialer.dial(server)
        except AccessDenied:
            if ca_pin is None or (found := await leads_from(ca_pin, server)) is None:
                raise
            led.append(found)
        return await dialer.dial(server)

    client = AuthClient(dial, servers)
    try:
        pong = await client.call(methods.PING, Nothing())
        check_skew(pong.time, clock.now())
        membership = await client.call(
            methods.JOIN,
            JoinRequest(
                token=SecretStr(token),
                roles=tuple(roles),
                name=name,
                advertised=tuple(advertised),
                public_key=key.public.line,
            ),
        )
    finally:
        await client.close()
    return identities_of(membership, key.to_openssh(), pong.cluster)


def check_skew(theirs: datetime, ours: datetime) -> None:
    """Raise InvalidSettings when this machine's clock is so far off that certificates would not work."""
    skew = ours - theirs
    if abs(skew) > MAX_CLOCK_SKEW:
        way = "ahead of" if skew > timedelta() else "behind"
        raise InvalidSettings(
            f"the clock of this machine is {abs(int(skew.total_seconds()))} s {way} that of the auth server",
            hint="Set the clock (NTP) and start again: certificates are valid by time.",
        )


class Member:
    """One role's membership while the service runs: heartbeats, and renewal when a third of its life is left."""

    def __init__(
        self,
        identity: StoredIdentity,
        *,
        data_dir: DataDir,
        servers: AuthServers | None,
        presence: Callable[[], Presence],
        advertised: Sequence[str],
        clock: Clock,
        renewed: Callable[[StoredIdentity], Awaitable[None]] | None = None,
        auth: AuthClient | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Take what this member is. `servers` is told of auth servers; None where auth runs in this process.

        `renewed` learns of new certificates; `auth` is the way to auth if it is another than over SSH to `servers`.
        """
        if auth is None:
            if servers is None:
                raise ValueError("a member needs auth servers, or a client of auth")
            auth = auth_client(lambda: self.identity, servers, clock, believe=self.believe)
        self.auth = auth
        self.identity = identity
        self._data_dir = data_dir
        self._servers = servers
        self._presence = presence
        self._advertised = tuple(advertised)
        self._clock = clock
        self._renewed = renewed
        self._rng = rng or random.Random()  # noqa: S311 - spreads heartbeats, guards nothing
        self.heard = asyncio.Event()
        """Set once auth has taken the first heartbeat."""
        self.last_heartbeat: datetime | None = None
        self.heartbeats = 0
        """How many auth has taken."""
        self.failures = 0
        """How many it has not."""
        self._in_touch = False
        self._told = False
        """Whether auth has told whom to believe since we started."""
        self._followed: dict[str, int] = {}
        self._soon = asyncio.Event()
        """Set where the next heartbeat is not to wait."""
        self._renewing = asyncio.Lock()

    async def run(self) -> None:
        """Send heartbeats and renew until cancelled. Losing auth is logged once, and mended by itself."""
        told: type[TeleportError] | None = None
        in_vain = 0
        if self.heard.is_set():
            await self._wait(self._pause(0))
        while True:
            try:
                await self._beat()
            except TeleportError as error:
                self._in_touch = False
                in_vain += 1
                self.failures += 1
                if type(error) is not told:
                    # An error in the log, which shows no less by default: after a minute nobody finds us any more.
                    logger.error("%s: no heartbeat: %s", self.identity.login, error.in_full)  # noqa: TRY400 - no bug of ours
                told = type(error)
            else:
                if told is not None:
                    logger.warning("%s: auth takes heartbeats again", self.identity.login)
                told, in_vain = None, 0
            await self._wait(self._pause(in_vain))

    async def _wait(self, seconds: float) -> None:
        """Wait for so long, or until there is something to tell."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._soon.wait()
        self._soon.clear()

    def _pause(self, in_vain: int) -> float:
        """Return the seconds until the next heartbeat, after so many in vain.

        Half to one and a half: thousands of members that started together do not stay together. After a failure sooner,
        by a random part of a bound that doubles: one that timed out has used up much of the time that presence lasts.
        """
        if in_vain:
            return self._rng.uniform(0, min(HEARTBEAT_SECONDS, 2.0 ** min(in_vain, 10)))
        return HEARTBEAT_SECONDS * self._rng.uniform(0.5, 1.5)

    async def say_hello(self) -> None:
        """Send the first heartbeat, so that the member is listed once this returns; what fails, `run` deals with."""
        with suppress(TeleportError, TimeoutError):
            async with asyncio.timeout(HELLO_SECONDS):
                await self._beat()

    async def leave(self) -> None:
        """Tell auth that we stop, and end the conversation with it."""
        await self.say_goodbye()
        await self.auth.close()

    async def say_goodbye(self) -> None:
        """Tell auth that we stop, so that nobody is sent here; silence does the same within a minute."""
        for again in range(GOODBYES):
            try:
                await self.auth.call(methods.LEAVE, Nothing(), timeout=GOODBYE_SECONDS)
            except Unavailable:
                if again + 1 < GOODBYES:
                    await asyncio.sleep(GOODBYE_SECONDS / 8)
            except TeleportError:
                return
            else:
                return

    async def renew(self) -> None:
        """Get new certificates with a new key, keep them, and go by them from now on. Raises what auth raises."""
        async with self._renewing:
            key = await asyncio.to_thread(generate_key)
            request = RenewRequest(name=self._presence().name, advertised=self._advertised, public_key=key.public.line)
            membership = await self.auth.call(methods.RENEW, request)
            renewed = identities_of(membership, key.to_openssh(), self.identity.cluster)[self.identity.role]
            renewed = renewed.in_place_of(self.identity)
            if not self._told:  # by `believe`, which may have been later than this answer was made
                renewed = renewed.believing(membership.authorities)
            self._data_dir.keep(renewed)
            self.identity = renewed
            if self._renewed is not None:
                await self._renewed(renewed)
            self.auth.retire()
        logger.info("%s: renewed until %s", renewed.login, f"{renewed.expires:%Y-%m-%d %H:%M:%S} UTC")

    def believe(self, authorities: tuple[AuthorityKeys, ...]) -> None:
        """Believe these authorities from now on, and no others; what is open stays open. Raises InvalidInput."""
        self._told = True
        if authorities == self.identity.authorities:
            return
        before, self.identity = self.identity, self.identity.believing(authorities)
        logger.info("%s believes %s now", before.login, _shown(authorities))
        try:
            self._data_dir.keep(self.identity)
        except Unavailable as error:
            # It holds all the same; after a restart auth, or what vouches for the new keys, tells of it again.
            logger.error("%s: whom to believe is not kept: %s", before.login, error.in_full)  # noqa: TRY400 - no bug of ours

    def report(self, followed: Mapping[str, int]) -> None:
        """Tell auth in the next heartbeat, which does not wait, and in all after it, how far we have followed."""
        self._followed = dict(followed)
        self._soon.set()

    async def _beat(self) -> None:
        if not self._in_touch:
            await self._get_in_touch()
        if self.identity.is_due(self._clock.now()):
            await self.renew()
        reply = await self.auth.call(methods.HEARTBEAT, self._heartbeat())
        if self._servers is not None:
            self._servers.heard(reply.auth_servers)
        self.last_heartbeat = self._clock.now()
        self.heartbeats += 1
        logger.debug("heartbeat of %s taken", self.identity.role)
        self.heard.set()

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(presence=self._presence(), ttl=PRESENCE_TTL, followed=self._followed)

    async def _get_in_touch(self) -> None:
        """See that clock and names are right, at the start and after auth was lost."""
        pong = await self.auth.call(methods.PING, Nothing())
        try:
            check_skew(pong.time, self._clock.now())
        except InvalidSettings as error:
            logger.error("%s", error.in_full)  # noqa: TRY400 - no bug of ours
        if not self.identity.serves({self._presence().name, *self._advertised}):
            await self.renew()  # started under another name or address than last time
        self._in_touch = True


def _shown(authorities: tuple[AuthorityKeys, ...]) -> str:
    """Return the fingerprints of authorities as a line for the log."""
    keys = ((each.type, parse_public_key(key).fingerprint) for each in authorities for key in each.keys)
    return ", ".join(f"{kind} CA {fingerprint}" for kind, fingerprint in keys)
