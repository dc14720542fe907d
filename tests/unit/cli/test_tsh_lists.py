"""tsh's side of lists: what it sends, what it believes of an answer, and how it is shown."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.cli import tsh_lists
from runtime.cli.node_table import node_table
from runtime.cli.profile import Home, Keys, Profile
from runtime.cli.tsh_address import Address
from runtime.cli.tsh_lists import ClusterEntry, NodeEntry, Session, parse_labels
from runtime.cli.webclient import MAX_LIST_BYTES
from runtime.core.errors import AccessDenied, InvalidInput, NotFound, TeleportError, Unavailable
from runtime.pki.certificate import read_certificate
from runtime.pki.keys import generate_key
from runtime.pki.sshsig import verify
from tests.servers.processes import free_port
from tests.unit.cli.tsh_proxy import Answer, StandIn, stand_in

NOW = datetime.now(UTC).replace(microsecond=0)
NODE: dict[str, Any] = {
    "id": "c1",
    "name": "turing",
    "addr": "10.0.0.1:3022",
    "labels": {"os": "linux"},
    "version": "1.0",
    "kind": "node",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Yield a stand-in for a proxy."""
    with stand_in(tmp_path_factory.mktemp("proxy")) as made:
        yield made


@pytest.fixture
def proxy(running: StandIn) -> StandIn:
    """Return the stand-in, which tells of one node."""
    running.cluster.now = lambda: NOW  # one moment for all, however long the tests before took
    running.list_encoding = ""
    running.on_list = lambda path, headers: (200, {"cluster": "main", "nodes": [NODE]})
    return running


def stored(folder: Path, proxy: StandIn, *, ttl: timedelta = timedelta(hours=1)) -> Home:
    """Return a folder in which joe is logged in at the stand-in."""
    key = generate_key()
    reply = proxy.cluster.login({"user": "joe", "public_key": key.public.line, "ttl": ttl.total_seconds()})
    home = Home(folder / "tsh")
    profile = Profile(proxy.address, "joe", pin=proxy.fingerprint, cluster="main")
    home.store(profile, Keys(key.to_openssh(), key.public.line, reply["certificate"]))
    return home


@pytest.fixture
def session(tmp_path: Path, proxy: StandIn) -> Session:
    """Return joe's login at the stand-in."""
    return Session.open(stored(tmp_path, proxy), None, None, NOW)


# --- the session -----------------------------------------------------------------------------------------------------


def test_a_session_is_a_login_that_is_valid_now(tmp_path: Path, proxy: StandIn) -> None:
    """The current one, or that of the proxy and user that are named; otherwise the error says how to log in."""
    home = stored(tmp_path, proxy)
    address = str(proxy.address)
    for named, user in ((None, None), (address, None), (address, "joe"), (None, "joe")):
        session = Session.open(home, named, user, NOW)
        assert (session.profile.user, session.profile.cluster, session.profile.pin) == (
            "joe",
            "main",
            proxy.fingerprint,
        )
    for named, user, reason in (
        (None, "ann", "not logged in at proxy"),
        ("other.example", "joe", "not logged in at proxy other.example:3080"),
    ):
        with pytest.raises(AccessDenied, match=reason) as caught:
            Session.open(home, named, user, NOW)
        assert "login" in caught.value.hint
    with pytest.raises(AccessDenied, match="the certificate expired at"):
        Session.open(home, None, None, NOW + timedelta(hours=1, minutes=1))
    with pytest.raises(InvalidInput, match="which proxy"):
        Session.open(Home(tmp_path / "empty"), None, None, NOW)


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_what_is_asked_is_signed(session: Session, proxy: StandIn) -> None:
    """Path and query as they are on the wire, the cluster of the login, and the time, by the login's key."""
    seen: list[tuple[str, Mapping[str, str]]] = []

    def answer(path: str, headers: Mapping[str, str]) -> tuple[int, Answer]:
        seen.append((path, headers))
        return 200, {"cluster": "b", "nodes": []}

    proxy.on_list = answer
    labels = {"env": "prod", "up": "1 hour, & more=ü"}
    assert tsh_lists.nodes(session, labels=labels, search=["a+b"], cluster="b", now=NOW) == []
    (path, headers) = seen[0]
    assert path == "/webapi/nodes?label=env%3Dprod&label=up%3D1+hour%2C+%26+more%3D%C3%BC&search=a%2Bb&cluster=b"
    certificate = read_certificate(base64.b64decode(headers["X-Teleport-Certificate"]))
    assert certificate.key_id == "joe"
    message = f"GET {path}\nmain\n{NOW:%Y-%m-%dT%H:%M:%SZ}\n".encode()
    scheme, _, signature = headers["Authorization"].partition(" ")
    assert scheme == "SSHSIG"
    verify(base64.b64decode(signature), message, certificate.key, namespace="web@teleport.internal")
    assert headers["X-Teleport-Time"] == f"{NOW:%Y-%m-%dT%H:%M:%SZ}"


