"""An authority's record through a rotation: what each step adds, what it takes away, and how it lies in the backend."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime, timedelta

import pytest

from runtime.auth.authority_record import LocalAuthority, decode_authority, encode_authority, new_authority
from runtime.auth.authority_steps import MAX_SUCCESSIONS, begin, step
from runtime.core.errors import AlreadyExists, InvalidInput
from runtime.core.resources.authority import AuthorityType
from runtime.core.rotation import DEFAULT_GRACE, Mode, Phase, Use
from runtime.pki.keys import KeyAlgorithm, generate_key
from runtime.pki.succession import believed

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD, NEW = generate_key(), generate_key(KeyAlgorithm.ECDSA_P256)
STANDBY = new_authority(AuthorityType.HOST, "main", OLD, created=NOW)
FORWARD = (Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY)


def begun(*, grace: timedelta = DEFAULT_GRACE, force: bool = False) -> LocalAuthority:
    """Return the authority in the first phase."""
    return begin(STANDBY, NEW, name="r", now=NOW, mode=Mode.AUTO, grace=grace, force=force)


def through(authority: LocalAuthority, *phases: Phase) -> LocalAuthority:
    """Return it after these phases."""
    for phase in phases:
        authority = step(authority, phase, now=NOW)
    return authority


EVERY_STATE = [
    STANDBY,
    *(through(begun(), *FORWARD[:count]) for count in range(4)),
    *(through(begun(), *FORWARD[:count], Phase.ROLLBACK) for count in range(3)),
    through(begun(), Phase.ROLLBACK, Phase.STANDBY),
]


@pytest.mark.parametrize("authority", EVERY_STATE, ids=range(len(EVERY_STATE)))
def test_every_state_is_kept_as_it_is(authority: LocalAuthority) -> None:
    """What is written is read again: keys, phase, times, number, and how keys came after each other."""
    read = decode_authority(encode_authority(authority), AuthorityType.HOST)
    assert (read.public, read.serial, read.rotation) == (authority.public, authority.serial, authority.rotation)
    assert (read.active, read.successions) == (authority.active, authority.successions)
    for use in Use:
        assert read.signer_for(use).public == authority.signer_for(use).public


def test_without_a_rotation_it_is_as_the_first_releases_wrote_it() -> None:
    """So they read it, and what they wrote is read: nothing is added before somebody rotates."""
    record = json.loads(encode_authority(STANDBY))
    assert set(record) == {"version", "type", "cluster", "active", "generations"}
    assert set(record["generations"][0]) == {"number", "created", "public_key", "private_key"}
    assert decode_authority(json.dumps(record).encode(), AuthorityType.HOST).serial == 0


def test_numbers_rise_with_every_step() -> None:
    """Of two states the later one has the larger number; forward and back."""
    serials = [STANDBY.serial, begun().serial]
    serials += [through(begun(), *FORWARD[:count]).serial for count in (1, 2, 3)]
    assert serials == [0, 1, 2, 3, 4]
    assert through(begun(), Phase.ROLLBACK, Phase.STANDBY).serial == 3


def test_the_end() -> None:
    """Only the new key is left, which may be of another algorithm; both say that it comes after the old one."""
    after = through(begun(), *FORWARD)
    assert [each.public for each in after.generations] == [NEW.public]
    assert (after.active, after.rotation) == (2, None)
    (last,) = after.successions
    assert (last.number, last.public, last.serial) == (2, NEW.public, after.serial)
    keys = believed([last.endorsement], cluster="main", kind=AuthorityType.HOST, known=[OLD.public])
    assert keys == (NEW.public,)
    assert OLD.to_openssh().splitlines()[2] not in encode_authority(after).decode()


def test_the_end_of_a_return() -> None:
    """Only the old key is left, and nothing leads to the new one."""
    after = through(begun(), Phase.UPDATE_CLIENTS, Phase.ROLLBACK, Phase.STANDBY)
    assert [each.public for each in after.generations] == [OLD.public]
    assert (after.active, after.rotation, after.successions) == (1, None, ())
    assert NEW.to_openssh().splitlines()[2] not in encode_authority(after).decode()


def test_the_end_of_an_emergency() -> None:
    """The old key's last word is its own end: nothing leads to the new one, and nothing from earlier keys."""
    before = through(begun(), *FORWARD)
    third = generate_key()
    running = begin(before, third, name="s", now=NOW, mode=Mode.AUTO, grace=timedelta(), force=True)
    (last,) = through(running, *FORWARD).successions
    assert last.public == NEW.public
    for known in (OLD.public, NEW.public):
        keys = believed([last.endorsement], cluster="main", kind=AuthorityType.HOST, known=[known])
        assert third.public not in keys


def test_a_number_is_never_used_twice_at_once() -> None:
    """A generation that was rolled back leaves its number; none that is there is taken."""
    again = begin(through(begun(), *FORWARD), generate_key(), name="s", now=NOW, mode=Mode.AUTO, grace=DEFAULT_GRACE)
    assert [each.number for each in again.generations] == [2, 3]


def test_so_many_successions_are_kept() -> None:
    """The latest."""
    authority = STANDBY
    for number in range(MAX_SUCCESSIONS + 2):
        running = begin(authority, generate_key(), name=str(number), now=NOW, mode=Mode.AUTO, grace=DEFAULT_GRACE)
        authority = through(running, *FORWARD)
    numbers = [each.number for each in authority.successions]
    assert numbers == list(range(4, MAX_SUCCESSIONS + 4))


def test_refused_steps_change_nothing() -> None:
    """A second rotation, and a phase out of order."""
    with pytest.raises(AlreadyExists):
        begin(begun(), generate_key(), name="s", now=NOW, mode=Mode.AUTO, grace=DEFAULT_GRACE)
    with pytest.raises(InvalidInput):
        step(begun(), Phase.STANDBY, now=NOW)
    with pytest.raises(InvalidInput):
        step(STANDBY, Phase.ROLLBACK, now=NOW)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"phase": "standby"}, "another version"),
        ({"phase": "later"}, "another version"),
        ({"new": 7}, "generation 7, the new one, is missing"),
        ({"grace": -1.0}, "malformed at rotation.grace"),
        ({"started": "2026-01-01T00:00:00"}, "malformed at rotation.started"),
        ({"mode": "often"}, "malformed at rotation.mode"),
        ({"more": 1}, "malformed at rotation.more"),
    ],
)
def test_a_rotation_that_cannot_be_used(change: dict[str, object], reason: str) -> None:
    """It is refused as a whole, without a word of the keys."""
    record = json.loads(encode_authority(begun()))
    record["rotation"] |= change
    with pytest.raises(InvalidInput, match=reason) as caught:
        decode_authority(json.dumps(record).encode(), AuthorityType.HOST)
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(key.to_openssh().splitlines()[2] in shown for key in (OLD, NEW))


def test_a_new_generation_without_its_private_key() -> None:
    """It could not sign when its turn comes: refused when it is read, not then."""
    record = json.loads(encode_authority(begun()))
    record["generations"][1]["private_key"] = None
    with pytest.raises(InvalidInput, match="generation 2, the new one, is missing or has no private key"):
        decode_authority(json.dumps(record).encode(), AuthorityType.HOST)
