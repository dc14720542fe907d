"""How a member follows its cluster's authorities: what it believes, when it renews, and what it reports."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from pydantic import SecretStr

from runtime.api.client import AuthClient
from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.rotation_messages import AuthorityState, AuthorityStates
from runtime.core.callers import CallerKind
from runtime.core.errors import InvalidInput, NotFound, TeleportError, Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.core.rotation import Phase
from runtime.pki.claims import HostClaims, MemberClaims, MemberRole
from runtime.pki.keys import generate_key
from runtime.pki.signing import sign_host, sign_member
from runtime.pki.trust import Signer
from runtime.service.authorities import UNKNOWN_SECONDS, AuthorityFollower, check_states
from runtime.service.identity import MAX_RETIRED, StoredIdentity, signer_of

NOW = datetime(2026, 11, 23, 7, tzinfo=UTC)
ID = uuid.UUID("8b7b5f0e-3c1c-4a57-9d3b-111111111111")
USERS = [generate_key().public.line for _ in range(2)]
OLD, NEW, NEWER = (Signer(AuthorityType.HOST, "main", generate_key()) for _ in range(3))


def keys(*signers: Signer, users: tuple[str, ...] = (USERS[0],)) -> tuple[AuthorityKeys, ...]:
    """Return both authorities with these keys."""
    hosts = tuple(signer.key.public.line for signer in signers)
    return AuthorityKeys(cluster="main", type="user", keys=users), AuthorityKeys(
        cluster="main", type="host", keys=hosts
    )


def identity(host: Signer, member: Signer, *believed: Signer) -> StoredIdentity:
    """Return a node's identity with certificates by these, that believes those."""
    key = generate_key()
    ttl = timedelta(hours=1)
    shown = sign_host(
        HostClaims(host_id=str(ID), role=MemberRole.NODE, name="db1", cluster="main", advertised=(), ttl=ttl),
        key.public,
        signer=host,
        now=NOW,
        serial=1,
    )
    calling = sign_member(
        MemberClaims(host_id=str(ID), role=MemberRole.NODE, cluster="main", ttl=ttl),
        key.public,
        signer=member,
        now=NOW,
        serial=2,
    )
    return StoredIdentity(
        id=ID,
        role=CallerKind.NODE,
        cluster="main",
        key=SecretStr(key.to_openssh()),
        host_certificate=shown.line.decode(),
        member_certificate=calling.line.decode(),
        expires=NOW + ttl,
        authorities=keys(*(believed or (host,))),
    )


def told(*believed: Signer, host: Signer, member: Signer, serial: int, spread: float = 0.0) -> AuthorityStates:
    """Return what auth tells: whom to believe, and who has to have signed."""
    users, hosts = keys(*believed)
    return AuthorityStates(
        authorities=(
            AuthorityState(cluster="main", type=AuthorityType.USER, keys=users.keys, serial=0, phase=Phase.STANDBY),
            AuthorityState(cluster="main", type=AuthorityType.HOST, keys=hosts.keys, serial=serial, phase=Phase.INIT),
        ),
        host_signer=host.key.public.fingerprint,
        member_signer=member.key.public.fingerprint,
        spread=spread,
    )


class Node:
    """A member, and the auth that it follows: told what to tell, and what comes of a renewal."""

    def __init__(self) -> None:
        self.identity = identity(OLD, OLD)
        self.telling: asyncio.Queue[AuthorityStates | Exception] = asyncio.Queue()
        self.renewals: asyncio.Queue[StoredIdentity | Exception] = asyncio.Queue()
        self.reports: asyncio.Queue[Mapping[str, int]] = asyncio.Queue()
        self.happened: list[str] = []
        self._more = asyncio.Event()

    @property
    def auth(self) -> AuthClient:
        """Itself: it tells what it is told to."""
        return cast("AuthClient", self)

    async def pieces(self, *_: object) -> AsyncIterator[AuthorityStates]:
        """Yield what is to be told; an error ends it."""
        self._note("watch")
        while True:
            each = await self.telling.get()
            if isinstance(each, Exception):
                raise each
            yield each

    def believe(self, authorities: tuple[AuthorityKeys, ...]) -> None:
        """Believe these."""
        self.identity = self.identity.believing(authorities)
        self._note(f"believe {len(authorities[1].keys)}")

    async def renew(self) -> None:
        """Take what was prepared as the outcome."""
        self._note("renew")
        outcome = await self.renewals.get()
        if isinstance(outcome, Exception):
            raise outcome
        self.identity = outcome.in_place_of(self.identity)

    def report(self, followed: Mapping[str, int]) -> None:
        """Note a report."""
        self._note(f"report {followed['host']}")
        self.reports.put_nowait(followed)

    async def until(self, what: str, times: int = 1) -> None:
        """Wait until something has happened so often."""
        async with asyncio.timeout(30):
            while self.happened.count(what) < times:
                self._more.clear()
                await self._more.wait()

    async def reported(self) -> Mapping[str, int]:
        """Wait for a report."""
        async with asyncio.timeout(30):
            return await self.reports.get()

    def _note(self, what: str) -> None:
        self.happened.append(what)
        self._more.set()