def test_no_key_is_sent(session: Session, proxy: StandIn) -> None:
    """Nothing of the private key is in any header."""
    seen: list[str] = []

    def answer(path: str, headers: Mapping[str, str]) -> tuple[int, Answer]:
        seen.append(json.dumps([path, headers]))
        return 200, {"clusters": []}

    proxy.on_list = answer
    assert tsh_lists.clusters(session, now=NOW) == []
    secret = [line for line in session.keys.private.splitlines() if not line.startswith("-")]
    assert secret
    assert not [line for line in secret[2:] if line in seen[0]]


# --- what is believed ------------------------------------------------------------------------------------------------


def test_nodes_and_clusters(session: Session, proxy: StandIn) -> None:
    """By name and id, whatever the order of the answer; fields that a newer proxy adds are ignored."""
    nodes = [NODE | {"name": "b"}, NODE | {"name": "a", "id": "2"}, NODE | {"name": "a", "id": "1", "more": 7}]
    proxy.on_list = lambda path, headers: (200, {"cluster": "main", "nodes": nodes})
    found = tsh_lists.nodes(session, now=NOW)
    assert [(node.name, node.id) for node in found] == [("a", "1"), ("a", "2"), ("b", "c1")]
    assert found[2] == NodeEntry("c1", "b", "10.0.0.1:3022", {"os": "linux"}, "1.0", "node")
    clusters = [
        {"name": "main", "status": "online", "local": True, "last_connected": None},
        {"name": "b", "status": "offline", "local": False, "last_connected": "2026-11-22T20:15:00Z"},
    ]
    proxy.on_list = lambda path, headers: (200, {"clusters": clusters})
    assert tsh_lists.clusters(session, now=NOW) == [
        ClusterEntry("b", "offline", local=False, last_connected="2026-11-22T20:15:00Z"),
        ClusterEntry("main", "online", local=True, last_connected=None),
    ]


def test_a_node_without_an_address_is_one_too(session: Session, proxy: StandIn) -> None:
    """What has no address (behind a tunnel), no labels or no version is listed."""
    proxy.on_list = lambda path, headers: (200, {"nodes": [NODE | {"addr": "", "labels": {}, "version": ""}]})
    (node,) = tsh_lists.nodes(session, now=NOW)
    assert (node.addr, node.labels, node.version) == ("", {}, "")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"nodes": {}},
        {"nodes": None},
        {"nodes": ["turing"]},
        {"nodes": [NODE | {"name": ""}]},
        {"nodes": [NODE | {"name": 7}]},
        {"nodes": [NODE | {"id": None}]},
        {"nodes": [NODE | {"addr": 3022}]},
        {"nodes": [NODE | {"labels": ["os=linux"]}]},
        {"nodes": [NODE | {"labels": {"os": 1}}]},
        {"nodes": [NODE | {"name": "x" * 20_000}]},
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"nodes": "\xff"}',
    ],
)
def test_an_answer_that_is_no_list_is_refused(session: Session, proxy: StandIn, document: Answer) -> None:
    """Whatever a proxy answers in place of a list ends with an error that names it."""
    proxy.on_list = lambda path, headers: (200, document)
    with pytest.raises(InvalidInput, match=f"{proxy.address} is not a Teleport proxy"):
        tsh_lists.nodes(session, now=NOW)


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [(401, "AccessDenied", AccessDenied), (404, "NotFound", NotFound), (503, "Unavailable", Unavailable)],
)
def test_a_refusal_keeps_its_words(
    session: Session, proxy: StandIn, status: int, kind: str, error: type[TeleportError]
) -> None:
    """Kind, message and hint are the proxy's; what a terminal would obey is escaped."""
    said = {"kind": kind, "message": "no \x1b[2J", "hint": "try\nagain"}
    proxy.on_list = lambda path, headers: (status, {"error": said})
    with pytest.raises(error) as caught:
        tsh_lists.nodes(session, now=NOW)
    assert (str(caught.value), caught.value.hint) == (r"no \x1b[2J", r"try\x0aagain")


