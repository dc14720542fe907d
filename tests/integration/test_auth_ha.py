"""Two auth servers at once, as processes on one backend: agreement, races between them, and the loss of one."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pyotp
import pytest

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.dial import DIAL_SECONDS
from runtime.api.member_messages import Presence, PresenceQuery
from runtime.api.messages import Name, Nothing
from runtime.api.people_messages import LoginReply, LoginRequest, Signup, SignupQuery, SignupRequest, UserRequest
from runtime.api.token_messages import TokenRequest, TokenValue
from runtime.auth.attempts import Attempts, source
from runtime.auth.credentials import Credentials, CredentialStore
from runtime.auth.otp import STEP_SECONDS, OneTimePassword, new_seed
from runtime.auth.passwords import Passwords
from runtime.auth.server import AuthOptions, open_authorities
from runtime.backend.base import Backend
from runtime.backend.open import open_backend
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.errors import AccessDenied, NotFound, TeleportError, Unavailable
from runtime.pki.certificate import read_certificate
from runtime.pki.keys import generate_key, parse_public_key
from runtime.pki.trust import Trust
from runtime.pki.verify import verify_user
from runtime.service import member as membership
from runtime.service.identity import DataDir, StoredIdentity, trust_of
from runtime.service.member import AuthServers, Member, auth_client, join
from tests.servers.auth_pair import STORES, TOKEN, AuthPair, running_pair
from tests.servers.teleport import Teleport

T = TypeVar("T")

CLOCK = SystemClock()
OFFICE = "192.0.2.1"
"""The address that most people come from: one for a whole office."""
PASSWORD = "correct horse"
PUBLIC_KEY = generate_key().public.line
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module", params=STORES)
def pair(request: pytest.FixtureRequest) -> Iterator[AuthPair]:
    """Yield two running auth servers; a test that ends one starts it again."""
    with tempfile.TemporaryDirectory() as folder, running_pair(request.param, Path(folder)) as pair:
        yield pair


@dataclass
class Person:
    """Somebody with a password and a generator of one-time passwords."""

    name: str
    totp: pyotp.TOTP
    step: int = field(default_factory=lambda: int(CLOCK.now().timestamp()) // STEP_SECONDS)

    def login(self, step: int, *, password: str = PASSWORD, address: str = OFFICE) -> LoginRequest:
        """Return what the person types, with the code of that step of the clock."""
        return LoginRequest.model_validate(
            {
                "user": self.name,
                "password": password,
                "otp": self.totp.generate_otp(step),
                "public_key": PUBLIC_KEY,
                "address": address,
            }
        )


class World:
    """What a test does to the pair: clients of each server, members, people."""

    def __init__(self, pair: AuthPair, stack: AsyncExitStack, folder: Path) -> None:
        self.pair = pair
        self.folder = folder
        self._stack = stack
        self._passwords = Passwords()
        stack.callback(self._passwords.close)

    def admin(self, *servers: Teleport) -> AuthClient:
        """Return an administrator's client of these servers, of both if none is given."""
        client = self.pair.admin(*servers)
        self._stack.push_async_callback(client.close)
        return client

    async def backend(self) -> Backend:
        """Open the backend of the pair beside them."""
        backend = await open_backend(self.pair.store.options, clock=CLOCK)
        self._stack.push_async_callback(backend.close)
        return backend

    async def joined(self, role: CallerKind, name: str, *servers: Teleport) -> StoredIdentity:
        """Join as a member with the static token, and return the identity."""
        known = AuthServers(DataDir(self.folder), [server.auth_address for server in servers])
        joined = await join(
            token=TOKEN.partition(":")[2],
            roles=[role],
            name=name,
            advertised=[],
            servers=known,
            ca_pin=None,
            clock=CLOCK,
        )
        return joined[role]

    async def proxies(self) -> tuple[AuthClient, AuthClient]:
        """Return two proxies: each prefers one of the servers and knows the other."""
        identity = await self.joined(CallerKind.PROXY, "proxy1", *self.pair.both)
        one, two = (server.auth_address for server in self.pair.both)
        clients = []
        for order in ((one, two), (two, one)):
            client = auth_client(lambda: identity, _InOrder(self.folder, order), CLOCK)
            self._stack.push_async_callback(client.close)
            await client.call(methods.PING, Nothing())
            clients.append(client)
        return clients[0], clients[1]

    async def people(self, count: int, prefix: str) -> list[Person]:
        """Make users with a password and a second factor."""
        admin, store = self.admin(), CredentialStore(await self.backend())
        hashed = await self._passwords.hash(PASSWORD)
        people = []
        for number in range(count):
            name, seed = f"{prefix}{number}", new_seed()
            await admin.call(methods.USERS_CREATE, UserRequest(name=name, logins=(name, "shared")))
            new = Credentials(password=hashed, otp=OneTimePassword(seed=seed))
            await store.replace(name, await store.get(name), new)
            people.append(Person(name, pyotp.TOTP(seed)))
        # Set last: steps of 30 s are short.
        return [Person(person.name, person.totp) for person in people]

    async def trust(self) -> Trust:
        """Return what verifies the cluster's certificates."""
        answer = await self.admin().call(methods.AUTHORITIES, Nothing())
        return trust_of(answer.authorities)


