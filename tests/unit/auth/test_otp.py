"""One-time passwords, against the vectors of RFC 4226 and RFC 6238."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from runtime.auth.otp import (
    HOTP_LOOK_AHEAD,
    STEP_SECONDS,
    TOTP_WINDOW,
    OneTimePassword,
    accept,
    new_seed,
    provisioning_uri,
)

SEED = base64.b32encode(b"12345678901234567890").decode()
HOTP = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
"""RFC 4226, appendix D: the codes of counters 0 to 9."""
TOTP = {
    59: "94287082",
    1111111109: "07081804",
    1111111111: "14050471",
    1234567890: "89005924",
    2000000000: "69279037",
    20000000000: "65353130",
}
"""RFC 6238, appendix B, SHA-1: eight digits, of which ours are the last six."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("counter", "code"), list(enumerate(HOTP)))
def test_hotp_vectors(counter: int, code: str) -> None:
    """Each code of RFC 4226 stands for its counter, and is refused once that counter was accepted."""
    before = OneTimePassword(type="hotp", seed=SEED, counter=counter - 1)
    assert accept(before, code, NOW) == counter
    assert accept(before.model_copy(update={"counter": counter}), code, NOW) is None


@pytest.mark.parametrize(("seconds", "code"), list(TOTP.items()))
def test_totp_vectors(seconds: int, code: str) -> None:
    """Each code of RFC 6238 is accepted at its time, as its step, and once."""
    now = datetime.fromtimestamp(seconds, UTC)
    fresh = OneTimePassword(seed=SEED)
    assert accept(fresh, code[-6:], now) == seconds // STEP_SECONDS
    assert accept(fresh.model_copy(update={"counter": seconds // STEP_SECONDS}), code[-6:], now) is None


def test_a_hotp_generator_may_be_ahead_but_not_far() -> None:
    """Codes that were made and not used are skipped, up to the look-ahead; what was skipped is over."""
    otp = OneTimePassword(type="hotp", seed=SEED, counter=-1)
    codes = pyotp.HOTP(SEED)
    assert accept(otp, codes.at(HOTP_LOOK_AHEAD), NOW) == HOTP_LOOK_AHEAD
    assert accept(otp, codes.at(HOTP_LOOK_AHEAD + 1), NOW) is None
    skipped = otp.model_copy(update={"counter": 5})
    for counter in range(6):
        assert accept(skipped, codes.at(counter), NOW) is None


@pytest.mark.parametrize("steps", range(-TOTP_WINDOW - 1, TOTP_WINDOW + 2))
def test_a_totp_clock_may_be_one_step_off(steps: int) -> None:
    """One step either way is accepted as that step, two are not."""
    code = pyotp.TOTP(SEED).at(NOW + timedelta(seconds=steps * STEP_SECONDS))
    accepted = accept(OneTimePassword(seed=SEED), code, NOW)
    expected = int(NOW.timestamp()) // STEP_SECONDS + steps
    assert accepted == (expected if abs(steps) <= TOTP_WINDOW else None)


def test_the_step_before_an_accepted_one_is_over() -> None:
    """Who used the code of a clock that is ahead cannot go back, nor can who looked over a shoulder."""
    step = int(NOW.timestamp()) // STEP_SECONDS
    used = OneTimePassword(seed=SEED, counter=step + 1)
    assert all(accept(used, pyotp.TOTP(SEED).generate_otp(step + off), NOW) is None for off in (-1, 0, 1))
    later = NOW + timedelta(seconds=2 * STEP_SECONDS)
    assert accept(used, pyotp.TOTP(SEED).at(later), later) == step + 2


@pytest.mark.parametrize("typed", ["755 224", " 755224 ", "755\t224\n"])
def test_blanks_do_not_count(typed: str) -> None:
    """Apps show codes with a gap in the middle, and people type it."""
    assert accept(OneTimePassword(type="hotp", seed=SEED), typed, NOW) == 0


@pytest.mark.parametrize(
    "typed", ["", " ", "75522", "7552244", "0755224", "-55224", "755224\x00", "٧٥٥٢٢٤", "\udcff", "x" * 100_000]
)
def test_what_is_no_code(typed: str) -> None:
    """Anything but six ASCII digits is a wrong code, and no error."""
    assert accept(OneTimePassword(type="hotp", seed=SEED), typed, NOW) is None


def test_time_before_1970_has_no_negative_steps() -> None:
    """A machine whose clock is at zero refuses or accepts, and does not fail."""
    assert accept(OneTimePassword(seed=SEED), HOTP[0], datetime.fromtimestamp(0, UTC)) == 0


def test_seeds_are_long_and_new() -> None:
    """160 random bits (RFC 4226 §4 R6)."""
    seeds = {new_seed() for _ in range(10)}
    assert len(seeds) == 10
    assert {len(base64.b32decode(seed)) for seed in seeds} == {20}


@pytest.mark.parametrize("kind", ["totp", "hotp"])
def test_the_uri_makes_the_same_generator(kind: str) -> None:
    """An app that reads the QR code shows what `accept` takes; names with blanks and signs arrive as they are."""
    otp = OneTimePassword.model_validate({"type": kind, "seed": SEED, "counter": 4 if kind == "hotp" else -1})
    app = pyotp.parse_uri(provisioning_uri(otp, user="joe+x", issuer="Teleport main & more"))
    assert (app.name, app.issuer, app.secret) == ("joe+x", "Teleport main & more", SEED)
    if isinstance(app, pyotp.HOTP):
        assert accept(otp, app.at(0), NOW) == 5
    else:
        assert isinstance(app, pyotp.TOTP)
        assert accept(otp, app.at(NOW), NOW) == int(NOW.timestamp()) // STEP_SECONDS


def test_no_seed_is_shown() -> None:
    """Neither repr nor text has the seed in it."""
    assert SEED not in repr(OneTimePassword(seed=SEED)) + str(OneTimePassword(seed=SEED))
