"""Which node a wish means: ids, names, addresses, labels, ports; and what is said when it means none, or several."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.api.member_messages import Presence, PresenceEntry
from runtime.core.callers import CallerKind
from runtime.core.errors import InvalidInput, NotFound
from runtime.proxy.routing import MAX_LISTED, MAX_WISH, Wish, check_cluster, newest, parse_wish, route

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def node(number: int, name: str, addr: str, **labels: str) -> Presence:
    """Return a node whose id ends in a number."""
    return Presence(id=uuid.UUID(int=number), kind=CallerKind.NODE, name=name, addr=addr, labels=labels)


DB1 = node(1, "db1", "10.0.0.1:3022", env="prod", role="db")
DB2 = node(2, "db2", "10.0.0.2:3022", env="prod")
WEB = node(3, "web", "[2001:db8::3]:3022", env="staging")
OLD_WEB = node(4, "Web", "10.0.0.4:22")
ALIAS = node(5, "10.0.0.1", "10.0.0.5:3022")
TWIN_A, TWIN_B = node(6, "twin", "10.0.0.6:3022", env="a"), node(7, "twin", "10.0.0.7:3022", env="b")
NODES = [DB1, DB2, WEB, OLD_WEB, TWIN_A, TWIN_B]


@pytest.mark.parametrize(
    ("wish", "meant"),
    [
        ("db1:3022", DB1),
        ("db1:22", DB1),  # one fits: the port need not
        ("DB1:0", DB1),
        ("db1.main:3022", DB1),
        ("Db1.MAIN.:3022", DB1),
        ("db1:3022@main", DB1),
        ("00000000-0000-0000-0000-000000000002:22", DB2),
        ("00000000-0000-0000-0000-000000000006:22", TWIN_A),
        ("10.0.0.2:3022", DB2),
        ("10.0.0.2:22", DB2),
        ("2001:db8::3:3022", WEB),
        ("[2001:DB8::3]:22", WEB),
        ("web:3022", WEB),  # of two that fit, the port singles one out
        ("WEB:22", OLD_WEB),
        ("role=db:22", DB1),
        ("env=staging:3022@main", WEB),
        ("env=a:22", TWIN_A),
    ],
)
def test_the_node_that_is_meant(wish: str, meant: Presence) -> None:
    """A wish leads to the node's address, whatever it calls the node."""
    found = route(parse_wish(wish), NODES, "main")
    assert found.node is meant
    assert str(found.address).lower() == meant.addr


@pytest.mark.parametrize(
    "host", ["db3", "db1.other", "10.0.0.9", "role=web", "env=", "=prod", "prod", "*", "db", "d%b1"]
)
def test_no_node_is_meant(host: str) -> None:
    """What fits no node as a whole is unknown; nothing is guessed."""
    with pytest.raises(NotFound, match="there is no node") as error:
        route(Wish(host, 3022), NODES, "main")
    assert error.value.hint == "`tsh ls` lists the nodes."


@pytest.mark.parametrize(("host", "near"), [("bd1", ""), ("db11", "db1"), ("DB", "db2"), ("tiwn", "twin"), ("x", "")])
def test_near_names_are_suggested(host: str, near: str) -> None:
    """Of the nodes that the user may see, those with a name like it are told."""
    with pytest.raises(NotFound) as error:
        route(Wish(host, 3022), NODES, "main")
    assert near in str(error.value)
    if not near:
        assert ("did you mean" in str(error.value)) is (host == "bd1")


def test_several_are_listed() -> None:
    """Of several that fit, each is told with name, id, address and labels, and how to choose."""
    with pytest.raises(InvalidInput) as error:
        route(Wish("twin", 3022), NODES, "main")
    assert str(error.value).splitlines() == [
        "2 nodes go by 'twin':",
        "  twin  00000000-0000-0000-0000-000000000006  10.0.0.6:3022  env=a",
        "  twin  00000000-0000-0000-0000-000000000007  10.0.0.7:3022  env=b",
    ]
    assert error.value.hint == ("Name the one that you mean by its id, as in: ssh 00000000-0000-0000-0000-000000000006")


def test_what_a_node_says_of_itself_is_one_line() -> None:
    """No name, label or address of a node makes lines of its own, or is obeyed by a terminal."""
    bad = [node(number, "db\x1b[31m1", "h\n:22", env=f"a\nteleport: all is well{number}") for number in (1, 2)]
    with pytest.raises(InvalidInput) as error:
        route(Wish("db\x1b[31m1", 22), bad, "main")
    lines = str(error.value).split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert r"env=a\nteleport: all is well1" in lines[1]
    with pytest.raises(NotFound) as unknown:
        route(Wish("db1", 22), bad, "main")
    assert str(unknown.value).isprintable()
    with pytest.raises(InvalidInput) as address:
        route(Wish("db\x1b[31m1", 22), bad[:1], "main")
    assert str(address.value).isprintable()


def test_the_list_of_several_is_short() -> None:
    """A label that hundreds have lists ten of them, and counts the rest."""
    many = [node(number, f"n{number}", f"10.1.0.{number}:3022", env="prod") for number in range(1, 201)]
    with pytest.raises(InvalidInput) as error:
        route(Wish("env=prod", 22), many, "main")
    lines = str(error.value).splitlines()
    assert len(lines) == MAX_LISTED + 2
    assert lines[-1] == "  and 190 more"