class _InOrder(AuthServers):
    """Auth servers in the order given, for a client whose first choice matters to the test."""

    def __init__(self, folder: Path, order: Sequence[str]) -> None:
        super().__init__(DataDir(folder), ())
        self._order = tuple(order)

    def __call__(self) -> tuple[str, ...]:
        return self._order


@pytest.fixture
async def world(pair: AuthPair, tmp_path: Path) -> AsyncIterator[World]:
    """Yield what a test does to the pair, closed at the end; all forgiven that locks the address of the tests."""
    async with AsyncExitStack() as stack:
        world = World(pair, stack, tmp_path)
        attempts = Attempts(await world.backend(), CLOCK)
        stack.push_async_callback(attempts.forgive, f"join/{source('127.0.0.1')}")
        stack.push_async_callback(attempts.forgive, source(OFFICE))
        yield world


async def outcome(call: Awaitable[T]) -> T | TeleportError:
    """Return how a call ended: its result, or the error of ours that it raised."""
    try:
        return await call
    except TeleportError as error:
        return error


def check_certificate(reply: LoginReply, person: Person, trust: Trust) -> None:
    """See that the certificate is this person's, by this cluster's user authority."""
    identity = verify_user(reply.certificate.encode(), trust, CLOCK.now())
    assert reply.user == identity.user == person.name
    assert set(identity.logins) == {person.name, "shared"}
    assert read_certificate(reply.certificate.encode()).key == parse_public_key(PUBLIC_KEY)


async def test_both_agree_though_both_started_on_nothing(world: World) -> None:
    """One name, a GUID that one of them chose, and one pair of authorities; and each knows of the other."""
    answers = []
    for server in world.pair.both:
        admin = world.admin(server)
        pong = await admin.call(methods.PING, Nothing())
        answers.append((pong.cluster, await admin.call(methods.AUTHORITIES, Nothing())))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(await auth_servers(admin)) < 2:  # noqa: ASYNC110 - another process has no event for us
                await asyncio.sleep(0.1)
    assert answers[0] == answers[1]


async def auth_servers(admin: AuthClient) -> list[str]:
    """Return the auth servers that a heartbeat would tell of."""
    return [entry.presence.addr for entry in (await admin.call(methods.PRESENCE, _query(CallerKind.AUTH))).members]


def _query(kind: CallerKind) -> PresenceQuery:
    return PresenceQuery(kind=kind)


async def test_a_certificate_of_one_is_good_at_the_other(world: World) -> None:
    """Who joined at one server calls the other, and the other way round."""
    one, two = world.pair.both
    for joined_at, called in ((one, two), (two, one)):
        identity = await world.joined(CallerKind.NODE, "db1", joined_at)
        client = auth_client(lambda: identity, _InOrder(world.folder, [called.auth_address]), CLOCK)  # noqa: B023
        assert (await client.call(methods.PING, Nothing())).cluster == identity.cluster
        await client.close()


async def test_one_code_is_accepted_once(world: World) -> None:
    """The same code, sent to both servers in the same moment, buys one certificate: 20 people out of 20."""
    proxies = await world.proxies()
    for start in range(0, 20, 5):
        people = await world.people(5, f"twice{start}-")
        for number, person in enumerate(people):
            request = person.login(person.step, address=f"198.51.100.{start + number}")
            ends = await asyncio.gather(*(outcome(proxy.call(methods.LOGIN, request)) for proxy in proxies))
            assert sorted(type(end).__name__ for end in ends) == ["AccessDenied", "LoginReply"], ends


