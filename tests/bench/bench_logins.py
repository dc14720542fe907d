"""Logins with password and one-time password over HTTPS, and what else the cluster answers meanwhile.

`python -m tests.bench logins [SECONDS]`: 20 seconds a row unless told otherwise.

One `teleport start` with auth and proxy. People log in from several addresses as fast as they are let; ten times a
second a node renews its certificates and somebody pings the proxy: hashing must not keep them waiting. The clients
share the machine's cores with the server.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pyotp

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.member_messages import RenewRequest
from runtime.api.people_messages import UserRequest
from runtime.api.token_messages import TokenRequest
from runtime.auth.credentials import Credentials, CredentialStore
from runtime.auth.otp import OneTimePassword, new_seed
from runtime.auth.passwords import Passwords
from runtime.backend.open import open_backend
from runtime.backend.options import SqliteOptions
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.pki.keys import generate_key
from runtime.service.identity import DataDir
from runtime.service.member import AuthServers, auth_client, join
from runtime.service.sections.storage import SQLITE_FILE
from tests.servers.teleport import Teleport, admin

CLIENTS = (0, 1, 2, 4, 16)
CHEAP_SECONDS = 0.1
PASSWORD = "correct horse battery"


@dataclass(slots=True)
class Person:
    """Somebody with a token that counts (HOTP): one that goes by the clock has one code in half a minute."""

    name: str
    hotp: pyotp.HOTP
    count: int = 0

    def code(self) -> str:
        """Return the next code."""
        self.count += 1
        return self.hotp.at(self.count - 1)


@dataclass(slots=True)
class Times:
    """How long calls took, in seconds."""

    seconds: list[float] = field(default_factory=list)

    async def of(self, call: Awaitable[object]) -> None:
        """Wait for a call, and note how long it took."""
        start = time.perf_counter()
        await call
        self.seconds.append(time.perf_counter() - start)

    def __str__(self) -> str:
        if len(self.seconds) < 2:
            return f"{'-':>10}{'-':>9}"
        cuts = statistics.quantiles(self.seconds, n=100, method="inclusive")
        return f"{cuts[49] * 1000:>7.0f} ms{cuts[98] * 1000:>6.0f} ms"


def run(arguments: list[str]) -> None:
    """Print a row for each number of people who log in at once."""
    seconds = float(arguments[0]) if arguments else 20.0
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Teleport(Path(folder), ["auth", "proxy"], config={"teleport": {"log": {"severity": "ERROR"}}}) as teleport,
    ):
        teleport.launch().wait_until(lambda: (teleport.data_dir / "web.pem").exists(), timeout=60)
        asyncio.run(_measure(teleport, seconds))


async def _measure(teleport: Teleport, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        administrator = await stack.enter_async_context(admin(teleport))
        people = deque(await _people(teleport, administrator))
        node = await _node(teleport, administrator)
        stack.push_async_callback(node.close)
        heads = "".join(f"{name + ' p50':>10}{'p99':>9}" for name in ("login", "renew", "ping"))
        print(f"{'logins at once':<16}{'logins/s':>9}{heads}")
        for clients in CLIENTS:
            login, renew, ping = Times(), Times(), Times()
            start = time.perf_counter()
            tasks = [
                asyncio.create_task(_log_in(teleport, people, login, f"127.0.0.{2 + client}"))
                for client in range(clients)
            ]
            others = [
                asyncio.create_task(_often(lambda: node.call(methods.RENEW, _renewal()), renew)),
                asyncio.create_task(_ping(teleport, ping)),
            ]
            await asyncio.sleep(seconds)
            elapsed = time.perf_counter() - start
            for task in (*tasks, *others):
                task.cancel()
            for task in (*tasks, *others):
                with suppress(asyncio.CancelledError):
                    await task
            rate = len(login.seconds) / elapsed
            print(f"{clients:<16}{rate:>9.1f}{login}{renew}{ping}", flush=True)


async def _people(teleport: Teleport, administrator: AuthClient) -> list[Person]:
    """Make people who have signed up; the forms are left out."""
    passwords = Passwords()
    hashed = await passwords.hash(PASSWORD)
    passwords.close()
    backend = await open_backend(SqliteOptions(str(teleport.data_dir / SQLITE_FILE)), clock=SystemClock())
    store, people = CredentialStore(backend), []
    for number in range(2 * max(CLIENTS)):
        name, seed = f"person-{number}", new_seed()
        await administrator.call(methods.USERS_CREATE, UserRequest(name=name, logins=("root",)))
        otp = OneTimePassword(type="hotp", seed=seed)
        await store.replace(name, await store.get(name), Credentials(password=hashed, otp=otp, invite="none"))
        people.append(Person(name, pyotp.HOTP(seed)))
    await backend.close()
    return people


async def _node(teleport: Teleport, administrator: AuthClient) -> AuthClient:
    """Join a node, and return it as a caller."""
    token = await administrator.call(methods.TOKENS_CREATE, TokenRequest(roles=("node",)))
    servers = AuthServers(DataDir(teleport.folder / "node"), [teleport.auth_address])
    identities = await join(
        token=token.entry.token,
        roles=[CallerKind.NODE],
        name="node",
        advertised=[],
        servers=servers,
        ca_pin=token.ca_pin,
        clock=SystemClock(),
    )
    return auth_client(lambda: identities[CallerKind.NODE], servers, SystemClock())


def _renewal() -> RenewRequest:
    return RenewRequest(name="node", public_key=generate_key().public.line)


async def _log_in(teleport: Teleport, people: deque[Person], times: Times, source: str) -> None:
    """Log one after the other in, from one address."""
    key = generate_key().public.line
    async with _http(teleport, source) as http:
        while True:
            person = people.popleft()
            body = {"user": person.name, "password": PASSWORD, "otp": person.code(), "public_key": key}
            await times.of(_login(http, body))
            people.append(person)


async def _login(http: aiohttp.ClientSession, body: dict[str, str]) -> None:
    async with http.post("/webapi/login", json=body) as response:
        if response.status != 200:
            raise RuntimeError(f"a login was refused: {await response.text()}")


async def _ping(teleport: Teleport, times: Times) -> None:
    async with _http(teleport) as http:

        async def ping() -> None:
            async with http.get("/webapi/ping") as response:
                response.raise_for_status()

        await _often(ping, times)


async def _often(call: Callable[[], Awaitable[object]], times: Times) -> None:
    """Call ten times a second, late or not."""
    calls: set[asyncio.Task[None]] = set()
    try:
        while True:
            task = asyncio.create_task(times.of(call()))
            calls.add(task)
            task.add_done_callback(calls.discard)
            await asyncio.sleep(CHEAP_SECONDS)
    finally:
        await asyncio.gather(*calls)


def _http(teleport: Teleport, source: str = "127.0.0.1") -> aiohttp.ClientSession:
    """Return a client at an address of its own: one source that has many logins under way is turned away."""
    connector = aiohttp.TCPConnector(ssl=False, local_addr=(source, 0))
    return aiohttp.ClientSession(f"https://{teleport.web_address}", connector=connector)
