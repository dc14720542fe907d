"""Who may see, watch and take part in sessions: a table of roles."""

from __future__ import annotations

import pytest

from runtime.core.errors import AccessDenied
from runtime.core.joining import Mode
from runtime.core.resources import Role
from runtime.core.session_access import Owned, may_ask, may_enter, may_list, part_in
from tests.unit.core.declared import role, user

PROD = {"env": "prod"}
OF_ANN = Owned("ann", "root")
PEER, WATCH = Mode.PEER, Mode.OBSERVER


def rule(name: str, *verbs: str, side: str = "allow") -> dict[str, Role]:
    """Return a role with a rule on sessions."""
    return role(name, f"{{{side}: {{rules: [{{resources: [session], verbs: [{', '.join(verbs)}]}}]}}}}")


DECLARED: dict[str, Role] = {
    **rule("lists", "list"),
    **rule("reads", "read"),
    **rule("joins", "join"),
    **rule("any", "'*'"),
    **rule("noread", "read", side="deny"),
    **rule("nojoin", "join", side="deny"),
    **rule("nolist", "list", side="deny"),
    **role("root", "{allow: {logins: [root], nodeLabels: {env: [prod]}}}"),
    **role("noroot", "{deny: {logins: [root]}}"),
    **role("noprod", "{deny: {nodeLabels: {env: [prod]}}}"),
    **role("every", '{allow: {rules: [{resources: ["*"], verbs: [join]}]}}'),
}


@pytest.mark.parametrize(
    ("roles", "wanted", "mode"),
    [
        ("joins, root", None, PEER),
        ("joins, root", PEER, PEER),
        ("joins, root", WATCH, WATCH),  # less than one may
        ("every, root", None, PEER),
        ("any, root", None, PEER),
        ("reads", None, WATCH),
        ("reads", WATCH, WATCH),
        ("reads, noroot", None, WATCH),  # nobody becomes root by watching
        ("any", None, WATCH),  # may join, but not be root here
        ("reads, joins", None, WATCH),
        ("any, root, nojoin", None, WATCH),
    ],
)
def test_allowed(roles: str, wanted: Mode | None, mode: Mode) -> None:
    """As much as is wanted, or as much as may be."""
    joe = user(f"{{roles: [{roles}]}}")
    assert part_in(joe, DECLARED, PROD, OF_ANN, wanted) is mode
    assert may_ask(joe, DECLARED, "ann")
    assert may_enter(joe, DECLARED, PROD)


@pytest.mark.parametrize(
    ("roles", "wanted", "says"),
    [
        ("root", None, "may not watch the sessions of ann"),
        ("lists, root", None, "may not watch"),
        ("reads, root", PEER, "may not take part in the sessions of ann"),
        ("joins", None, "no role of user joe allows this node"),
        ("joins", WATCH, "may not watch"),
        ("joins, noroot, root", None, "the role noroot denies the login 'root'"),
        ("joins, root, nojoin", None, "may not watch"),
        ("reads, noread", None, "may not watch"),
        ("any, root, noread, nojoin", None, "may not watch"),
        ("reads, noprod", None, "the role noprod denies this node by its labels"),
        ("any, root, noprod", None, "the role noprod denies this node by its labels"),
        ("any, missing", None, "has the role missing, which does not exist"),
    ],
)
def test_denied(roles: str, wanted: Mode | None, says: str) -> None:
    """It is said what is missing, or which role denies it."""
    with pytest.raises(AccessDenied, match=says):
        part_in(user(f"{{roles: [{roles}]}}"), DECLARED, PROD, OF_ANN, wanted)


def test_ones_own() -> None:
    """One's own sessions need no rule; a rule that denies counts, and the login has to be one's own still."""
    own = Owned("joe", "root")
    for roles, mode in (("root", PEER), ("noroot, root", WATCH), ("root, nojoin", WATCH), ("lists", WATCH)):
        joe = user(f"{{roles: [{roles}]}}")
        assert part_in(joe, DECLARED, PROD, own, None) is mode
        assert may_list(joe, DECLARED, "joe")
    for roles in ("root, nojoin, noread", "root, noprod"):
        with pytest.raises(AccessDenied):
            part_in(user(f"{{roles: [{roles}]}}"), DECLARED, PROD, own, None)
    assert not may_list(user("{roles: [nolist, any]}"), DECLARED, "joe")


def test_seeing() -> None:
    """A list shows those of others with the verb list; who knows an id may ask with any verb that is about joining."""
    for roles, lists, asks, enters in (
        ("lists", True, True, False),
        ("reads", False, True, True),
        ("joins", False, True, True),
        ("any", True, True, True),
        ("root", False, False, False),
        ("any, nolist", False, True, True),
        ("any, noread, nojoin", True, True, False),
        ("any, noprod", True, True, False),
        ("any, missing", False, False, False),
    ):
        joe = user(f"{{roles: [{roles}]}}")
        assert may_list(joe, DECLARED, "ann") is lists, roles
        assert may_ask(joe, DECLARED, "ann") is asks, roles
        assert may_enter(joe, DECLARED, PROD) is enters, roles


def test_the_role_of_a_users_own_logins_watches() -> None:
    """`tctl users add` gives the verb read on sessions, as the manual shows it: recordings, and what becomes one."""
    joe = user("{logins: [joe]}")
    assert part_in(joe, {}, PROD, OF_ANN, None) is WATCH
    assert not may_list(joe, {}, "ann")
    with pytest.raises(AccessDenied, match="may not take part"):
        part_in(joe, {}, PROD, OF_ANN, PEER)
