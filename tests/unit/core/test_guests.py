"""People of trusted clusters: what a mapping makes of them, by a table; by default nothing."""

from __future__ import annotations

import pytest

from runtime.core.access import access_to_node, may, rights, sight
from runtime.core.errors import AccessDenied
from runtime.core.guests import Welcome, authority_role, guest, guest_name, mapped_roles
from runtime.core.resources import Role, RuleResource, Verb, load_documents
from runtime.core.session_access import may_enter
from tests.unit.core.declared import role, user

OPS = role("ops", "{allow: {logins: [root, ops], nodeLabels: {env: [prod]}}}")
DEV = role("dev", "{allow: {logins: [dev], nodeLabels: {'*': ['*']}}}")
STRICT = role("strict", "{allow: {logins: [dev], nodeLabels: {'*': ['*']}}, deny: {logins: [root]}}")
DECLARED: dict[str, Role] = {**OPS, **DEV, **STRICT}
PROD, TEST = {"env": "prod"}, {"env": "test"}


@pytest.mark.parametrize(
    ("role_map", "allow_logins", "remote", "labels", "login", "allowed"),
    [
        # nothing is mapped
        ((), (), ("admin", "user:john"), PROD, "john", False),
        # allowLogins: every node, these logins and no other
        ((), ("john",), (), PROD, "john", True),
        ((), ("john",), (), TEST, "john", True),
        ((), ("john",), (), PROD, "root", False),
        ((), ("john",), ("ops",), PROD, "ops", False),
        # roleMap: the local role's logins and nodes
        ((("admin", ("ops",)),), (), ("admin",), PROD, "ops", True),
        ((("admin", ("ops",)),), (), ("admin",), TEST, "ops", False),
        ((("admin", ("ops",)),), (), ("admin",), PROD, "dev", False),
        # roles that are not mapped are ignored, also one that is called as a local one
        ((("admin", ("ops",)),), (), ("ops", "dev"), PROD, "ops", False),
        ((("admin", ("ops",)),), (), ("ops", "admin"), PROD, "ops", True),
        # `user:NAME` of the root is no role here, and no mapping names it
        ((("admin", ("ops",)),), (), ("user:admin",), PROD, "ops", False),
        # one to several, several to one
        ((("admin", ("ops", "dev")),), (), ("admin",), TEST, "dev", True),
        ((("a", ("ops",)), ("b", ("ops",))), (), ("b",), PROD, "root", True),
        # both ways together; a role that denies wins over allowLogins
        ((("admin", ("ops",)),), ("john",), ("admin",), TEST, "john", True),
        ((("admin", ("strict",)),), ("root",), ("admin",), PROD, "root", False),
        # a mapping to a role that does not exist may be the one that denies
        ((("admin", ("gone",)),), ("john",), ("admin",), PROD, "john", False),
        ((("admin", ("gone",)),), ("john",), ("other",), PROD, "john", True),
        # `*` is no wildcard
        ((("*", ("ops",)),), (), ("admin",), PROD, "ops", False),
    ],
)
def test_what_a_mapping_allows(
    role_map: tuple[tuple[str, tuple[str, ...]], ...],
    allow_logins: tuple[str, ...],
    remote: tuple[str, ...],
    labels: dict[str, str],
    login: str,
    allowed: bool,
) -> None:
    """Each row: a mapping, the roles in the certificate, a node and a login, and whether that may be."""
    welcome = Welcome("main", role_map, allow_logins)

    def decide() -> str:
        john, roles = guest("john", remote, welcome, DECLARED)
        return access_to_node(john, roles, labels, login).login

    if allowed:
        assert decide() == login
        john, roles = guest("john", remote, welcome, DECLARED)
        assert sight(john, roles)(labels)
    else:
        with pytest.raises(AccessDenied):
            decide()


def test_a_guest_is_nobody_of_this_cluster() -> None:
    """John of main gets nothing of the local john, his own role least of all; no document can have his name."""
    local = user("{logins: [root]}")
    assert local.name == "joe"
    john, roles = guest("joe", ("user:joe",), Welcome("main", (), ("guest",)), {**DECLARED})
    assert john.name == guest_name("joe", "main") == "joe@main"
    assert john.spec.logins == ()
    assert rights(john, roles).logins == ("guest",)
    assert rights(john, roles).roles == ("ca:main",)
    with pytest.raises(AccessDenied, match="no role of user joe@main allows login 'root'"):
        access_to_node(john, roles, PROD, "root")
    with pytest.raises(Exception, match="a name"):
        load_documents(
            "{apiVersion: teleport.internal/v1, kind: User, metadata: {name: joe@main}, spec: {logins: [joe]}}",
            source="test",
        )


def test_without_a_mapping_there_is_no_guest() -> None:
    """Nobody who is not mapped reads anything either: not nodes, not sessions, not recordings."""
    for welcome in (Welcome("main"), Welcome("main", (("admin", ("ops",)),))):
        with pytest.raises(AccessDenied, match="nothing here is for john@main") as caught:
            guest("john", ("dev",), welcome, DECLARED)
        assert "roleMap or allowLogins" in caught.value.hint
    assert "dev" in str(caught.value)


def test_what_allowed_logins_may_read() -> None:
    """The role ca:NAME reads what the manual's table says; a mapped role only what its own rules say."""
    john, roles = guest("john", (), Welcome("main", (), ("john",)), DECLARED)
    assert may(john, roles, RuleResource.SESSION, Verb.READ)
    assert not may(john, roles, RuleResource.ROLE, Verb.READ)
    assert not may(john, roles, RuleResource.SESSION, Verb.JOIN)
    mapped, roles = guest("john", ("admin",), Welcome("main", (("admin", ("ops",)),)), DECLARED)
    assert not may(mapped, roles, RuleResource.SESSION, Verb.READ)
    assert not may_enter(mapped, roles, PROD)


def test_a_missing_local_role_is_named() -> None:
    """The refusal names the role that an administrator has to create."""
    john, roles = guest("john", ("admin",), Welcome("main", (("admin", ("gone",)),)), DECLARED)
    assert not sight(john, roles)(PROD)
    with pytest.raises(AccessDenied, match="user john@main has the role gone, which does not exist"):
        rights(john, roles)


def test_the_role_of_a_cluster() -> None:
    """It allows all nodes and the logins, and reads what the manual shows."""
    own = authority_role("cluster-b", ("root", "jsmith"))
    assert own.name == "ca:cluster-b"
    assert own.spec.allow.logins == ("root", "jsmith")
    assert own.spec.allow.node_labels == {"*": ("*",)}
    (rule,) = own.spec.allow.rules
    assert {str(each) for each in rule.resources} == {"node", "session", "tunnel", "auth_server", "cert_authority"}


def test_mapped_roles_are_there_once() -> None:
    """In the order of the mapping, whatever the order in the certificate."""
    welcome = Welcome("main", (("a", ("one", "two")), ("b", ("two", "three"))))
    assert mapped_roles(welcome, ("b", "a", "c")) == ("one", "two", "three")