class Bounds(random.Random):
    """Randomness that notes the bounds asked for, and gives the lower one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        """Return the lower bound."""
        self.asked.append((a, b))
        return 0.0


@pytest.fixture
def bounds() -> Bounds:
    """Return the follower's randomness."""
    return Bounds()


@pytest.fixture
async def node(bounds: Bounds) -> AsyncIterator[Node]:
    """Yield one that follows."""
    made = Node()
    task = asyncio.create_task(AuthorityFollower(made, rng=bounds).run())
    yield made
    task.cancel()
    await asyncio.wait([task])


async def test_new_trust_is_taken_and_reported(node: Node) -> None:
    """A key that signs nothing yet is believed; certificates that are right stay."""
    node.telling.put_nowait(told(OLD, NEW, host=OLD, member=OLD, serial=1))
    assert await node.reported() == {"user": 0, "host": 1}
    assert node.happened == ["watch", "believe 2", "report 1"]
    assert node.identity.authorities == keys(OLD, NEW)


@pytest.mark.parametrize(("host", "member"), [(OLD, NEW), (NEW, NEW)], ids=["calling", "both"])
async def test_it_renews_when_another_key_is_due(node: Node, bounds: Bounds, host: Signer, member: Signer) -> None:
    """Believing comes first, then a random part of the time that auth names, then new certificates, then the report."""
    node.renewals.put_nowait(identity(host, member, OLD, NEW))
    node.telling.put_nowait(told(OLD, NEW, host=host, member=member, serial=2, spread=77.0))
    assert await node.reported() == {"user": 0, "host": 2}
    assert node.happened == ["watch", "believe 2", "renew", "report 2"]
    assert bounds.asked == [(0, 77.0)]
    assert signer_of(node.identity.member_certificate) == NEW.key.public.fingerprint


async def test_a_renewal_that_fails_is_tried_again(
    node: Node, bounds: Bounds, caplog: pytest.LogCaptureFixture
) -> None:
    """By an error, or by an auth server that is a step behind; nothing is reported before it is so."""
    node.renewals.put_nowait(Unavailable("auth is away"))
    node.renewals.put_nowait(identity(OLD, OLD, OLD, NEW))
    node.renewals.put_nowait(identity(OLD, NEW, OLD, NEW))
    node.telling.put_nowait(told(OLD, NEW, host=OLD, member=NEW, serial=2))
    await node.reported()
    assert node.happened == ["watch", "believe 2", "renew", "renew", "renew", "report 2"]
    assert bounds.asked == [(0, 0.0), (0, 1.0), (0, 2.0)]
    assert "not renewed yet: auth is away" in caplog.text


async def test_a_step_overtakes_a_renewal(node: Node) -> None:
    """What auth tells last counts: certificates of the step before are renewed again, and only the last is reported."""
    node.telling.put_nowait(told(OLD, NEW, host=OLD, member=NEW, serial=2))
    await node.until("renew")
    node.telling.put_nowait(told(OLD, NEW, host=NEW, member=NEW, serial=3))
    await node.until("believe 2", times=2)
    node.renewals.put_nowait(identity(OLD, NEW, OLD, NEW))
    node.renewals.put_nowait(identity(NEW, NEW, OLD, NEW))
    assert await node.reported() == {"user": 0, "host": 3}
    assert [each for each in node.happened if each.startswith("report")] == ["report 3"]


