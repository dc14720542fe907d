"""What another cluster says of its authorities: what of it is believed, kept and told, and what never gets in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from runtime.api.trust_messages import TrustedPeer
from runtime.audit.events import EventType
from runtime.auth import authority_steps
from runtime.auth.authorities import LocalAuthorities, ensure_authorities
from runtime.auth.authority_record import LocalAuthority
from runtime.auth.followed_record import decode_followed, followed_key
from runtime.auth.succeeding import Told, statements
from runtime.auth.trusted import TrustedView
from runtime.auth.trusted_following import CHANGES, CHANGES_WITHIN, Following
from runtime.auth.trusted_record import Side, encode_record, new_record, record_key
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import NotFound, Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.core.rotation import Mode, Phase
from runtime.core.succession import MAX_CHARACTERS, MAX_KEYS, Succession
from runtime.pki.keys import PrivateKey, generate_key, parse_public_key
from runtime.pki.succession import endorse, standing
from runtime.pki.trust import Signer
from tests.unit.auth.recorder import Recorder

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)
CLOCK = ManualClock(NOW)
FORWARD = (Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY)


class Other:
    """Another cluster, whose authorities rotate."""

    def __init__(self, authorities: LocalAuthorities) -> None:
        self.now = authorities

    @classmethod
    async def new(cls, name: str) -> Other:
        """Return one with new authorities."""
        return cls(await ensure_authorities(MemoryBackend(clock=CLOCK), name, clock=CLOCK))

    @property
    def said(self) -> list[str]:
        """What it tells now."""
        return list(Told(self.now)())

    @property
    def host(self) -> tuple[str, ...]:
        """The keys of its host CA."""
        return lines(self.now.host)

    @property
    def user(self) -> tuple[str, ...]:
        """The keys of its user CA."""
        return lines(self.now.user)

    def peer(self, **more: object) -> TrustedPeer:
        """Return how teleport.yaml gives it."""
        return TrustedPeer(cluster=self.now.cluster, host_keys=self.host, user_keys=self.user, **more)

    def begin(self, *, emergency: bool = False) -> None:
        """Begin a rotation of both."""
        grace = timedelta() if emergency else timedelta(hours=30)
        self.now = LocalAuthorities(
            *(
                authority_steps.begin(
                    each, generate_key(), name="r", now=NOW, mode=Mode.MANUAL, grace=grace, force=emergency
                )
                for each in (self.now.user, self.now.host)
            )
        )

    def step(self, *phases: Phase) -> None:
        """Go on to these phases."""
        for phase in phases:
            self.now = LocalAuthorities(
                *(authority_steps.step(each, phase, now=NOW) for each in (self.now.user, self.now.host))
            )


def lines(authority: LocalAuthority) -> tuple[str, ...]:
    """Return its keys."""
    return tuple(each.public.line for each in authority.generations)


class World:
    """A cluster `here`, its root `main`, `leaf` that has joined it with a token, and a leaf `third` of its file."""

    def __init__(self, own: LocalAuthorities, main: Other, leaf: Other, third: Other) -> None:
        self.own, self.main, self.leaf, self.third = own, main, leaf, third
        self.backend = MemoryBackend(clock=CLOCK)
        self.audit = Recorder()
        self.clock = ManualClock(NOW)
        self.view = self.another_view()
        self.following = Following(self.backend, self.own, self.view, self.audit, self.clock.now)

    def another_view(self) -> TrustedView:
        """Return what an auth server sees."""
        view = TrustedView(self.backend, "here", lambda: (*lines(self.own.user), *lines(self.own.host)))
        view.file = (self.main.peer(tunnel_addr="p:3024", allow_logins=("joe",)), self.third.peer())
        return view

    async def learn(self, other: Other, said: Sequence[str] | None = None) -> None:
        """Hear what a cluster says, and see what follows from it."""
        before = await self.kept(other)
        await self.following.learn(other.now.cluster, other.said if said is None else said)
        if await self.kept(other) != before:
            record = decode_followed(await self.kept(other) or b"")
            async for _ in self.view.changes():
                if self.view.followed.get(other.now.cluster) == record:
                    break

    async def kept(self, other: Other) -> bytes | None:
        """Return what the backend holds of a cluster."""
        try:
            return (await self.backend.get(followed_key(other.now.cluster))).value
        except NotFound:
            return None

    def believed(self, other: Other) -> TrustedPeer:
        """Return a cluster as members are told of it."""
        peer = self.view.current(other.now.cluster)
        assert peer is not None
        return peer

    def rotated(self, other: Other) -> list[tuple[object, int, int]]:
        """Return what was audited of a cluster's keys: type, how many came, how many went."""
        return [
            (each["type"], len(list(each["came"])), len(list(each["went"])))  # type: ignore[arg-type] # lists, both
            for each in self.audit.of(EventType.TRUST_ROTATED)
            if each["cluster"] == other.now.cluster
        ]

    def refused(self) -> list[str]:
        """Return why something was refused."""
        return [str(each["error"]) for each in self.audit.of(EventType.TRUST_REFUSED)]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield such a cluster, that follows its backend."""
    own = await ensure_authorities(MemoryBackend(clock=CLOCK), "here", clock=CLOCK)
    made = World(own, *[await Other.new(name) for name in ("main", "leaf", "third")])
    record = new_record("leaf", Side.LEAF, host_keys=made.leaf.host, means="x", now=NOW)
    await made.backend.put(record_key("leaf"), encode_record(record))
    running = asyncio.create_task(made.view.run())
    await made.view.ready.wait()
    yield made
    running.cancel()
    await asyncio.wait([running])


async def test_a_root_is_followed_through_a_rotation(world: World) -> None:
    """Both authorities, in each phase; told once where keys came or went, and everything else about it stays."""
    main = world.main
    await world.learn(main)
    assert await world.kept(main) is None, "it was never rotated, and says nothing"
    main.begin()
    for phase in (None, *FORWARD):
        if phase is not None:
            main.step(phase)
        await world.learn(main)
        peer = world.believed(main)
        assert (set(peer.host_keys), set(peer.user_keys)) == (set(main.host), set(main.user))
        assert (peer.tunnel_addr, peer.allow_logins, peer.ended) == ("p:3024", ("joe",), ())
    assert sorted(world.rotated(main), key=str) == [("host", 0, 1), ("host", 1, 0), ("user", 0, 1), ("user", 1, 0)]
    # Said again it is no news, and what it said before does not come back.
    kept = await world.kept(main)
    await world.learn(main)
    assert await world.kept(main) == kept


async def test_a_leaf_tells_of_its_servers_only(world: World) -> None:
    """However it came to be known: by a token, or by a file that holds its user CA, too. Nobody of it gets in here."""
    for leaf in (world.leaf, world.third):
        before = world.believed(leaf).user_keys
        leaf.begin()
        leaf.step(*FORWARD)
        await world.learn(leaf)
        peer = world.believed(leaf)
        assert peer.host_keys == leaf.host
        assert peer.user_keys == before
        assert set(peer.user_keys).isdisjoint(leaf.user)
        assert world.rotated(leaf) == [("host", 1, 1)]


async def test_who_was_away_for_two_rotations(world: World) -> None:
    """What is told at last leads from the first key to the last."""
    for _ in range(2):
        world.main.begin()
        world.main.step(*FORWARD)
    await world.learn(world.main)
    assert world.believed(world.main).host_keys == world.main.host
    assert world.believed(world.main).user_keys == world.main.user


async def test_a_rollback(world: World) -> None:
    """The key that came goes again."""
    given = world.main.host
    world.main.begin()
    world.main.step(Phase.UPDATE_CLIENTS)
    await world.learn(world.main)
    assert len(world.believed(world.main).host_keys) == 2
    world.main.step(Phase.ROLLBACK, Phase.STANDBY)
    await world.learn(world.main)
    assert world.believed(world.main).host_keys == given == world.main.host


async def test_an_emergency_ends_it(world: World) -> None:
    """While it goes on nothing new is believed; then nothing at all, and it is said which authorities have ended."""
    main = world.main
    given = main.host
    main.begin(emergency=True)
    await world.learn(main)
    assert world.believed(main).host_keys == given
    main.step(*FORWARD)
    await world.learn(main)
    peer = world.believed(main)
    assert (peer.host_keys, peer.user_keys, peer.ended) == ((), (), ("host", "user"))
    # Given its new keys, all is well; and what ended the old ones is nothing to them.
    world.view.file = (main.peer(tunnel_addr="p:3024"),)
    assert world.believed(main).host_keys == main.host
    await world.learn(main)
    assert world.believed(main).host_keys == main.host
    assert world.believed(main).ended == ()


async def test_another_base_ends_what_was_followed(world: World) -> None:
    """A file with other keys is what counts; with the first ones again, those are followed again."""
    main = world.main
    given = main.peer(tunnel_addr="p:3024")
    main.begin()
    main.step(*FORWARD)
    await world.learn(main)
    other = await Other.new("main")
    world.view.file = (other.peer(tunnel_addr="p:3024"),)
    assert world.believed(main).host_keys == other.host
    await world.learn(main)
    assert world.believed(main).host_keys == other.host, "the old ones say nothing of these"
    other.begin()
    await world.learn(other)
    assert set(world.believed(other).host_keys) == set(other.host), "it is followed from its own beginning"
    world.view.file = (given,)
    await world.learn(main)
    assert world.believed(main).host_keys == main.host


async def test_several_auth_servers_hear_it_at_once(world: World) -> None:
    """It is kept once, and told once."""
    views = [world.another_view() for _ in range(4)]
    running = [asyncio.create_task(view.run()) for view in views]
    followings = [Following(world.backend, world.own, view, world.audit, CLOCK.now) for view in views]
    world.main.begin()
    await asyncio.gather(*(each.learn("main", world.main.said) for each in followings))
    assert sorted(world.rotated(world.main), key=str) == [("host", 1, 0), ("user", 1, 0)]
    for task in running:
        task.cancel()
    await asyncio.wait(running)


# --- hostile ----------------------------------------------------------------------------------------------------------


async def test_statements_of_another_cluster(world: World) -> None:
    """A root that pushes what another one really says, as that one's or as its own; a cluster that nobody knows."""
    world.leaf.begin()
    await world.learn(world.main, world.leaf.said)
    renamed = [json.dumps({**json.loads(each), "cluster": "main"}) for each in world.leaf.said]
    await world.learn(world.main, renamed)
    stranger = await Other.new("stranger")
    stranger.begin()
    await world.learn(stranger)
    for other in (world.main, world.leaf, stranger):
        assert await world.kept(other) is None
    assert world.refused() == []