async def test_an_invite_is_used_once(world: World) -> None:
    """Two people post the same invite to both servers at once: one password is set, and it is the winner's."""
    admin, proxies = world.admin(), await world.proxies()
    for number in range(5):
        name = f"invited{number}"
        invite = await admin.call(methods.USERS_CREATE, UserRequest(name=name))
        query = SignupQuery.model_validate({"token": invite.token, "address": OFFICE})
        totp = pyotp.parse_uri((await proxies[0].call(methods.SIGNUP_SHOW, query)).otp_uri)
        assert isinstance(totp, pyotp.TOTP)
        person = Person(name, totp)
        passwords = ["the first password", "the second password"]
        ends = await asyncio.gather(
            *(
                outcome(proxy.call(methods.SIGNUP_COMPLETE, _signup(invite.token, password, person)))
                for proxy, password in zip(proxies, passwords, strict=True)
            )
        )
        assert sorted(type(end).__name__ for end in ends) == ["AccessDenied", "Signup"], ends
        won = [isinstance(end, Signup) for end in ends].index(True)
        for proxy in proxies:
            wrong = person.login(person.step + 1, password=passwords[1 - won], address=f"198.51.100.{100 + number}")
            with pytest.raises(AccessDenied, match="wrong user name"):
                await proxy.call(methods.LOGIN, wrong)
        await proxies[1 - won].call(methods.LOGIN, person.login(person.step + 1, password=passwords[won]))


def _signup(token: str, password: str, person: Person) -> SignupRequest:
    return SignupRequest.model_validate(
        {"token": token, "password": password, "otp": person.totp.generate_otp(person.step), "address": OFFICE}
    )


async def test_a_token_for_three_lets_three_of_ten_in(world: World) -> None:
    """Ten newcomers at both servers at once with a token of maxUses 3: three are members, seven are not."""
    created = await world.admin().call(methods.TOKENS_CREATE, TokenRequest(roles=("node",), max_uses=3))

    async def come(number: int) -> str:
        server = world.pair.both[number % 2]
        try:
            await join(
                token=created.entry.token,
                roles=[CallerKind.NODE],
                name=f"node{number}",
                advertised=[],
                servers=_InOrder(world.folder, [server.auth_address]),
                ca_pin=created.ca_pin,
                clock=CLOCK,
            )
        except AccessDenied as error:
            return str(error)
        return "joined"

    ends = await asyncio.gather(*(come(number) for number in range(10)))
    refused = [end for end in ends if end != "joined"]
    assert len(refused) == 7, ends
    # All come from one address, which after five of them is one that guesses.
    assert all("the token is not valid" in end or "nobody joins from 127.0.0.1" in end for end in refused), ends


async def test_failures_count_across_both(world: World) -> None:
    """Three wrong passwords at one server and two at the other lock the user at both; somebody else goes on."""
    locked, other = await world.people(2, "lock")
    proxies = await world.proxies()
    for number, proxy in enumerate([proxies[0]] * 3 + [proxies[1]] * 2):
        wrong = locked.login(locked.step, password="wrong", address=f"203.0.113.{number}")
        with pytest.raises(AccessDenied, match="wrong user name"):
            await proxy.call(methods.LOGIN, wrong)
    for proxy in proxies:
        with pytest.raises(AccessDenied, match="locked after 5 failed attempts"):
            await proxy.call(methods.LOGIN, locked.login(locked.step, address="203.0.113.9"))
    await proxies[0].call(methods.LOGIN, other.login(other.step))


async def test_guesses_at_once_at_both_are_counted(world: World) -> None:
    """Of twenty guesses that arrive at both servers in one moment no more than five are judged, and the user locks."""
    (person,) = await world.people(1, "guessed")
    proxies = await world.proxies()
    guesses = (
        outcome(
            proxies[number % 2].call(
                methods.LOGIN, person.login(person.step, password=f"guess {number}", address=f"203.0.113.{20 + number}")
            )
        )
        for number in range(20)
    )
    ends = await asyncio.gather(*guesses)
    judged = [end for end in ends if "wrong user name" in str(end)]
    assert 1 <= len(judged) <= 5, ends
    assert all(isinstance(end, AccessDenied | Unavailable) for end in ends)
    for number in range(len(judged), 5):
        with pytest.raises(AccessDenied, match="wrong user name"):
            await proxies[0].call(
                methods.LOGIN, person.login(person.step, password="wrong", address=f"203.0.113.{40 + number}")
            )
    with pytest.raises(AccessDenied, match="locked"):
        await proxies[1].call(methods.LOGIN, person.login(person.step, address="203.0.113.50"))


