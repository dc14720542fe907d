"""What no certificate may claim."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runtime.core.errors import InvalidInput
from runtime.core.joining import JOIN_LOGIN
from runtime.pki.claims import HostClaims, MemberClaims, MemberRole, UserClaims, parse_networks

HOUR = timedelta(hours=1)
HOST_ID = "8f14e45f-ceea-467f-a8d2-0123456789ab"
USER: dict[str, Any] = {"user": "joe", "cluster": "main", "logins": ("joe",), "roles": ("dev",), "ttl": HOUR}
HOST: dict[str, Any] = {"host_id": HOST_ID, "role": MemberRole.NODE, "name": "db1", "cluster": "main", "ttl": HOUR}
MEMBER: dict[str, Any] = {"host_id": HOST_ID, "role": MemberRole.NODE, "cluster": "main", "ttl": HOUR}


@pytest.mark.parametrize(
    "changes",
    [
        {"logins": ("root", "_svc", "a.b-c_d", "x" * 32)},
        {"roles": ("user:joe", "dev")},
        {"roles": ()},
        {"ttl": timedelta(minutes=1)},
        {"ttl": timedelta(hours=30)},
        {"cluster": "0c9d2a4e-7c0c-4c3e-9f43-0f5be1b9e9a0"},
        {"force_command": "uptime -p"},
    ],
)
def test_user_may(changes: dict[str, Any]) -> None:
    """What lies just within the limits is accepted as it is."""
    claims = UserClaims(**(USER | changes))
    for name, value in changes.items():
        assert getattr(claims, name) == value


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"logins": ()}, "without principals"),
        ({"logins": ("joe,root",)}, "expected a login"),
        ({"logins": "root"}, "must be a tuple"),
        ({"logins": ["root"]}, "must be a tuple"),
        ({"logins": ("joe", "joe")}, "twice"),
        ({"logins": ("*",)}, "expected a login"),
        ({"logins": ("Joe",)}, "expected a login"),
        ({"logins": ("joe\n",)}, "expected a login"),
        ({"logins": ("j\u043ee",)}, "expected a login"),  # a Cyrillic o
        ({"logins": ("-oProxyCommand",)}, "expected a login"),
        ({"logins": ("",)}, "expected a login"),
        ({"logins": ("x" * 33,)}, "expected a login"),
        ({"logins": (None,)}, "login"),
        ({"logins": tuple(f"u{n}" for n in range(257))}, "256 is the most"),
        ({"logins": tuple(f"u{n}" for n in range(256)), "join_sessions": True}, "256 is the most"),
        ({"logins": (JOIN_LOGIN,)}, "expected a login"),
        ({"logins": (JOIN_LOGIN,), "join_sessions": True}, "expected a login"),
        ({"logins": (), "join_sessions": True}, "without principals"),
        ({"user": ""}, "user"),
        ({"user": "joe root"}, "user"),
        ({"user": "joe\0"}, "user"),
        ({"cluster": ""}, "cluster"),
        ({"cluster": "main/leaf"}, "cluster"),
        ({"cluster": "*"}, "cluster"),
        ({"roles": ("a,b",)}, "role"),
        ({"roles": "admin"}, "must be a tuple"),
        ({"ttl": timedelta(seconds=59)}, "lifetime"),
        ({"ttl": timedelta(hours=30, seconds=1)}, "lifetime"),
        ({"ttl": -HOUR}, "lifetime"),
        ({"source_addresses": "10.0.0.0/8"}, "must be a tuple"),
        ({"force_command": ""}, "forced command"),
        ({"force_command": "a\0b"}, "forced command"),
        ({"force_command": "x" * 1025}, "forced command"),
    ],
)
def test_user_may_not(changes: dict[str, Any], reason: str) -> None:
    """What is empty, joined, wild, look-alike or out of limits is refused when the claim is made."""
    with pytest.raises(InvalidInput, match=reason):
        UserClaims(**(USER | changes))


def test_host_names_are_computed() -> None:
    """A host's principals are id, name, NAME.CLUSTER, what it advertises and its role's name: lower case, each once."""
    claims = HostClaims(**(HOST | {"name": "DB1", "advertised": ("db.example.com", "db1", "10.0.0.1", "fe80::1")}))
    own = (HOST_ID, "db1", "db1.main", "db.example.com", "10.0.0.1", "fe80::1")
    assert claims.principals == (*own, "node.teleport.internal")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "auth.teleport.internal"},
        {"name": "AUTH.Teleport.internal"},
        {"advertised": ("proxy.teleport.internal",)},
        {"name": "auth", "cluster": "teleport.internal"},
        {"role": MemberRole.ADMIN},
    ],
)
def test_no_member_can_have_the_name_of_a_service(changes: dict[str, Any]) -> None:
    """What every auth server is certified as, no node can be, whatever it calls itself; and tctl serves nothing."""
    with pytest.raises(InvalidInput, match=r"reserved|serves nothing"):
        HostClaims(**(HOST | changes))


def test_host_names_are_not_given() -> None:
    """Nobody can ask for a principal."""
    with pytest.raises(TypeError):
        HostClaims(**HOST, principals=("evil",))  # type: ignore[call-arg]  # the refusal is the point


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"host_id": "db1"}, "UUID"),
        ({"host_id": HOST_ID.upper()}, "UUID"),
        ({"host_id": f"{{{HOST_ID}}}"}, "UUID"),
        ({"name": ""}, "neither a DNS name"),
        ({"name": "*"}, "neither a DNS name"),
        ({"name": "db1,db2"}, "neither a DNS name"),
        ({"name": "db1 "}, "neither a DNS name"),
        ({"name": "db1\n"}, "neither a DNS name"),
        ({"name": "-db1"}, "neither a DNS name"),
        ({"name": "\u212a1"}, "neither a DNS name"),  # the Kelvin sign, whose lower case is k
        ({"advertised": ("*.example.com",)}, "neither a DNS name"),
        ({"advertised": ("fe80::1%eth0",)}, "neither a DNS name"),
        ({"advertised": "db"}, "must be a tuple"),
        ({"advertised": tuple(f"h{n}" for n in range(254))}, "256 is the most"),
        ({"cluster": "Main"}, "cluster"),
        ({"ttl": timedelta(hours=31)}, "lifetime"),
    ],
)
def test_host_may_not(changes: dict[str, Any], reason: str) -> None:
    """A host has a UUID and plain names."""
    with pytest.raises(InvalidInput, match=reason):
        HostClaims(**(HOST | changes))


def test_member_is_named_by_role_and_id() -> None:
    """The principal of a member is longer than a login can be."""
    principal = MemberClaims(**MEMBER).principal
    assert principal == f"node.{HOST_ID}"
    with pytest.raises(InvalidInput, match="expected a login"):
        UserClaims(**(USER | {"logins": (principal,)}))


@pytest.mark.parametrize("changes", [{"role": "root"}, {"role": "node"}, {"host_id": "root"}, {"ttl": timedelta()}])
def test_member_may_not(changes: dict[str, Any]) -> None:
    """A member has one of the known roles, a UUID and a lifetime within limits."""
    with pytest.raises(InvalidInput):
        MemberClaims(**(MEMBER | changes))


def test_networks() -> None:
    """CIDR and single addresses are read; host bits, which sshd takes for a mistake, are not."""
    assert [str(network) for network in parse_networks("10.0.0.0/8,::1")] == ["10.0.0.0/8", "::1/128"]
    for bad in ("10.0.0.1/8", "", "example.com", "10.0.0.0/8, 11.0.0.0/8", "!10.0.0.0/8"):
        with pytest.raises(InvalidInput, match="list of networks"):
            parse_networks(bad)
