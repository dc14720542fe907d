"""An auth service without a port: all of its methods, called over its own wire in memory, with a clock to be moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from pydantic import SecretStr

from runtime.api import methods
from runtime.api.cluster_messages import SecondFactor
from runtime.api.member_messages import Heartbeat, HeartbeatReply, JoinRequest, Membership, Presence
from runtime.api.messages import Message
from runtime.api.methods import Method
from runtime.api.pipe import Pipe
from runtime.api.session import Session
from runtime.api.token_messages import TokenRequest
from runtime.auth.server import AuthOptions, AuthService, open_authorities
from runtime.auth.tokens import JoinToken
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import Caller, CallerKind
from runtime.core.clock import ManualClock
from runtime.core.errors import TeleportError
from runtime.pki.keys import generate_key
from tests.unit.auth.recorder import Recorder

Params = TypeVar("Params", bound=Message)
Result = TypeVar("Result", bound=Message)

KEY = generate_key().public.line
"""A public key, where it does not matter whose."""
HOUR = timedelta(hours=1)
ADMIN = Caller(CallerKind.ADMIN, "00000000-0000-4000-8000-00000000000a", "127.0.0.1")
PROXY = Caller(CallerKind.PROXY, "00000000-0000-4000-8000-00000000000b", "192.0.2.80")
STATIC = JoinToken(token="xxxxxx", roles=("proxy", "node"), static=True)


class World:
    """An auth service of the cluster main, and callers of it."""

    def __init__(self, second_factor: SecondFactor = "otp") -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, 12, tzinfo=UTC))
        self.backend = MemoryBackend(clock=self.clock)
        self.audit = Recorder()
        self.options = AuthOptions(
            address="127.0.0.1",
            port=0,
            cluster_name="main",
            second_factor=second_factor,
            static_tokens=(STATIC,),
        )

    async def start(self) -> None:
        """Make the authorities and the service."""
        self.authorities = await open_authorities(self.backend, self.options, self.clock)
        self.service = AuthService(
            self.options,
            backend=self.backend,
            authorities=self.authorities,
            clock=self.clock,
            audit=self.audit,
            auth_servers=lambda: ("192.0.2.1:3025",),
        )

    async def stop(self) -> None:
        """End it."""
        await self.service.stop()
        await self.backend.close()

    async def call(self, caller: Caller, method: Method[Params, Result], params: Params) -> Result:
        """Call a method as somebody. Raises what auth raises."""
        return method.result.model_validate(await self.raw(caller, method.name, params))

    async def raw(self, caller: Caller, method: str, params: Message) -> object:
        """Call whatever is named."""
        async with self.session(caller) as session:
            return await session.call(method, params.model_dump(mode="json"))

    async def token(self, *roles: str, **more: object) -> str:
        """Return a new join token."""
        request = TokenRequest.model_validate({"roles": roles or ("node",), **more})
        return (await self.call(ADMIN, methods.TOKENS_CREATE, request)).entry.token

    async def join(
        self,
        token: str,
        name: str = "db",
        *,
        roles: tuple[CallerKind, ...] = (CallerKind.NODE,),
        advertised: tuple[str, ...] = (),
        key: str = KEY,
        address: str = "198.51.100.1",
    ) -> Membership:
        """Join as a newcomer from an address."""
        request = JoinRequest(token=SecretStr(token), roles=roles, name=name, advertised=advertised, public_key=key)
        return await self.call(Caller(CallerKind.NOBODY, "", address), methods.JOIN, request)

    async def beat(self, caller: Caller, name: str, addr: str = "", **labels: str) -> HeartbeatReply:
        """Send a heartbeat of a member."""
        presence = Presence(
            id=UUID(caller.name), kind=caller.kind, name=name, addr=addr or f"{caller.address}:3022", labels=labels
        )
        return await self.call(caller, methods.HEARTBEAT, Heartbeat(presence=presence))

    @asynccontextmanager
    async def session(self, caller: Caller) -> AsyncIterator[Session]:
        """Yield a conversation of somebody with auth."""
        ours, theirs = Pipe.pair()
        serving = Session(theirs, self.service._dispatcher.serve(caller), peer=str(caller))
        asking = Session(ours)
        tasks = [asyncio.create_task(session.run()) for session in (serving, asking)]
        try:
            yield asking
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def member(membership: Membership, kind: CallerKind = CallerKind.NODE, address: str = "198.51.100.1") -> Caller:
    """Return who a newcomer became."""
    return Caller(kind, str(membership.id), address)


async def error_of(world: World, caller: Caller, method: Method[Params, Result], params: Params) -> TeleportError:
    """Return the error that a call ends in."""
    try:
        await world.call(caller, method, params)
    except TeleportError as error:
        return error
    raise AssertionError(f"{caller} was let do {method.name}")


@asynccontextmanager
async def following_world() -> AsyncIterator[World]:
    """Yield auth that follows its authorities, and takes no steps of a rotation by itself."""
    world = World()
    await world.start()
    following = asyncio.create_task(world.service.authorities.run())
    yield world
    following.cancel()
    await asyncio.wait([following])
    await world.stop()
