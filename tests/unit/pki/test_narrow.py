"""A reissued certificate is never wider than the one that was presented."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.errors import AccessDenied
from runtime.pki.claims import UserClaims, parse_networks
from runtime.pki.narrow import narrow, within
from runtime.pki.signing import sign_user
from runtime.pki.verify import verify_user
from tests.unit.pki.test_signing import HOUR, KEY, NOW, TRUST, USER, USER_CA

NETWORKS = [parse_networks(text)[0] for text in ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "192.168.0.0/16", "fd00::/8")]


def subset(values: list[Any], *, smallest: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return some of the values, each once, in any order."""
    return st.lists(st.sampled_from(values), unique=True, min_size=smallest).map(tuple)


claims = st.builds(
    UserClaims,
    user=st.just("joe"),
    cluster=st.just("main"),
    logins=subset(["a", "b", "c"], smallest=1),
    roles=subset(["x", "y", "z"]),
    ttl=st.timedeltas(min_value=timedelta(minutes=1), max_value=timedelta(hours=30)),
    permit_pty=st.booleans(),
    permit_port_forwarding=st.booleans(),
    permit_agent_forwarding=st.booleans(),
    join_sessions=st.booleans(),
    source_addresses=subset(NETWORKS),
    force_command=st.sampled_from([None, "uptime", "id"]),
)


@given(claims, claims, st.timedeltas(min_value=timedelta(), max_value=timedelta(hours=31)))
def test_never_wider(first: UserClaims, asked: UserClaims, later: timedelta) -> None:
    """Whatever was presented and is asked for, what comes out grants nothing that the presented did not, nor longer."""
    presented = verify_user(sign_user(first, KEY, signer=USER_CA, now=NOW, serial=1).line, TRUST, NOW)
    now = NOW + later
    try:
        reissued = sign_user(narrow(presented, asked, now), KEY, signer=USER_CA, now=now, serial=2)
    except AccessDenied:
        return
    identity = verify_user(reissued.line, TRUST, now)
    for wider in (first, asked):
        assert set(identity.logins) <= set(wider.logins)
        assert set(identity.roles) <= set(wider.roles)
        assert identity.permit_pty <= wider.permit_pty
        assert identity.permit_port_forwarding <= wider.permit_port_forwarding
        assert identity.permit_agent_forwarding <= wider.permit_agent_forwarding
        assert identity.join_sessions <= wider.join_sessions
        assert wider.force_command in (None, identity.force_command)
        if wider.source_addresses:
            assert identity.source_addresses
            for network in identity.source_addresses:
                assert any(within(network, outer) for outer in wider.source_addresses)
    assert identity.proof.valid_before <= presented.proof.valid_before


PRESENTED = verify_user(sign_user(USER, KEY, signer=USER_CA, now=NOW, serial=1).line, TRUST, NOW)


def test_what_is_asked_for_within_the_presented_is_granted() -> None:
    """Claims that are narrower already come out as they are."""
    asked = replace(USER, logins=("joe",), roles=(), ttl=timedelta(minutes=5), permit_pty=False)
    assert narrow(PRESENTED, asked, NOW) == asked


def test_restrictions_of_the_presented_are_kept() -> None:
    """A forced command and networks that are not asked for again stay."""
    restricted = replace(PRESENTED, force_command="uptime", source_addresses=(NETWORKS[0],))
    reissued = narrow(restricted, USER, NOW)
    assert (reissued.force_command, reissued.source_addresses) == ("uptime", (NETWORKS[0],))


def test_the_end_stays() -> None:
    """Half an hour before its end, a certificate is reissued for half an hour."""
    reissued = narrow(PRESENTED, replace(USER, ttl=2 * HOUR), PRESENTED.proof.valid_before - HOUR / 2)
    assert reissued.ttl == HOUR / 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user": "eve"}, "cannot be reissued to eve"),
        ({"cluster": "leaf"}, "cannot be reissued to joe in leaf"),
        ({"logins": ("admin",)}, "none of the logins"),
        ({"source_addresses": (NETWORKS[3],)}, "none of the networks"),
        ({"force_command": "id"}, "forces another command"),
    ],
)
def test_nothing_in_common(changes: dict[str, Any], reason: str) -> None:
    """Where nothing would be left, the refusal says of what."""
    restricted = replace(PRESENTED, force_command="uptime", source_addresses=(NETWORKS[0],))
    with pytest.raises(AccessDenied, match=reason):
        narrow(restricted, replace(USER, **changes), NOW)


def test_too_late() -> None:
    """With less than a minute to go, or past its end, there is nothing to reissue."""
    for left in (timedelta(seconds=59), timedelta(), -HOUR):
        with pytest.raises(AccessDenied, match="expires too soon"):
            narrow(PRESENTED, USER, PRESENTED.proof.valid_before - left)