def test_an_answer_may_be_compressed(session: Session, proxy: StandIn) -> None:
    """With gzip, which tsh says that it takes; a damaged one, a cut one and an endless one are refused."""
    whole = gzip.compress(json.dumps({"nodes": [NODE]}).encode())
    bomb = gzip.compress(b" " * (MAX_LIST_BYTES + 1))
    assert len(bomb) < 1 << 17
    seen: list[str] = []

    def answer(body: bytes) -> list[NodeEntry]:
        def list_them(path: str, headers: Mapping[str, str]) -> tuple[int, Answer]:
            seen.append(headers["Accept-Encoding"])
            return 200, body

        proxy.on_list = list_them
        return tsh_lists.nodes(session, now=NOW)

    proxy.list_encoding = "gzip"
    assert [node.name for node in answer(whole)] == ["turing"]
    assert seen == ["gzip"]
    for body, reason in (
        (whole[:-9], "compressed, and damaged"),
        (b"rubbish", "compressed, and damaged"),
        (b"", "compressed, and damaged"),
        (bomb, f"longer than {MAX_LIST_BYTES} bytes"),
    ):
        with pytest.raises(InvalidInput, match=reason):
            answer(body)


def test_a_proxy_that_is_away(session: Session) -> None:
    """It is said that nobody listens there."""
    away = Session(Profile(Address("localhost", free_port()), "joe", cluster="main"), session.keys)
    with pytest.raises(Unavailable, match="nobody listens there"):
        tsh_lists.nodes(away, now=NOW)


def test_another_certificate_than_the_pinned_one_is_sent_nothing(session: Session, proxy: StandIn) -> None:
    """Neither certificate nor signature leave this machine; with --insecure they do, this once."""
    before = len(proxy.requests)
    profile = Profile(proxy.address, "joe", pin="SHA256:" + ":".join(["00"] * 32), cluster="main")
    with pytest.raises(AccessDenied, match="nothing was sent to it"):
        tsh_lists.nodes(Session(profile, session.keys), now=NOW)
    assert len(proxy.requests) == before
    assert len(tsh_lists.nodes(Session(profile, session.keys), insecure=True, now=NOW)) == 1


# --- labels on the command line --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", {}),
        ("env=prod", {"env": "prod"}),
        ("env=prod,team=web", {"env": "prod", "team": "web"}),
        (" env = prod , team=web ", {"env": "prod", "team": "web"}),
        ("env=*", {"env": "*"}),
        ("env=", {"env": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("uptime=up 1 hour", {"uptime": "up 1 hour"}),
        ('uptime="up 1 hour, 15 minutes",env=prod', {"uptime": "up 1 hour, 15 minutes", "env": "prod"}),
        (r'note="a \"b\" \\ c"', {"note": r'a "b" \ c'}),
        ('note=""', {"note": ""}),
        ("example.com/zone=eu", {"example.com/zone": "eu"}),
    ],
)
def test_labels(text: str, labels: dict[str, str]) -> None:
    """NAME=VALUE with commas between; quotes hold a value with a comma together."""
    assert parse_labels(text) == labels


@pytest.mark.parametrize(
    "text", ["env", "=prod", "env=prod,", ",env=prod", 'env="prod', 'env="prod"x', "a=b,c", "a b=c"]
)
def test_what_is_no_label(text: str) -> None:
    """It is said what stands there, and how a label is written."""
    with pytest.raises(InvalidInput, match="expected labels such as env=prod") as caught:
        parse_labels(text)
    assert "quotes" in caught.value.hint


def test_a_label_twice_is_a_mistake() -> None:
    """No node has two values for one."""
    with pytest.raises(InvalidInput, match="'env' is there twice"):
        parse_labels("env=prod,env=staging")


# --- how it is shown -------------------------------------------------------------------------------------------------


def test_the_manual_s_table() -> None:
    """The header is the manual's ("Adding Nodes to the Cluster"); labels are in order, and a terminal obeys nothing."""
    nodes = [
        NodeEntry("d52527f9-b260", "turing", "10.0.0.1:3022", {"b": "2", "a": "1"}, "1.0", "node"),
        NodeEntry("c9s93fd9-3333", "\x1b[31mdijkstra", "", {"x": "a\nb"}, "1.1", "node"),
    ]
    assert node_table(nodes) == (
        "Node Name            Node ID           Address           Labels\n"
        "---------            -------           -------           ------\n"
        "turing               d52527f9-b260     10.0.0.1:3022     a=1,b=2\n"
        "\\x1b[31mdijkstra     c9s93fd9-3333                       x=a\\x0ab\n"
    )
    assert [line.split()[-2] for line in node_table(nodes, verbose=True).splitlines()[2:]] == ["1.0", "1.1"]