async def test_what_one_takes_away_is_gone_at_the_other(world: World) -> None:
    """A token revoked and a user deleted at one server are refused by the other in the next moment."""
    one, two = world.pair.both
    created = await world.admin(one).call(methods.TOKENS_CREATE, TokenRequest(roles=("node",)))
    token = TokenValue.model_validate({"token": created.entry.token})
    await world.admin(one).call(methods.TOKENS_DELETE, token)
    for server in (one, two):
        with pytest.raises(AccessDenied, match="the token is not valid"):
            await join(
                token=created.entry.token,
                roles=[CallerKind.NODE],
                name="late",
                advertised=[],
                servers=_InOrder(world.folder, [server.auth_address]),
                ca_pin=created.ca_pin,
                clock=CLOCK,
            )
    with pytest.raises(NotFound):
        await world.admin(two).call(methods.TOKENS_DELETE, token)
    leaver, stayer = await world.people(2, "leaver")
    _, proxy = await world.proxies()
    await proxy.call(methods.LOGIN, leaver.login(leaver.step))
    await world.admin(one).call(methods.USERS_DELETE, Name(name=leaver.name))
    with pytest.raises(AccessDenied):
        await proxy.call(methods.LOGIN, leaver.login(leaver.step + 1, address="203.0.113.60"))
    await proxy.call(methods.LOGIN, stayer.login(stayer.step))


async def test_nothing_is_lost_when_one_is_killed_while_people_log_in(world: World) -> None:
    """One is killed in the midst of 24 logins at both servers.

    Each login either ended with the right certificate, and its code is used up for good, or as Unavailable, and then
    the next code works. Nothing else happened to anybody.
    """
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    people, proxies, trust = await world.people(24, "crowd"), await world.proxies(), await world.trust()
    answered, fatal = asyncio.Semaphore(0), chance.randint(1, 8)

    async def log_in(number: int, person: Person) -> LoginReply | TeleportError:
        end = await outcome(proxies[number % 2].call(methods.LOGIN, person.login(person.step)))
        answered.release()
        return end

    logins = [asyncio.create_task(log_in(number, person)) for number, person in enumerate(people)]
    for _ in range(fatal):
        await answered.acquire()
    world.pair.one.process.kill()
    ends = await asyncio.gather(*logins)
    try:
        context = f"seed {seed}, killed after {fatal} answers: {ends}"
        assert {type(end) for end in ends} == {LoginReply, Unavailable}, context
        store = CredentialStore(await world.backend())
        for number, (person, end) in enumerate(zip(people, ends, strict=True)):
            if isinstance(end, LoginReply):
                check_certificate(end, person, trust)
                known = (await store.get(person.name)).credentials
                assert known is not None
                assert known.otp is not None
                assert known.otp.counter == person.step
                again = person.login(person.step, address=f"198.51.100.{200 + number}")
                with pytest.raises(AccessDenied, match="wrong user name"):
                    await proxies[number % 2].call(methods.LOGIN, again)
            else:
                reply = await proxies[number % 2].call(methods.LOGIN, person.login(person.step + 1))
                check_certificate(reply, person, trust)
    finally:
        await asyncio.to_thread(world.pair.one.start)
    admin = world.admin(world.pair.one)
    assert (await admin.call(methods.PRESENCE, _query(CallerKind.AUTH))).members


async def test_a_sign_up_that_is_cut_short_can_be_completed(world: World) -> None:
    """One is killed in the midst of 12 sign-ups: whoever got no answer signs up again, or finds that it was done.

    In the end everybody logs in with the password chosen and the generator shown.
    """
    seed = random.randrange(2**32)
    admin, proxies = world.admin(), await world.proxies()
    invited: list[tuple[str, Person]] = []
    for number in range(12):
        invite = await admin.call(methods.USERS_CREATE, UserRequest(name=f"newcomer{number}"))
        query = SignupQuery.model_validate({"token": invite.token, "address": OFFICE})
        totp = pyotp.parse_uri((await proxies[0].call(methods.SIGNUP_SHOW, query)).otp_uri)
        assert isinstance(totp, pyotp.TOTP)
        invited.append((invite.token, Person(invite.user, totp)))
    step = int(CLOCK.now().timestamp()) // STEP_SECONDS
    answered = asyncio.Semaphore(0)

    async def sign_up(number: int) -> Signup | TeleportError:
        token, person = invited[number]
        person.step = step
        end = await outcome(proxies[number % 2].call(methods.SIGNUP_COMPLETE, _signup(token, PASSWORD, person)))
        answered.release()
        return end

    signing_up = [asyncio.create_task(sign_up(number)) for number in range(len(invited))]
    for _ in range(random.Random(seed).randint(1, 4)):
        await answered.acquire()
    world.pair.one.process.kill()
    ends = await asyncio.gather(*signing_up)
    try:
        assert {type(end) for end in ends} == {Signup, Unavailable}, f"seed {seed}: {ends}"
        for number, (end, (token, person)) in enumerate(zip(ends, invited, strict=True)):
            if isinstance(end, Unavailable):
                again = await outcome(proxies[0].call(methods.SIGNUP_COMPLETE, _signup(token, PASSWORD, person)))
                assert isinstance(again, Signup) or "used" in str(again), f"seed {seed}: {again}"
            login = person.login(step + 1, address=f"203.0.113.{100 + number}")
            await proxies[number % 2].call(methods.LOGIN, login)
    finally:
        await asyncio.to_thread(world.pair.one.start)


