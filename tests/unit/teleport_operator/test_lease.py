"""Who may take a Lease and what is then written; tests/e2e/test_operator.py has real replicas on a real API server."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from teleport_operator.kubernetes.lease import (
    FENCE_SECONDS,
    GIVE_UP_SECONDS,
    LEASE_SECONDS,
    RENEW_SECONDS,
    REQUEST_SECONDS,
    Move,
    Seen,
    held,
    next_move,
)

NOW = "2026-01-02T03:04:05.000000Z"


def lease(**spec: object) -> dict[str, object]:
    """Return a Lease as the API server has it."""
    return {"metadata": {"resourceVersion": "7"}, "spec": spec}


@pytest.mark.parametrize(
    ("seen", "now", "move"),
    [
        (None, 0.0, Move.CREATE),
        (Seen(lease(), 100.0), 100.0, Move.TAKE),
        (Seen(lease(holderIdentity="", leaseDurationSeconds=1), 100.0), 100.0, Move.TAKE),
        (Seen(lease(holderIdentity="me", leaseDurationSeconds=15), 100.0), 100.0, Move.TAKE),
        (Seen(lease(holderIdentity="you", leaseDurationSeconds=15), 100.0), 114.9, Move.WAIT),
        (Seen(lease(holderIdentity="you", leaseDurationSeconds=15), 100.0), 115.0, Move.TAKE),
        (Seen(lease(holderIdentity="you", leaseDurationSeconds=60), 100.0), 159.0, Move.WAIT),
        (Seen(lease(holderIdentity="you"), 100.0), 100.0 + LEASE_SECONDS - 1, Move.WAIT),
        (Seen(lease(holderIdentity="you", renewTime="1970-01-01T00:00:00.000000Z"), 100.0), 101.0, Move.WAIT),
    ],
)
def test_who_may_take_it(seen: Seen | None, now: float, move: Move) -> None:
    """What nobody holds is free, what another holds when it was not renewed for as long as it says."""
    assert next_move(seen, "me", now) is move


def test_taking_and_renewing() -> None:
    """A new holder counts one transition more; renewing moves the time of renewal alone."""
    assert held(None, "me", NOW) == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": NOW,
        "renewTime": NOW,
        "leaseTransitions": 0,
    }
    taken = held(Seen(lease(holderIdentity="you", acquireTime="then", leaseTransitions=3), 0), "me", NOW)
    assert (taken["holderIdentity"], taken["acquireTime"], taken["leaseTransitions"]) == ("me", NOW, 4)
    renewed = held(Seen(lease(**{**taken, "acquireTime": "then"}), 0), "me", NOW)
    assert (renewed["acquireTime"], renewed["renewTime"], renewed["leaseTransitions"]) == ("then", NOW, 4)


def test_the_times_leave_no_gap() -> None:
    """A holder gives up, and is ended by the kernel, before anybody else may take the Lease."""
    assert GIVE_UP_SECONDS < FENCE_SECONDS < LEASE_SECONDS
    assert 2 * (RENEW_SECONDS + REQUEST_SECONDS) <= GIVE_UP_SECONDS
    assert LEASE_SECONDS + RENEW_SECONDS + REQUEST_SECONDS < 30  # the longest takeover


def test_the_kernel_ends_a_process_that_hangs() -> None:
    """What no longer renews ends by SIGALRM though it does nothing, and what is disarmed in time lives."""
    made = "from teleport_operator.kubernetes.lease import arm, disarm; import signal; "
    script = made + "arm({}); {}signal.sigtimedwait([], 3)"
    hanging = subprocess.run([sys.executable, "-c", script.format(0.2, "")], timeout=30, check=False, cwd="operator")
    assert hanging.returncode == -signal.SIGALRM
    saved = subprocess.run(
        [sys.executable, "-c", script.format(5, "disarm(); ").replace(", 3)", ", 0.5)")],
        timeout=30,
        check=False,
        cwd="operator",
    )
    assert saved.returncode == 0