async def test_an_old_statement_after_the_next_rotation(world: World) -> None:
    """A replay brings no key back, be it from the middle of a rotation or from its end."""
    main = world.main
    heard: list[str] = []
    for _ in range(2):
        main.begin()
        heard += main.said
        main.step(*FORWARD)
        heard += main.said
        await world.learn(main)
    kept = await world.kept(main)
    for each in heard:
        await world.learn(main, [each])
    await world.learn(main, heard[::-1])
    assert await world.kept(main) == kept


def own_words(other: Other, keys: Sequence[str], number: int, signers: Sequence[PrivateKey]) -> str:
    """Return what the host CA of a cluster signs of itself, be it true or not."""
    parsed = [parse_public_key(key) for key in keys]
    return standing(other.now.cluster, AuthorityType.HOST, keys=parsed, signers=signers, serial=number).text


async def test_a_number_of_the_past(world: World) -> None:
    """Also signed by the very key that is believed: what was true is over."""
    main = world.main
    main.begin()
    main.step(*FORWARD)
    await world.learn(main)
    key = main.now.host.signer.key
    new = generate_key()
    kept = await world.kept(main)
    for number in range(1, main.now.host.serial + 1):
        await world.learn(main, [own_words(main, [key.public.line, new.public.line], number, [key, new])])
    assert await world.kept(main) == kept


