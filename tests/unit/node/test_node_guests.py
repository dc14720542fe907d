"""People of a trusted cluster on a node: the leaf's own mapping decides, on every question and at every moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from runtime.api.trust_messages import RoleMapping, TrustedPeer
from runtime.core.errors import AccessDenied
from runtime.core.joining import JOIN_LOGIN, Mode
from runtime.core.resources.authority import AuthorityType
from runtime.core.session_access import Owned
from runtime.pki.claims import MemberClaims, MemberRole
from runtime.pki.keys import generate_key
from runtime.pki.signing import sign_member
from runtime.pki.trust import Signer
from tests.unit.node.guarded import HERE, HOST_ID, KEY, NOW, USERS, World, certificate

ROOT_USERS = Signer(AuthorityType.USER, "root", generate_key())
ROOT_HOSTS = Signer(AuthorityType.HOST, "root", generate_key())


class Leaf(World):
    """The node of a cluster that trusts the cluster `root`; `clusters` is what the test makes of that."""

    def __init__(self) -> None:
        super().__init__()
        self.people.role("ops", allow={"logins": ["ops", "root"], "nodeLabels": {"env": ["prod"]}})
        self.trusts(allow_logins=("john",))

    def trusts(self, *, allow_logins: tuple[str, ...] = (), **role_map: tuple[str, ...]) -> None:
        """Trust the root, and map its people so from now on."""
        peer = TrustedPeer(
            cluster="root",
            tunnel_addr="127.0.0.1:3024",
            user_keys=(ROOT_USERS.public.key.line,),
            host_keys=(ROOT_HOSTS.public.key.line,),
            allow_logins=allow_logins,
            role_map=tuple(RoleMapping(remote=remote, local=local) for remote, local in role_map.items()),
        )
        self.clusters = {"root": peer}


def of_root(*logins: str, roles: tuple[str, ...] = (), user: str = "john", **claims: object) -> bytes:
    """Return a certificate of the root."""
    return certificate(ROOT_USERS, user=user, cluster="root", logins=logins, roles=roles, **claims)


@pytest.fixture
def leaf() -> Leaf:
    """Return a node where john of root may be john."""
    return Leaf()


def test_a_guest_gets_in_by_the_mapping_and_under_another_name(leaf: Leaf) -> None:
    """John of root is john@root here, whatever is audited and recorded of him."""
    identity = leaf.access.validate("john", of_root("john", "root"), HERE)
    assert (identity.user, identity.cluster) == ("john@root", "root")
    assert leaf.access.authorise(identity, "john").roles == ("ca:root",)
    with pytest.raises(AccessDenied, match="no role of user john@root allows login 'root' on this node"):
        leaf.access.authorise(identity, "root")


def test_a_login_must_stand_in_the_certificate_too(leaf: Leaf) -> None:
    """The leaf's mapping widens nothing that the root gave (manual: log in again to be issued the login)."""
    with pytest.raises(AccessDenied, match="is for root, not for 'john'"):
        leaf.access.validate("john", of_root("root"), HERE)


def test_who_is_called_as_a_local_user_gets_nothing_of_it(leaf: Leaf) -> None:
    """Joe of root is not joe: neither the local joe's logins, nor his role user:joe, nor his sessions."""
    with pytest.raises(AccessDenied, match="no role of user joe@root allows login 'joe'"):
        leaf.access.validate("joe", of_root("joe", "root", user="joe", roles=("user:joe", "ops")), HERE)
    leaf.people.role("watching", allow={"nodeLabels": {"*": ["*"]}})
    leaf.trusts(dev=("watching",))
    guest = leaf.access.validate(JOIN_LOGIN, of_root("joe", user="joe", roles=("dev",), join_sessions=True), HERE)
    with pytest.raises(AccessDenied, match="user joe@root may not watch the sessions of joe"):
        leaf.access.part_in(guest, Owned("joe", "joe"), Mode.OBSERVER)


def test_roles_of_the_root_are_ignored_unless_mapped(leaf: Leaf) -> None:
    """A role of the same name as a local one is nothing; a mapped one is the local role, on its nodes only."""
    leaf.trusts(admin=("ops",))
    with pytest.raises(AccessDenied, match="nothing here is for john@root"):
        leaf.access.validate("ops", of_root("ops", roles=("ops",)), HERE)
    identity = leaf.access.validate("ops", of_root("ops", roles=("admin",)), HERE)
    leaf.labels = {"env": "test"}
    with pytest.raises(AccessDenied, match="no role of user john@root allows this node"):
        leaf.access.authorise(identity, "ops")


def test_edits_hold_at_the_next_question(leaf: Leaf) -> None:
    """On a connection that is open: logins given, logins taken, trust ended."""
    identity = leaf.access.validate("john", of_root("john", "root"), HERE)
    leaf.trusts(allow_logins=("john", "root"))
    assert leaf.access.authorise(identity, "root").login == "root"
    leaf.trusts()
    with pytest.raises(AccessDenied, match="nothing here is for john@root"):
        leaf.access.authorise(identity, "john")
    leaf.clusters = {}
    with pytest.raises(AccessDenied, match="cluster root is not trusted here any more"):
        leaf.access.authorise(identity, "john")
    with pytest.raises(AccessDenied, match="signed by a CA that is not trusted here"):
        leaf.access.validate("john", of_root("john"), HERE)


def test_another_ca_of_the_root_ends_who_came_by_the_old_one(leaf: Leaf) -> None:
    """The authority that signed must still be one that is trusted."""
    identity = leaf.access.validate("john", of_root("john"), HERE)
    fresh = generate_key().public.line
    leaf.clusters = {"root": leaf.clusters["root"].model_copy(update={"user_keys": (fresh,)})}
    with pytest.raises(AccessDenied, match="is not trusted any more"):
        leaf.access.authorise(identity, "john")


