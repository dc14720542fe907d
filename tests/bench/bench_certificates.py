"""How many certificates one core signs and verifies a second, by the algorithm of the authority."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import UserClaims
from runtime.pki.keys import KeyAlgorithm, generate_key
from runtime.pki.signing import random_serial, sign_user
from runtime.pki.trust import Signer, Trust
from runtime.pki.verify import verify_user

SECONDS = 1.0
"""How long each figure is measured, in seconds."""


def rate(operation: Callable[[], object]) -> float:
    """Return how often a second the operation runs, after one run that does not count."""
    operation()
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SECONDS:
        operation()
        count += 1
    return count / elapsed


def run(arguments: list[str]) -> None:
    """Print a table; the arguments are the algorithms to measure, all if there is none."""
    now = datetime.now(UTC)
    key = generate_key().public
    claims = UserClaims(user="joe", cluster="main", logins=("root", "joe"), roles=("dev",), ttl=timedelta(hours=23))
    print(f"{'certificates a second':<24}{'sign':>10}{'verify':>10}")
    for algorithm in map(KeyAlgorithm, arguments or KeyAlgorithm):
        signer = Signer(AuthorityType.USER, "main", generate_key(algorithm))
        trust = Trust([signer.public])
        line = sign_user(claims, key, signer=signer, now=now, serial=random_serial()).line
        signed = rate(partial(sign_user, claims, key, signer=signer, now=now, serial=random_serial()))
        verified = rate(partial(verify_user, line, trust, now))
        print(f"{algorithm.value:<24}{signed:>10,.0f}{verified:>10,.0f}")
