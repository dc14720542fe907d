"""The phases of a rotation: their order, who signs in each, when the next one comes, and that nobody is cut off."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.core.defaults import CERTIFICATE_TTL, MAX_CERTIFICATE_TTL
from runtime.core.errors import AlreadyExists, InvalidInput
from runtime.core.rotation import DEFAULT_GRACE, MAX_GRACE, Mode, Phase, Rotation, Use, begin, signs, step

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD, NEW = 1, 2
FORWARD = (Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY)


def begun(mode: Mode = Mode.AUTO, grace: timedelta = DEFAULT_GRACE, *, force: bool = False) -> Rotation:
    """Return a rotation in its first phase."""
    return begin(None, name="r", now=NOW, mode=mode, grace=grace, new=NEW, force=force)


def through(*phases: Phase) -> Rotation:
    """Return a rotation that has gone through these phases after init."""
    running = begun()
    for phase in phases:
        after = step(running, phase, now=NOW)
        assert after is not None
        running = after
    return running


AT = {
    Phase.INIT: through(),
    Phase.UPDATE_CLIENTS: through(*FORWARD[:1]),
    Phase.UPDATE_SERVERS: through(*FORWARD[:2]),
    Phase.ROLLBACK: through(Phase.ROLLBACK),
}


@pytest.mark.parametrize(
    ("phase", "client", "server"),
    [
        (None, OLD, OLD),
        (Phase.INIT, OLD, OLD),
        (Phase.UPDATE_CLIENTS, NEW, OLD),
        (Phase.UPDATE_SERVERS, NEW, NEW),
        (Phase.ROLLBACK, OLD, OLD),
    ],
)
def test_who_signs(phase: Phase | None, client: int, server: int) -> None:
    """The new key signs what clients show first, then what servers show; nothing before, and nothing after a return."""
    running = AT[phase] if phase else None
    assert (signs(running, OLD, Use.CLIENT), signs(running, OLD, Use.SERVER)) == (client, server)


@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("to", Phase)
def test_the_order_of_phases(at: Phase, to: Phase) -> None:
    """Each phase has one that follows it, and all but the return itself lead back; everything else is refused."""
    right = {AT[at].next} | ({Phase.ROLLBACK} if at is not Phase.ROLLBACK else set())
    if to in right:
        after = step(AT[at], to, now=NOW)
        assert (after.phase if after else Phase.STANDBY) is to
    else:
        with pytest.raises(InvalidInput, match=f"phase {to} does not follow {at}") as caught:
            step(AT[at], to, now=NOW)
        assert f"--phase={AT[at].next}" in caught.value.hint


@pytest.mark.parametrize("to", [Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY])
def test_without_a_rotation_there_is_no_next_phase(to: Phase) -> None:
    """And the error says how to begin one."""
    with pytest.raises(InvalidInput, match="no rotation is running") as caught:
        step(None, to, now=NOW)
    assert "tctl auth rotate" in caught.value.hint


def test_without_a_rotation_there_is_nothing_to_roll_back() -> None:
    """It says just that."""
    with pytest.raises(InvalidInput, match="nothing to roll back"):
        step(None, Phase.ROLLBACK, now=NOW)


@pytest.mark.parametrize("at", AT)
def test_one_rotation_at_a_time(at: Phase) -> None:
    """While one runs no other begins, and the error says in which phase it is and what can be done."""
    with pytest.raises(AlreadyExists, match=f"running already, in phase {at}") as caught:
        begin(AT[at], name="s", now=NOW, mode=Mode.AUTO, grace=DEFAULT_GRACE, new=3)
    assert f"--phase={AT[at].next}" in caught.value.hint


@pytest.mark.parametrize("grace", [timedelta(seconds=-1), MAX_GRACE + timedelta(seconds=1)])
def test_a_grace_period_that_is_none(grace: timedelta) -> None:
    """Neither negative nor without end."""
    with pytest.raises(InvalidInput, match="grace period"):
        begun(grace=grace)


def test_by_hand_nothing_is_due() -> None:
    """In manual mode no phase comes by itself."""
    assert all(replace(each, mode=Mode.MANUAL).due is None for each in AT.values())


def test_no_certificate_ends_early() -> None:
    """The old key ends when the longest certificate that it signed has ended.

    And hosts show new ones only when a member that was away since the first phase has none any more that is good.
    """
    init, clients, servers = (AT[each].due for each in (Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS))
    assert init is not None
    assert clients is not None
    assert servers is not None
    assert init > NOW
    assert (clients - NOW) + (servers - NOW) >= MAX_CERTIFICATE_TTL
    assert clients - NOW >= CERTIFICATE_TTL


def test_back_takes_as_long_as_new_certificates_live() -> None:
    """A return before the new key has signed anything ends at once, a later one after the grace period."""
    assert AT[Phase.ROLLBACK].due == NOW
    assert through(Phase.UPDATE_CLIENTS, Phase.ROLLBACK).due == NOW + DEFAULT_GRACE


@pytest.mark.parametrize(
    ("grace", "force", "emergency"),
    [(timedelta(), True, True), (timedelta(), False, False), (DEFAULT_GRACE, True, False)],
)
def test_an_emergency(grace: timedelta, *, force: bool, emergency: bool) -> None:
    """Without grace, and with force: the old key may be somebody else's. Without grace each phase is due at once."""
    running = begun(grace=grace, force=force)
    assert running.is_emergency is emergency
    assert (running.due == NOW) is (not grace)