async def test_keys_that_are_not_its_own(world: World) -> None:
    """A root that names ours, another trusted cluster's, or its own user CA's for its host CA: refused, told once."""
    main = world.main
    key = main.now.host.signer.key
    for number, (theirs, holder) in enumerate(
        (
            (world.own.host, "another authority's"),
            (world.own.user, "another authority's"),
            (world.leaf.now.host, "another authority's"),
            (world.third.now.user, "another authority's"),
            (main.now.user, "another authority's"),
        ),
        start=1,
    ):
        # It even has the private key: what it says is signed as it should be.
        stolen = theirs.signer.key
        said = own_words(main, [key.public.line, stolen.public.line], number, [key, stolen])
        await world.learn(main, [said])
        await world.learn(main, [said])
        assert await world.kept(main) is None
        assert len(world.refused()) == number
        assert holder in world.refused()[-1]


@pytest.mark.parametrize("field", ["keys", "number", "type", "cluster", "endorsements", "possessions"], ids=count())
async def test_a_proxy_that_alters_one(world: World, field: str) -> None:
    """Each field of it: then it is nobody's word."""
    main = world.main
    main.begin()
    honest = [Succession.model_validate_json(each) for each in main.said]
    evil = generate_key()
    changed = {
        "keys": (evil.public.line,),
        "number": 9,
        "type": "user",
        "cluster": "leaf",
        "endorsements": (),
        "possessions": (),
    }
    altered = [
        json.dumps({**each.model_dump(mode="json"), field: changed[field]}) for each in honest if each.type == "host"
    ]
    for told_as in (main, world.leaf):
        await world.learn(told_as, altered)
        assert await world.kept(told_as) is None
    # And it does not keep the honest one out.
    await world.learn(main, [*altered, *main.said])
    assert set(world.believed(main).host_keys) == set(main.host)