def test_the_port_lists_what_it_leaves() -> None:
    """Where the port leaves several, only these are listed."""
    third = node(8, "twin", "10.0.0.8:22")
    with pytest.raises(InvalidInput, match="2 nodes go by"):
        route(Wish("twin", 3022), [*NODES, third], "main")
    assert route(Wish("twin", 22), [*NODES, third], "main").node is third


def test_an_id_is_stronger_than_a_name_and_a_name_than_an_address() -> None:
    """A node that is named like another's id or address takes nothing of it."""
    impostor = node(9, str(DB1.id), "10.9.9.9:3022")
    assert route(Wish(str(DB1.id), 22), [impostor, DB1], "main").node is DB1
    assert route(Wish("10.0.0.1", 22), [DB1, ALIAS], "main").node is ALIAS
    assert route(Wish("10.0.0.5", 22), [DB1, ALIAS], "main").node is ALIAS


def test_what_is_not_visible_does_not_exist() -> None:
    """It makes nothing ambiguous, is no suggestion and in no list, and hides nothing that is meant less exactly."""

    def visible(node: Presence) -> bool:
        return node not in (TWIN_B, DB2, ALIAS)

    assert route(Wish("twin", 1), NODES, "main", visible=visible).node is TWIN_A
    assert route(Wish("env=prod", 1), NODES, "main", visible=visible).node is DB1
    assert route(Wish("10.0.0.1", 1), [ALIAS, DB1], "main", visible=visible).node is DB1
    for host in ("db2", str(DB2.id), "10.0.0.2", "db22"):
        with pytest.raises(NotFound) as error:
            route(Wish(host, 3022), NODES, "main", visible=visible)
        assert "db2?" not in str(error.value)
        assert "10.0.0.2:" not in str(error.value)


@pytest.mark.parametrize("addr", ["", "db1:0", "db1:ssh", "a b:22", "db1:99999"])
def test_an_address_that_is_none(addr: str) -> None:
    """A node that tells nonsense of itself is an error that names it, not a crash."""
    with pytest.raises(InvalidInput, match="node db1 tells an address that is none"):
        route(Wish("db1", 22), [node(1, "db1", addr)], "main")


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("db1:3022", Wish("db1", 3022)),
        ("db1:3022@cluster-b", Wish("db1", 3022, "cluster-b")),
        ("::1:22", Wish("::1", 22)),
        ("[::1]:22@main", Wish("::1", 22, "main")),
        ("env=prod:22", Wish("env=prod", 22)),
        ("mail=a@b:22", Wish("mail=a@b", 22)),
        ("mail=a@b:22@main", Wish("mail=a@b", 22, "main")),
        ("time=12:30:22", Wish("time=12:30", 22)),
    ],
)
def test_wishes(text: str, wish: Wish) -> None:
    """Host, port and cluster are what stands before, after the last colon, and after the @ behind that."""
    assert parse_wish(text) == wish


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "db1", "db1:", ":22", " :22", "db1:ssh", "db1:-1", "db1:65536", "db1:999999", "db1:22@", "[]:22",
        "joe@db1:22", "db1:22@main@other", "db1:22@main:22", "db1:2٣", "db1\x00:22", "db1\n:22", "db1:22\n",
        "db1:22@m\x1b", "db\u202e1:22", "a" * MAX_WISH + ":22",
    ],
)  # fmt: skip
def test_wishes_that_are_none(text: str) -> None:
    """What is not of that form is refused with the form, and shown without anything that a terminal obeys."""
    with pytest.raises(InvalidInput, match="expected proxy:HOST:PORT or proxy:HOST:PORT@CLUSTER, found") as error:
        parse_wish(text)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


@given(st.text(max_size=60))
def test_any_text_is_a_wish_or_an_error(text: str) -> None:
    """No text does anything else, and what is a wish reads the same once more."""
    try:
        wish = parse_wish(text)
    except InvalidInput:
        return
    assert parse_wish(str(wish)) == wish


def test_clusters() -> None:
    """The own cluster is known with and without its name; another is an error that lists those there are."""
    check_cluster(Wish("db1", 22), ["main"])
    check_cluster(Wish("db1", 22, "main"), ["main"])
    with pytest.raises(NotFound, match="there is no cluster 'cluster-b' here; there is main"):
        check_cluster(Wish("db1", 22, "cluster-b"), ["main"])


def test_a_machine_that_was_set_up_anew_is_one_node() -> None:
    """Of entries with the same name and address the one heard last counts, in any order; others are others."""

    def entry(presence: Presence, seconds: float) -> PresenceEntry:
        return PresenceEntry(presence=presence, expires=NOW + timedelta(seconds=seconds))

    old, new = entry(node(1, "db1", "10.0.0.1:3022"), 10), entry(node(2, "DB1", "10.0.0.1:3022"), 50)
    moved, other = entry(node(3, "db1", "10.0.0.9:3022"), 60), entry(node(4, "web", "10.0.0.1:3022"), 1)
    for entries in ([old, new, moved, other], [new, old, moved, other]):
        assert newest(entries) == (new, moved, other)
