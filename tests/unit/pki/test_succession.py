"""Who may say by which keys an authority is to be believed from now on: itself, and nobody else."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.core.errors import AccessDenied
from runtime.core.resources.authority import AuthorityType
from runtime.core.succession import (
    CARRIED_CHARACTERS,
    MAX_CHARACTERS,
    MAX_STATEMENTS,
    Succession,
    carried,
    read_successions,
)
from runtime.pki.keys import KeyAlgorithm, PrivateKey, generate_key
from runtime.pki.sshsig import sign
from runtime.pki.succession import POSSESSED, Known, believed, conclude, endorse, follow, standing
from runtime.pki.trust import Signer

HOST, USER = AuthorityType.HOST, AuthorityType.USER
KEYS = [generate_key() for _ in range(6)]
OLD, NEW, NEXT, STRANGE = KEYS[:4]
LINES = [key.public.line for key in KEYS]


def signer(key: PrivateKey, kind: AuthorityType = HOST, cluster: str = "main") -> Signer:
    """Return an authority of main."""
    return Signer(kind, cluster, key)


def now(number: int, *keys: PrivateKey, cluster: str = "main", kind: AuthorityType = HOST) -> Succession:
    """Return what main says: these keys, the one known longest first, which all sign."""
    return standing(cluster, kind, keys=[key.public for key in keys], signers=keys, serial=number)


def succession(text: str) -> Succession:
    """Return one that was written as text."""
    return Succession.model_validate_json(text)


def known(*keys: PrivateKey, number: int = 0) -> Known:
    """Return what is known of main's host CA."""
    return Known("main", HOST, tuple(key.public.line for key in keys), number)


def keys_after(start: Known, statements: Sequence[Succession], foreign: Sequence[str] = ()) -> list[str]:
    """Return by which keys main is believed after these statements."""
    return list(follow(start, statements, foreign=foreign)[0].keys)


# A rotation from OLD to NEW, and one from NEW to NEXT, as main tells of them.
BEGUN, DONE = now(1, OLD, NEW), now(4, NEW)
LED = succession(endorse(signer(OLD), signer(NEW), serial=4))
AGAIN, THEN = now(5, NEW, NEXT), succession(endorse(signer(NEW), signer(NEXT), serial=8))


def test_a_rotation_is_followed_step_by_step() -> None:
    """Both keys while it lasts, then the new one alone."""
    after, refused = follow(known(OLD), [BEGUN], foreign=())
    assert (after, refused) == (known(OLD, NEW, number=1), ())
    assert follow(after, [LED, DONE], foreign=()) == (known(NEW, number=4), ())


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ED25519, KeyAlgorithm.ECDSA_P256, KeyAlgorithm.RSA])
def test_keys_of_each_kind_lead_on(algorithm: KeyAlgorithm) -> None:
    """Also from one kind to another, and as text."""
    other = generate_key(algorithm)
    texts = [endorse(signer(OLD), signer(other), serial=4), endorse(signer(other), signer(NEXT), serial=8)]
    assert believed(texts, cluster="main", kind=HOST, known=[OLD.public]) == (NEXT.public,)
    assert believed(texts[:1], cluster="main", kind=HOST, known=[OLD.public]) == (other.public,)


def test_who_was_away_for_two_rotations_catches_up() -> None:
    """Whatever the order in which the statements come."""
    assert keys_after(known(OLD), [THEN, LED]) == LINES[2:3]
    assert keys_after(known(OLD), [LED]) == LINES[1:2]
    assert keys_after(known(OLD), [THEN]) == LINES[:1], "a link is missing"


def test_a_rollback_takes_the_new_key_back() -> None:
    """And the rotation after that leads on."""
    assert keys_after(known(OLD), [BEGUN, now(3, OLD)]) == LINES[:1]
    assert keys_after(known(OLD), [BEGUN, now(3, OLD), now(4, OLD, NEXT)]) == [LINES[0], LINES[2]]


def test_what_was_said_once_does_not_come_back() -> None:
    """A statement of the past changes nothing: neither while its signer is believed nor later."""
    for start in (known(OLD, NEW, number=1), known(NEW, number=4), known(NEW, NEXT, number=5), known(NEXT, number=8)):
        past = [each for each in (BEGUN, DONE, LED, AGAIN, THEN) if each.number <= start.number]
        assert follow(start, past, foreign=()) == (start, ())


def test_a_new_key_does_not_bring_its_predecessor_back() -> None:
    """Who came to know the new key by hand, and no number, is not led back to the old one by an old statement."""
    assert follow(known(NEW), [BEGUN], foreign=()) == (known(NEW), ())
    assert keys_after(known(NEXT), [BEGUN, LED, AGAIN]) == LINES[2:3]


def test_an_authority_ends() -> None:
    """By its own word, after which nobody leads it on."""
    end = succession(conclude(signer(OLD), serial=4))
    after, refused = follow(known(OLD), [end, now(5, NEW), LED, now(6, OLD, NEW)], foreign=())
    assert (after, refused) == (known(number=4), ())
    assert follow(known(NEW), [end], foreign=()) == (known(NEW), ()), "only for who believes the key"


def altered(statement: Succession, **fields: object) -> Succession:
    """Return a statement in which a carrier has changed something."""
    return Succession.model_validate({**statement.model_dump(), **fields})


def by(key: PrivateKey, namespace: str) -> tuple[str, ...]:
    """Return this key's signature over BEGUN's words."""
    said = "\n".join(("succession", "1", "main", "host", "1", *BEGUN.keys, "")).encode()
    return (base64.b64encode(sign(key, said, namespace=namespace)).decode(),)