async def test_a_member_is_no_authority(world: World) -> None:
    """A key that the host CA has certified, a proxy's, says nothing of who comes next."""
    member, evil = generate_key(), generate_key()
    signer = Signer(AuthorityType.HOST, "main", member)
    await world.learn(world.main, [endorse(signer, Signer(AuthorityType.HOST, "main", evil), serial=5)])
    host = world.main.host[0]
    await world.learn(world.main, [own_words(world.main, [host, evil.public.line], 5, [member, evil])])
    assert await world.kept(world.main) is None


async def test_the_user_authority_says_nothing_of_servers(world: World) -> None:
    """Nor the other way round: each speaks for itself."""
    evil = generate_key()
    for signer, kind in ((world.main.now.user.signer, "host"), (world.main.now.host.signer, "user")):
        said = endorse(replace(signer, type=AuthorityType(kind)), Signer(AuthorityType(kind), "main", evil), serial=3)
        await world.learn(world.main, [said])
    assert await world.kept(world.main) is None


async def test_no_more_keys_than_generations(world: World) -> None:
    """Sixteen are the most, and what is too long is not even read."""
    main = world.main
    key = main.now.host.signer.key
    new = [generate_key() for _ in range(MAX_KEYS)]
    said = standing("main", AuthorityType.HOST, keys=[key.public], signers=[key], serial=1)
    too_many = said.model_copy(update={"keys": (key.public.line, *(each.public.line for each in new))})
    giant = said.text[:-1] + ',"more":"' + "x" * MAX_CHARACTERS + '"}'
    await world.learn(main, [too_many.text, giant, "{", "", "null"])
    assert await world.kept(main) is None
    full = [key, *new[:-1]]
    await world.learn(main, [own_words(main, [each.public.line for each in full], 1, full)])
    assert len(world.believed(main).host_keys) == MAX_KEYS


async def test_a_cluster_that_rotates_without_end(world: World) -> None:
    """So much of it is news in a minute, and the rest is for later: it floods neither members nor the audit log."""
    main = world.main
    key = main.now.host.signer.key
    for number in range(1, CHANGES + 1):
        await world.learn(main, [own_words(main, [key.public.line], number, [key])])
    said = [own_words(main, [key.public.line], CHANGES + 1, [key])]
    with pytest.raises(Unavailable, match="20 times within a minute"):
        await world.learn(main, said)
    world.third.begin()
    await world.learn(world.third)  # another one is not held up
    assert set(world.believed(world.third).host_keys) == set(world.third.host)
    world.clock.advance(CHANGES_WITHIN)
    before = await world.kept(main)
    await world.learn(main, said)
    assert await world.kept(main) != before


async def test_what_lies_there_and_cannot_be_read(world: World) -> None:
    """A newer release's record stays as it is, and what was given counts."""
    newer = b'{"version": 2, "cluster": "main"}'
    await world.backend.put(followed_key("main"), newer)
    world.main.begin()
    await world.following.learn("main", world.main.said)
    assert await world.kept(world.main) == newer
    assert len(world.believed(world.main).host_keys) == 1


async def test_what_is_told_of_ourselves() -> None:
    """Nothing before the first rotation; then both authorities as they are, and how one key came after the other."""
    main = await Other.new("main")
    assert main.said == []
    main.begin()
    assert [each.keys for each in statements(main.now.host)] == [main.host]
    main.step(*FORWARD)
    told = statements(main.now.host)
    assert [each.keys for each in told] == [main.host, main.host]
    assert "PRIVATE" not in "".join(main.said)
    texts = Told(main.now)
    assert texts() == texts()