# --- nobody is cut off -----------------------------------------------------------------------------------------------


@dataclass
class Party:
    """A member: which generations it believes, which one signed what it shows as a client and as a server."""

    trusted: frozenset[int]
    client: int
    server: int
    followed: int = 0
    pending: list[str] = field(default_factory=list)


class Cluster(RuleBasedStateMachine):
    """Members that follow slowly, each at its own pace, while somebody rotates, rolls back and rotates again.

    The gate is the rule under test: a phase begins when all members have followed the one before, a return at any time.
    """

    @initialize(members=st.integers(1, 4))
    def start(self, members: int) -> None:
        """All trust the one key that there is."""
        self.active, self.running, self.serial, self.highest = 1, None, 0, 1
        self.generations = frozenset({1})
        self.parties = [Party(self.generations, 1, 1) for _ in range(members)]

    running: Rotation | None
    parties: list[Party]

    @property
    def all_followed(self) -> bool:
        """Whether the gate is open."""
        return all(party.followed >= self.serial for party in self.parties)

    @precondition(lambda self: self.running is None)
    @rule()
    def rotate(self) -> None:
        """Make a new generation; it does not wait for who has not dropped the one before."""
        self.highest += 1
        self.running = begin(None, name="r", now=NOW, mode=Mode.MANUAL, grace=DEFAULT_GRACE, new=self.highest)
        self.generations |= {self.highest}
        self.serial += 1

    @precondition(lambda self: self.running is not None and self.all_followed)
    @rule()
    def advance(self) -> None:
        """Go to the next phase."""
        assert self.running is not None
        ended, self.running = self.running, step(self.running, self.running.next, now=NOW)
        self.serial += 1
        if self.running is None:
            if ended.phase is not Phase.ROLLBACK:
                self.active = ended.new
            self.generations = frozenset({self.active})

    @precondition(lambda self: self.running is not None and self.running.phase is not Phase.ROLLBACK)
    @rule()
    def roll_back(self) -> None:
        """From any phase, whoever has followed."""
        self.running = step(self.running, Phase.ROLLBACK, now=NOW)
        self.serial += 1

    @rule(number=st.integers(0, 3))
    def hear(self, number: int) -> None:
        """Let a member take the trust that holds now."""
        self.parties[number % len(self.parties)].trusted = self.generations

    @rule(number=st.integers(0, 3))
    def renew(self, number: int) -> None:
        """Let a member take the trust that holds now, get certificates, and say that it has followed."""
        party = self.parties[number % len(self.parties)]
        party.trusted = self.generations
        party.client = signs(self.running, self.active, Use.CLIENT)
        party.server = signs(self.running, self.active, Use.SERVER)
        party.followed = self.serial

    @invariant()
    def everybody_gets_in_everywhere(self) -> None:
        """Whatever anybody shows is signed by a key that everybody believes."""
        for shown in self.parties:
            for believing in self.parties:
                assert shown.client in believing.trusted
                assert shown.server in believing.trusted

    @invariant()
    def auth_believes_what_is_shown(self) -> None:
        """And so does auth, which knows the newest state."""
        assert all({party.client, party.server} <= self.generations for party in self.parties)


TestNobodyIsCutOff = Cluster.TestCase
TestNobodyIsCutOff.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
