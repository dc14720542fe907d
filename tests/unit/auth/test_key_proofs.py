"""The host keys, as auth lets them prove themselves to whoever asks: while a rotation runs, and no emergency."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from runtime.api import methods
from runtime.api.proof_messages import KeysProof, KeysQuery
from runtime.core.callers import Caller, CallerKind
from runtime.core.rotation import Phase
from runtime.pki.key_proof import NONCE_CHARACTERS, is_proved
from tests.unit.auth.test_rotating import by_hand, rotate
from tests.unit.auth.world import World, following_world

NOBODY = Caller(CallerKind.NOBODY, "", "192.0.2.7")
NONCE = "0a" * (NONCE_CHARACTERS // 2)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield auth as it follows its authorities."""
    async with following_world() as world:
        yield world


async def ask(world: World) -> KeysProof:
    """Ask as a newcomer."""
    found: KeysProof = await world.call(NOBODY, methods.AUTHORITIES_PROVE, KeysQuery(nonce=NONCE))
    return found


def speakers(world: World, proof: KeysProof) -> list[str]:
    """Return the fingerprints of the host keys that prove it."""
    generations = world.service.authorities.host.generations
    assert proof.keys == tuple(each.public.line for each in generations)
    return [
        each.public.fingerprint
        for each in generations
        if is_proved(proof.signatures, pin=each.public.fingerprint, nonce=NONCE, cluster=proof.cluster, keys=proof.keys)
    ]


async def test_both_keys_speak_while_both_are_trusted(world: World) -> None:
    """From the first step to the last but one; a key that stands alone is asked nothing."""
    assert speakers(world, await ask(world)) == []
    for phase in (Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.ROLLBACK):
        await by_hand(world, phase)
        assert len(speakers(world, await ask(world))) == 2
    await by_hand(world, Phase.STANDBY)
    assert (await ask(world)).signatures == ()


async def test_nobody_speaks_in_an_emergency(world: World) -> None:
    """The new key does not vouch for the one that somebody may have stolen."""
    await rotate(world, grace=timedelta(), force=True)
    proof = await ask(world)
    assert (len(proof.keys), proof.signatures) == (2, ())


@pytest.mark.parametrize("nonce", ["", "0a", NONCE.upper(), NONCE + "0", NONCE + "\n"])
def test_only_a_nonce_is_signed(nonce: str) -> None:
    """Nobody has the keys sign a text of theirs."""
    with pytest.raises(ValueError, match="nonce"):
        KeysQuery(nonce=nonce)