async def test_trust_does_not_wait_for_a_renewal(node: Node) -> None:
    """A key that is taken away is believed no more at once, be a renewal under way or not."""
    node.telling.put_nowait(told(OLD, NEW, host=NEW, member=NEW, serial=2))
    await node.until("renew")
    node.telling.put_nowait(told(NEW, host=NEW, member=NEW, serial=3))
    await node.until("believe 1")
    assert node.identity.authorities == keys(NEW)


@pytest.mark.parametrize("error", [Unavailable("auth is away"), TeleportError("what?")])
async def test_a_stream_that_ends_is_begun_anew(node: Node, error: Exception) -> None:
    """What is told then holds."""
    node.telling.put_nowait(error)
    node.telling.put_nowait(told(OLD, NEW, host=OLD, member=OLD, serial=1))
    await node.reported()
    assert node.happened[:2] == ["watch", "watch"]


async def test_an_older_auth_is_asked_rarely(node: Node, bounds: Bounds) -> None:
    """One that knows no such method is asked again after minutes."""
    node.telling.put_nowait(NotFound("there is no method 'authorities.watch'"))
    node.telling.put_nowait(told(OLD, host=OLD, member=OLD, serial=1))
    await node.reported()
    assert bounds.asked[0] == (UNKNOWN_SECONDS / 2, UNKNOWN_SECONDS)


FOREIGN = AuthorityState(
    cluster="other", type=AuthorityType.HOST, keys=(NEW.key.public.line,), serial=1, phase=Phase.STANDBY
)
STATES = told(OLD, host=OLD, member=OLD, serial=1)
USER, HOST = STATES.authorities


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ((USER, FOREIGN), "it tells of cluster 'other'; this is a member of main"),
        ((HOST,), "it tells of host, not of one user and one host authority"),
        ((), "it tells of none"),
        ((USER, HOST, HOST), "not of one user and one host authority"),
        ((USER, HOST.model_copy(update={"keys": ()})), "it tells no key of the host authority"),
    ],
    ids=["foreign", "half", "nothing", "twice", "no key"],
)
async def test_what_cannot_be_is_not_taken(
    node: Node, caplog: pytest.LogCaptureFixture, states: tuple[AuthorityState, ...], said: str
) -> None:
    """Whoever answers in auth's place: the member goes on with what it has, and the log says why."""
    wrong = STATES.model_copy(update={"authorities": states})
    with pytest.raises(InvalidInput, match=said):
        check_states(wrong, "main")
    before = node.identity
    node.telling.put_nowait(wrong)
    node.telling.put_nowait(Unavailable("gone"))
    await node.until("watch", times=2)
    assert node.identity is before
    assert "what auth tells of its authorities is not taken" in caplog.text


async def test_one_key_for_both_is_not_taken(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """A key that is user and host authority at once would make people of members."""
    mixed = HOST.model_copy(update={"keys": USER.keys})
    node.telling.put_nowait(STATES.model_copy(update={"authorities": (USER, mixed)}))
    node.telling.put_nowait(STATES)
    await node.reported()
    assert "the same key" in caplog.text
    assert node.happened == ["watch", "believe 1", "report 1"]


def test_what_was_believed_is_remembered() -> None:
    """Keys that are gone are known for telling why, never for believing; the latest few, each once."""
    signers = [OLD, NEW, *(Signer(AuthorityType.HOST, "main", generate_key()) for _ in range(MAX_RETIRED + 2))]
    found = identity(OLD, OLD)
    for signer in signers[1:]:
        found = found.believing(keys(signer))
    assert [each.keys[0] for each in found.retired] == [each.key.public.line for each in signers[:-1]][-MAX_RETIRED:]
    gone = signers[-2].key.public.blob
    assert found.trust.find(gone) is None
    assert found.known.find(gone) is not None
    back = found.believing(keys(signers[-1], signers[-2]))
    assert signers[-2].key.public.line not in {each.keys[0] for each in back.retired}
    assert StoredIdentity.model_validate_json(found.model_dump_json()) == found
