"""Who may be on a node as which login: a table of roles, and the node's labels."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runtime.core.access import access_to_node, may, sight
from runtime.core.errors import AccessDenied
from runtime.core.resources import Role, RuleResource, Verb
from tests.unit.core.declared import role, user

PROD = {"env": "prod", "team": "db"}
TEST = {"env": "test"}

DEV = role("dev", "{allow: {logins: [dev], nodeLabels: {env: [test, staging]}}}")
ALL = role("all", '{allow: {logins: [ops], nodeLabels: {"*": ["*"]}}}')
ANY_TEAM = role("team", '{allow: {logins: [ops], nodeLabels: {team: ["*"]}}}')
BOTH = role("both", "{allow: {logins: [ops], nodeLabels: {env: [prod], team: [db]}}}")
NO_PROD = role("noprod", "{deny: {nodeLabels: {env: [prod]}}}")
NO_ROOT = role("noroot", "{deny: {logins: [root]}}")
LOGINS_ONLY = role("logins", "{allow: {logins: [dev]}}")


@pytest.mark.parametrize(
    ("spec", "declared", "labels", "login"),
    [
        ("{logins: [joe]}", {}, {}, "joe"),  # tctl users add: every node
        ("{roles: [dev]}", DEV, TEST, "dev"),
        ("{roles: [all]}", ALL, {}, "ops"),
        ("{roles: [team]}", ANY_TEAM, PROD, "ops"),
        ("{roles: [both]}", BOTH, PROD, "ops"),
        ("{logins: [joe], roles: [noprod]}", NO_PROD, TEST, "joe"),
        ("{logins: [joe, root], roles: [noroot]}", NO_ROOT, PROD, "joe"),
        ("{roles: [dev, team]}", DEV | ANY_TEAM, {**TEST, "team": "web"}, "ops"),
    ],
)
def test_allowed(spec: str, declared: dict[str, Role], labels: dict[str, str], login: str) -> None:
    """A role that names the login reaches the node by its labels, and none denies."""
    joe = user(spec)
    grant = access_to_node(joe, declared, labels, login)
    assert grant.login == login
    assert sight(joe, declared)(labels)


@pytest.mark.parametrize(
    ("spec", "declared", "labels", "login", "message"),
    [
        ("{logins: [joe]}", {}, {}, "root", "no role of user joe allows login 'root'"),
        ("{roles: [dev]}", DEV, PROD, "dev", "no role of user joe allows this node"),
        ("{roles: [dev]}", DEV, {}, "dev", "no role of user joe allows this node"),
        ("{roles: [dev]}", DEV, TEST, "root", "allows login 'root'"),
        ("{roles: [both]}", BOTH, {"env": "prod"}, "ops", "allows this node"),
        ("{roles: [team]}", ANY_TEAM, TEST, "ops", "allows this node"),
        ("{roles: [logins]}", LOGINS_ONLY, TEST, "dev", "allows this node"),
        ("{logins: [joe], roles: [noprod]}", NO_PROD, PROD, "joe", "noprod denies this node"),
        ("{logins: [joe, root], roles: [noroot]}", NO_ROOT, TEST, "root", "noroot denies the login"),
        # A login of one role is no login on the nodes of another.
        ("{roles: [dev, all]}", DEV | ALL, PROD, "dev", "allows login 'dev'"),
        ("{logins: [joe], roles: [gone]}", {}, TEST, "joe", "has the role gone, which does not exist"),
    ],
)
def test_refused(spec: str, declared: dict[str, Role], labels: dict[str, str], login: str, message: str) -> None:
    """What no role allows, or one denies, is refused in words that say which."""
    with pytest.raises(AccessDenied, match=message):
        access_to_node(user(spec), declared, labels, login)


@pytest.mark.parametrize(
    ("spec", "declared", "labels"),
    [
        ("{roles: [dev]}", DEV, PROD),
        ("{logins: [joe], roles: [noprod]}", NO_PROD, PROD),
        ("{logins: [root], roles: [noroot]}", NO_ROOT, TEST),
        ("{logins: [joe], roles: [gone]}", {}, TEST),
        ("{roles: [logins]}", LOGINS_ONLY, TEST),
    ],
)
def test_unseen(spec: str, declared: dict[str, Role], labels: dict[str, str]) -> None:
    """A node on which a user can have no login is not there for this user."""
    assert not sight(user(spec), declared)(labels)


def test_the_strictest_option_of_all_roles_counts() -> None:
    """Also of a role that does not reach the node: a limit is a limit."""
    strict = role(
        "strict",
        "{options: {forwardAgent: false, portForwarding: true, fileCopy: false, maxSessions: 2, idleTimeout: 30m}}",
    )
    looser = role("looser", "{options: {portForwarding: true, idleTimeout: 1h}}")
    grant = access_to_node(user("{logins: [joe], roles: [strict, looser]}"), strict | looser, {}, "joe")
    assert (grant.forward_agent, grant.port_forwarding, grant.file_copy) == (False, True, False)
    assert (grant.max_sessions, grant.idle_timeout) == (2, timedelta(minutes=30))
    own = access_to_node(user("{logins: [joe]}"), {}, {}, "joe")
    assert (own.forward_agent, own.port_forwarding, own.file_copy, own.idle_timeout) == (True, True, True, None)
    assert own.roles == ("user:joe",)


RULES = role(
    "rules", "{allow: {rules: [{resources: [session], verbs: [list, read]}, {resources: [event], verbs: ['*']}]}}"
)
EVERYTHING = role("everything", "{allow: {rules: [{resources: ['*'], verbs: ['*']}]}}")
NO_READING = role("noreading", "{deny: {rules: [{resources: [session], verbs: [read]}]}}")


@pytest.mark.parametrize(
    ("roles", "declared", "resource", "verb", "allowed"),
    [
        ("[rules]", RULES, RuleResource.SESSION, Verb.READ, True),
        ("[rules]", RULES, RuleResource.SESSION, Verb.JOIN, False),
        ("[rules]", RULES, RuleResource.EVENT, Verb.JOIN, True),
        ("[rules]", RULES, RuleResource.NODE, Verb.READ, False),
        ("[everything]", EVERYTHING, RuleResource.NODE, Verb.DELETE, True),
        ("[everything, noreading]", EVERYTHING | NO_READING, RuleResource.SESSION, Verb.READ, False),
        ("[everything, noreading]", EVERYTHING | NO_READING, RuleResource.SESSION, Verb.JOIN, True),
        ("[everything, gone]", EVERYTHING, RuleResource.SESSION, Verb.READ, False),
    ],
)
def test_rules(roles: str, declared: dict[str, Role], resource: RuleResource, verb: Verb, *, allowed: bool) -> None:
    """A rule allows verbs on resources, `*` being any; one that denies wins; a missing role allows nothing."""
    assert may(user(f"{{roles: {roles}}}"), declared, resource, verb) is allowed