@pytest.mark.parametrize(
    "statement",
    [
        now(1, OLD, NEW, cluster="other"),
        now(1, OLD, NEW, kind=USER),
        now(1, STRANGE, NEW),
        altered(BEGUN, number=2),
        altered(BEGUN, keys=[LINES[0], LINES[3]]),
        altered(BEGUN, keys=[LINES[0]]),
        altered(BEGUN, keys=LINES[1::-1]),
        altered(BEGUN, keys=[]),
        altered(BEGUN, endorsements=[]),
        altered(BEGUN, endorsements=BEGUN.possessions),
        altered(BEGUN, endorsements=by(OLD, POSSESSED)),
        altered(BEGUN, endorsements=by(OLD, "trust-leaf@teleport.internal")),
        altered(BEGUN, endorsements=["", "@@", "AAAA", "\u00e9"]),
        altered(now(1, OLD, NEW, cluster="other"), cluster="main"),
        altered(now(1, OLD, NEW, kind=USER), type="host"),
    ],
    ids=count(),
)
def test_what_the_authority_has_not_said_counts_for_nothing(statement: Succession) -> None:
    """Of another cluster or type, by a stranger (a member's key is one), altered, or signed for something else."""
    assert follow(known(OLD), [statement], foreign=()) == (known(OLD), ())


def endorsed(*keys: str, number: int = 1, possessors: Sequence[PrivateKey] = ()) -> Succession:
    """Return what OLD itself says, be it true or not."""
    said = standing("main", HOST, keys=[], signers=[OLD, *possessors], serial=number)
    message = "\n".join(("succession", "1", "main", "host", str(number), *keys, "")).encode()
    signed = {
        field: [base64.b64encode(sign(key, message, namespace=f"ca-{what}@teleport.internal")).decode() for key in who]
        for field, what, who in (("endorsements", "endorsed", [OLD]), ("possessions", "possessed", possessors))
    }
    return altered(said, keys=keys, **signed)


@pytest.mark.parametrize(
    ("statement", "foreign", "says"),
    [
        (endorsed(LINES[3]), (), "does not show that it has it"),
        (endorsed(LINES[3], possessors=[NEW]), (), "does not show that it has it"),
        (endorsed(LINES[3], possessors=[STRANGE]), (LINES[3],), "another authority's"),
        (endorsed(LINES[0], LINES[3], possessors=[STRANGE]), (LINES[3],), "another authority's"),
        (endorsed(LINES[0], LINES[0]), (), "twice"),
        (endorsed("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAIQ=="), (), "not accepted"),
    ],
    ids=count(),
)
def test_no_authority_takes_what_is_not_its_own(statement: Succession, foreign: Sequence[str], says: str) -> None:
    """A key that it does not hold, or that is ours or another cluster's; it is said why."""
    after, refused = follow(known(OLD), [statement], foreign=foreign)
    assert after == known(OLD)
    assert len(refused) == 1
    assert says in refused[0]
    # A good one beside it still counts.
    assert keys_after(known(OLD), [statement, now(2, OLD, NEW)], foreign) == LINES[:2]


def test_lies_are_said_to_be_such() -> None:
    """Where there is somebody who asked."""
    with pytest.raises(AccessDenied, match="does not show"):
        believed([endorsed(LINES[3]).text], cluster="main", kind=HOST, known=[OLD.public])


def test_what_cannot_be_read_is_passed_over() -> None:
    """A newer release's, a giant, one with too many keys, nonsense; more than are read at once."""
    newer = json.dumps({**json.loads(BEGUN.text), "type": "db"})
    many = json.dumps({**json.loads(BEGUN.text), "keys": LINES[:1] * 17})
    giant = BEGUN.text + " " * MAX_CHARACTERS
    assert read_successions([newer, many, giant, "", "[]", "{", "nul\0", BEGUN.text]) == (BEGUN,)
    assert len(read_successions([BEGUN.text] * (2 * MAX_STATEMENTS))) == MAX_STATEMENTS
    with pytest.raises(ValueError, match="number"):
        altered(BEGUN, number=2**53)


def test_the_latest_travel_where_not_all_do() -> None:
    """So much, and no more, oldest first."""
    all_of_them = [now(number, OLD, NEW) for number in range(1, 100)]
    texts = carried(reversed(all_of_them))
    assert len(texts) <= MAX_STATEMENTS
    assert sum(map(len, texts)) <= CARRIED_CHARACTERS
    numbers = [each.number for each in read_successions(texts)]
    assert numbers == list(range(numbers[0], 100))
    assert carried([]) == ()


STEPS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5), st.sets(st.integers(0, 5), max_size=3)), max_size=8)


@given(steps=STEPS, start=st.integers(0, 5), first=st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_nothing_but_a_chain_of_endorsements_gets_in(
    steps: list[tuple[int, int, set[int]]], start: int, first: int
) -> None:
    """Whatever is said by whom: each key that is believed was named by one that was believed at that time."""
    statements, due, number = [], {start}, first
    for at, who, named in steps:
        others = [KEYS[each] for each in sorted(named - {who})]
        keys = [KEYS[each].public for each in sorted(named)]
        statements.append(standing("main", HOST, keys=keys, signers=[KEYS[who], *others], serial=at))
    for at, who, named in sorted(steps, key=lambda step: step[0]):
        # A new key that endorses has not shown that it is held: it cannot be new, being believed.
        if at > number and who in due:
            due, number = named, at
    after, refused = follow(known(KEYS[start], number=first), statements, foreign=())
    assert set(after.keys) == {LINES[each] for each in due}
    assert after.number == number
    assert refused == ()