def test_a_certificate_ends(leaf: Leaf) -> None:
    """A guest's like everybody's."""
    identity = leaf.access.validate("john", of_root("john"), HERE)
    leaf.now = NOW + timedelta(hours=2)
    with pytest.raises(AccessDenied, match="expired"):
        leaf.access.authorise(identity, "john")


@pytest.mark.parametrize("cluster", ["main", "other"])
def test_a_root_speaks_for_nobody_but_its_own(leaf: Leaf, cluster: str) -> None:
    """Its user CA cannot sign somebody into this cluster, or for a third one: a certificate's cluster is its CA's."""
    forger = replace(ROOT_USERS, cluster=cluster)
    line = certificate(forger, user="joe", cluster=cluster, logins=("joe", "root"), roles=("user:joe",))
    with pytest.raises(AccessDenied, match=f"the user CA of cluster root cannot speak for cluster '{cluster}'"):
        leaf.access.validate("root", line, HERE)


def test_a_roots_host_ca_signs_no_users(leaf: Leaf) -> None:
    """Its proxies and nodes are nobody on a node, and its host CA makes no user."""
    forger = replace(ROOT_HOSTS, type=AuthorityType.USER)
    line = certificate(forger, user="john", cluster="root", logins=("john",))
    with pytest.raises(AccessDenied, match="not trusted here"):
        leaf.access.validate("john", line, HERE)
    claims = MemberClaims(host_id=HOST_ID, role=MemberRole.PROXY, cluster="root", ttl=timedelta(hours=1))
    member = sign_member(claims, KEY.public, signer=ROOT_HOSTS, now=NOW, serial=1).line
    with pytest.raises(AccessDenied, match="not trusted here"):
        leaf.access.validate(f"proxy.{HOST_ID}", member, HERE)


def test_a_peer_that_calls_itself_as_this_cluster_is_none(leaf: Leaf) -> None:
    """Whatever auth tells: nobody else's keys are ever those of this cluster."""
    peer = leaf.clusters["root"].model_copy(update={"cluster": "main"})
    leaf.clusters = {"main": peer}
    forger = replace(ROOT_USERS, cluster="main")
    line = certificate(forger, user="joe", cluster="main", logins=("joe", "root"), roles=("user:joe",))
    with pytest.raises(AccessDenied, match="not trusted here"):
        leaf.access.validate("root", line, HERE)


def test_our_own_key_as_anothers_changes_nothing(leaf: Leaf) -> None:
    """A peer that shows our user CA as its own gets neither our users nor a word in for them."""
    leaf.clusters = {"root": leaf.clusters["root"].model_copy(update={"user_keys": (USERS.public.key.line,)})}
    assert leaf.identity().user == "joe"
    forged = certificate(replace(USERS, cluster="root"), user="john", cluster="root", logins=("john",))
    with pytest.raises(AccessDenied, match="cannot speak for cluster 'root'"):
        leaf.access.validate("john", forged, HERE)


def test_two_roots_with_one_key_are_none(leaf: Leaf) -> None:
    """Then none could be told from the other; a third one is not shut out by that."""
    third = Signer(AuthorityType.USER, "third", generate_key())
    peer = leaf.clusters["root"]
    leaf.clusters = {
        "root": peer,
        "twin": peer.model_copy(update={"cluster": "twin"}),
        "third": peer.model_copy(update={"cluster": "third", "user_keys": (third.public.key.line,)}),
    }
    with pytest.raises(AccessDenied, match="not trusted here"):
        leaf.access.validate("john", of_root("john"), HERE)
    line = certificate(third, user="john", cluster="third", logins=("john",))
    assert leaf.access.validate("john", line, HERE).user == "john@third"


def test_who_is_known_of_a_guest(leaf: Leaf) -> None:
    """A refused guest is named as one in the log; a stranger is not named at all."""
    assert leaf.access.holder(of_root("root")) == "john@root"
    assert leaf.access.holder(certificate()) == "joe"
    stranger = Signer(AuthorityType.USER, "root", generate_key())
    assert leaf.access.holder(certificate(stranger, cluster="root")) is None


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("nothing", ""),
        ("no rights", ""),
        ("joined anew with the same keys", ""),
        ("succeeded by another key", ""),
        ("other keys pinned", "trusted by other keys"),
        ("no CA of its people", "no user CA of cluster root is trusted"),
        ("not trusted", "is not trusted here any more"),
    ],
)
def test_who_may_not_even_stay(leaf: Leaf, after: str, why: str) -> None:
    """The end of trust ends what is open; narrower rights and a rotation of the root's CA end nothing."""
    identity = leaf.access.validate("john", of_root("john"), HERE)
    base = leaf.access.base_of(identity)
    peer = leaf.clusters["root"]
    other = (generate_key().public.line,)
    changes: dict[str, dict[str, object]] = {
        "nothing": {},
        "no rights": {"allow_logins": ()},
        "joined anew with the same keys": {"base": "new"},
        "succeeded by another key": {"user_keys": other},
        "no CA of its people": {"user_keys": ()},
        "other keys pinned": {"user_keys": other, "base": "new"},
    }
    leaf.clusters = {"root": peer.model_copy(update=changes[after])} if after in changes else {}
    assert why in leaf.access.end_of(identity, base)
    assert bool(leaf.access.end_of(identity, base)) is bool(why)


def test_people_of_this_cluster_stay(leaf: Leaf) -> None:
    """Whatever becomes of others."""
    identity = leaf.identity()
    base = leaf.access.base_of(identity)
    leaf.clusters = {}
    assert (base, leaf.access.end_of(identity, base)) == ("", "")