async def test_a_member_moves_to_a_server_that_it_was_never_told_of(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that knows one server learns of the other by heartbeat, and goes there when its own is killed.

    All the while it is listed, and what it learnt outlives it in authservers.json.
    """
    monkeypatch.setattr(membership, "HEARTBEAT_SECONDS", 1.0)
    one, two = world.pair.both
    data_dir = DataDir(world.folder)
    servers = AuthServers(data_dir, [one.auth_address])
    identity = await world.joined(CallerKind.NODE, "db1", one)
    presence = Presence(id=identity.id, kind=CallerKind.NODE, name="db1", addr="127.0.0.1:3022")
    member = Member(identity, data_dir=data_dir, servers=servers, presence=lambda: presence, advertised=[], clock=CLOCK)
    beating = asyncio.create_task(member.run())
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while set(servers()) != {one.auth_address, two.auth_address}:  # noqa: ASYNC110 - nothing to wait for
                await asyncio.sleep(0.1)
        stored = json.loads((world.folder / "authservers.json").read_text())
        assert set(stored) == {one.auth_address, two.auth_address}
        assert set(AuthServers(data_dir, [])()) == set(stored)
        victim, survivor = await _victim(world, member)
        admin = world.admin(survivor)
        victim.process.kill()
        killed = CLOCK.now()
        async with asyncio.timeout(membership.PRESENCE_TTL.total_seconds() / 2):
            while member.last_heartbeat is None or member.last_heartbeat < killed:
                assert identity.id in await _listed(admin)
                await asyncio.sleep(0.1)
        assert identity.id in await _listed(admin)
    finally:
        beating.cancel()
        await member.leave()
        for server in world.pair.both:
            if not server.process.running:
                await asyncio.to_thread(server.start)


async def _listed(admin: AuthClient) -> set[object]:
    return {entry.presence.id for entry in (await admin.call(methods.PRESENCE, _query(CallerKind.NODE))).members}


async def _victim(world: World, member: Member) -> tuple[Teleport, Teleport]:
    """Return the server that the member is connected to, and the other one."""
    assert member.auth.server is not None
    one, two = world.pair.both
    return (one, two) if member.auth.server == one.auth_address else (two, one)


async def test_a_frozen_server_costs_one_call(world: World) -> None:
    """A server that stops in its tracks: the call that waits for it ends in its time, the next goes to the other.

    A watch on it goes on at the other as well, and a client that comes new is let in before dialling gives up.
    """
    one, two = world.pair.both
    (person,) = await world.people(1, "frost")
    proxy, _ = await world.proxies()
    async with aclosing(proxy.watch("Role")) as events:
        assert (await anext(events)).snapshot is not None
        one.process.freeze()
        try:
            with pytest.raises(Unavailable, match=rf"{one.auth_address} did not answer people.login within 2 s"):
                await proxy.call(methods.LOGIN, person.login(person.step), timeout=2)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await proxy.call(methods.LOGIN, person.login(person.step))
                assert (await anext(events)).snapshot is not None
            assert proxy.server == two.auth_address
            async with asyncio.timeout(DIAL_SECONDS):
                newcomer, _ = await world.proxies()
            assert newcomer.server == two.auth_address
        finally:
            one.process.thaw()


async def test_many_that_start_at_once_on_nothing_agree(world: World) -> None:
    """Five times over, two services that find nothing, not even a name, end up with the same authorities."""
    options = AuthOptions(address="127.0.0.1", port=0)
    for attempt in range(5):
        place = world.pair.store.elsewhere(f"empty{attempt}")
        backends = await asyncio.gather(*(open_backend(place, clock=CLOCK) for _ in range(2)))
        try:
            found = await asyncio.gather(*(open_authorities(backend, options, CLOCK) for backend in backends))
        finally:
            for backend in backends:
                await backend.close()
        assert len({each.cluster for each in found}) == 1
        assert len({each.host.signer.public.key.line for each in found}) == 1
        assert len({each.user.signer.public.key.line for each in found}) == 1
