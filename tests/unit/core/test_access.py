"""Access decisions: pure functions of users and roles."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runtime.core.access import rights, roles_of, still_the_same, user_role
from runtime.core.defaults import CERTIFICATE_TTL
from runtime.core.errors import AccessDenied
from tests.unit.core.declared import role, user


def test_a_certificate_is_one_persons() -> None:
    """Of two users with one name each has its own; one that names nobody goes by the name, as earlier versions' do."""
    joe = user("{logins: [joe]}").with_id("a" * 32)
    assert still_the_same(joe, "a" * 32) == joe
    assert still_the_same(joe, "") == joe
    with pytest.raises(AccessDenied, match="issued to who was user joe before") as caught:
        still_the_same(joe, "b" * 32)
    assert "tsh login" in caught.value.hint
    with pytest.raises(AccessDenied):
        still_the_same(user("{logins: [joe]}"), "a" * 32)


def test_the_role_of_a_users_own_logins() -> None:
    """It allows all nodes, forwards, and may read what the manual's table says."""
    own = user_role(user("{logins: [joe, root]}"))
    assert own is not None
    assert own.name == "user:joe"
    assert own.spec.allow.logins == ("joe", "root")
    assert own.spec.allow.node_labels == {"*": ("*",)}
    (rule,) = own.spec.allow.rules
    assert [str(resource) for resource in rule.resources] == [
        "auth_server",
        "cert_authority",
        "node",
        "role",
        "session",
        "tunnel",
    ]
    assert [str(verb) for verb in rule.verbs] == ["read"]


def test_without_logins_there_is_no_own_role() -> None:
    """A user of declared roles only has those and no other."""
    joe = user("{roles: [dev]}")
    assert user_role(joe) is None
    assert [each.name for each in roles_of(joe, role("dev", "{}"))] == ["dev"]


def test_a_missing_role_is_no_smaller_right() -> None:
    """A role that does not exist may be the one that denies: nothing is allowed without it."""
    joe = user("{logins: [joe], roles: [dev, gone]}")
    for decide in (roles_of, rights):
        with pytest.raises(AccessDenied, match="has the role gone, which does not exist") as caught:
            decide(joe, role("dev", "{}"))
        assert "gone" in caught.value.hint


def test_logins_add_up_and_a_denial_wins() -> None:
    """Logins of all roles are joined and sorted; what one role denies is denied, also of the user's own."""
    declared = role("dev", "{allow: {logins: [dev, app]}}") | role("safe", "{deny: {logins: [root, app]}}")
    found = rights(user("{logins: [root, joe], roles: [dev, safe]}"), declared)
    assert found.logins == ("dev", "joe")
    assert found.roles == ("user:joe", "dev", "safe")


@pytest.mark.parametrize("spec", ["{}", "{allow: {nodeLabels: {'*': ['*']}}}", "{deny: {logins: [joe]}}"])
def test_no_login_is_no_certificate(spec: str) -> None:
    """A user whom no role allows a login gets nothing: never a certificate without principals."""
    with pytest.raises(AccessDenied, match="no role of user joe allows a login"):
        rights(user("{roles: [dev]}"), role("dev", spec))


@pytest.mark.parametrize(
    ("first", "second", "ttl", "agent", "ports"),
    [
        ("{}", "{}", CERTIFICATE_TTL, False, False),
        (
            "{maxSessionTTL: 8h, forwardAgent: true}",
            "{maxSessionTTL: 2h, forwardAgent: true}",
            timedelta(hours=2),
            True,
            False,
        ),
        ("{maxSessionTTL: 30h, portForwarding: true}", "{portForwarding: true}", CERTIFICATE_TTL, False, True),
        ("{forwardAgent: true}", "{forwardAgent: false}", CERTIFICATE_TTL, False, False),
    ],
)
def test_of_options_the_strictest_counts(first: str, second: str, ttl: timedelta, *, agent: bool, ports: bool) -> None:
    """The shortest life, and forwarding only where every role has it; in either order of the roles."""
    declared = role("a", f"{{allow: {{logins: [x]}}, options: {first}}}") | role("b", f"{{options: {second}}}")
    for order in ("[a, b]", "[b, a]"):
        found = rights(user(f"{{roles: {order}}}"), declared)
        assert (found.max_ttl, found.forward_agent, found.port_forwarding) == (ttl, agent, ports)


def test_the_own_role_gives_no_more_than_others_allow() -> None:
    """A further role's options hold for the user's own logins too."""
    declared = role("strict", "{options: {maxSessionTTL: 1h}}")
    alone = rights(user("{logins: [joe]}"), {})
    assert (alone.max_ttl, alone.forward_agent, alone.port_forwarding) == (CERTIFICATE_TTL, True, True)
    found = rights(user("{logins: [joe], roles: [strict]}"), declared)
    assert (found.max_ttl, found.forward_agent, found.port_forwarding) == (timedelta(hours=1), False, False)
