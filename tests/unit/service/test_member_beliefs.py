"""Whom a member believes: told by auth while it runs, kept over renewals and restarts, and how it reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.api.cluster_messages import AuthorityKeys
from runtime.auth.presence import PresenceStore
from runtime.core.callers import CallerKind
from runtime.core.errors import InvalidInput, Unavailable
from runtime.pki.keys import generate_key, parse_public_key
from runtime.service.identity import StoredIdentity
from tests.unit.service.test_member import World, beat

MORE = generate_key().public.line


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Yield auth and a node."""
    world = World(tmp_path)
    await world.start()
    yield world
    await world.service.stop()
    await world.backend.close()
    world.log.close()


def with_more(world: World) -> tuple[AuthorityKeys, ...]:
    """Return what the node believes, and one more host key."""
    user, host = world.identity.authorities
    return user, host.model_copy(update={"keys": (*host.keys, MORE)})


async def test_what_is_told_holds_at_once_and_after_a_restart(world: World) -> None:
    """Each verifier asks for the trust of the moment; the file has it, too."""
    member = world.member()
    told = with_more(world)
    member.believe(told)
    assert member.identity.trust.find(parse_public_key(MORE).blob) is not None
    assert world.data_dir.identity(CallerKind.NODE).authorities == told
    member.believe(world.identity.authorities)
    assert member.identity.trust.find(parse_public_key(MORE).blob) is None
    kept = world.data_dir.identity(CallerKind.NODE)
    assert kept.authorities == world.identity.authorities
    assert [each.keys for each in kept.retired] == [(MORE,)]
    await member.leave()


async def test_what_was_told_outlives_a_renewal(world: World) -> None:
    """An answer that was made before a step of a rotation does not take back what was told since."""
    member = world.member()
    told = with_more(world)
    member.believe(told)
    await member.renew()
    assert member.identity.authorities == told
    assert world.told[-1] is member.identity
    assert world.data_dir.identity(CallerKind.NODE) == member.identity
    await member.leave()


async def test_before_it_is_told_a_renewal_tells(world: World) -> None:
    """A member that was away takes whom to believe from its first renewal."""
    ours = world.identity.authorities
    world.identity = world.identity.believing(with_more(world))
    member = world.member()
    await member.renew()
    assert member.identity.authorities == ours
    assert [each.keys for each in member.identity.retired] == [(MORE,)]
    await member.leave()


async def test_a_full_disk_does_not_keep_it_from_holding(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that is taken away is believed no more, whatever the disk says; the log has it."""

    def full(identity: StoredIdentity) -> None:
        raise Unavailable("no space left")

    member = world.member()
    monkeypatch.setattr(world.data_dir, "keep", full)
    member.believe(with_more(world))
    assert member.identity.authorities == with_more(world)
    assert "whom to believe is not kept: no space left" in caplog.text
    await member.leave()


async def test_what_cannot_be_believed_is_refused(world: World) -> None:
    """One key for both authorities: nothing changes, nothing is written."""
    member = world.member()
    user, host = world.identity.authorities
    with pytest.raises(InvalidInput, match="the same key"):
        member.believe((user, host.model_copy(update={"keys": user.keys})))
    assert member.identity == world.identity
    await member.leave()


async def test_a_report_does_not_wait_for_the_next_heartbeat(world: World) -> None:
    """It is sent at once, and again with every heartbeat after it."""
    member = world.member()
    await beat(member)
    running = asyncio.create_task(member.run())  # which waits for seconds, as it has been heard before
    await asyncio.sleep(0)
    member.heard.clear()
    member.report({"user": 3, "host": 4})
    async with asyncio.timeout(5):  # the shortest pause is 7.5 s
        await member.heard.wait()
    (follower,) = await PresenceStore(world.backend, world.clock).followers()
    assert dict(follower.followed) == {"user": 3, "host": 4}
    running.cancel()
    await asyncio.wait([running])
    await beat(member)
    (follower,) = await PresenceStore(world.backend, world.clock).followers()
    assert dict(follower.followed) == {"user": 3, "host": 4}
    await member.leave()
