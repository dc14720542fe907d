"""The protocol of tunnels without a network: what each end takes, in which order, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.errors import AccessDenied, InvalidInput, NotFound, TeleportError, Unavailable
from runtime.tunnel import protocol
from runtime.tunnel.protocol import Connect, Hello, LeafEnd, Nodes, Place, RootEnd, Visitor, Welcome

HELLO = Hello(
    version=1,
    cluster="main",
    proxy="p1",
    proxies=(Place(proxy="p1", address="a:3024"), Place(proxy="p2", address="b:3024")),
)
VISITOR = Visitor(certificate="ssh-ed25519-cert-v01@openssh.com AAAA", login="joe", address="192.0.2.7:4711")
CONNECT = Connect(host="db1", port=22, visitor=VISITOR)
NODES = Nodes(method="GET", target="/webapi/nodes", certificate=b"\0\xff", signature=b"s", time="t", address="a")
WELCOME = Welcome(version=1, cluster="leaf", proxy="q1", name="proxy1")


def leaf_end() -> LeafEnd:
    """Return the leaf's end of a tunnel with p1 of main."""
    return LeafEnd(root="main", proxy="p1")


def root_end() -> RootEnd:
    """Return the root's end of a tunnel with q1 of leaf."""
    return RootEnd(leaf="leaf", proxy="q1")


@pytest.mark.parametrize("request_", [HELLO, CONNECT, NODES])
def test_what_is_written_is_read(request_: protocol.Request) -> None:
    """Each request is a name and JSON, and comes out as it went in, bytes included."""
    text = protocol.write_request(request_)
    assert text.partition(" ")[0] in ("hello", "connect", "nodes")
    assert protocol.parse_request(text) == request_


def test_two_ends_in_memory() -> None:
    """Hello, its answer, and then requests; a further hello is fine."""
    leaf, root = leaf_end(), root_end()
    assert leaf.receive(protocol.write_request(HELLO)) == HELLO
    assert root.greeted_with(protocol.write_result(WELCOME)) == WELCOME
    assert leaf.receive(protocol.write_request(CONNECT)) == CONNECT
    moved = HELLO.model_copy(update={"proxies": (Place(proxy="p1", address="c:3024"),)})
    assert leaf.receive(protocol.write_request(moved)) == moved
    assert leaf.receive(protocol.write_request(NODES)) == NODES
    assert (leaf.greeted, root.greeted) == (True, True)


@pytest.mark.parametrize("request_", [CONNECT, NODES])
def test_hello_comes_first(request_: protocol.Request) -> None:
    """Nothing is asked for before hello, nor after one that was refused."""
    leaf = leaf_end()
    with pytest.raises(InvalidInput, match="came before hello"):
        leaf.receive(protocol.write_request(request_))
    with pytest.raises(AccessDenied):
        leaf.receive(protocol.write_request(HELLO.model_copy(update={"cluster": "bank"})))
    with pytest.raises(InvalidInput, match="came before hello"):
        leaf.receive(protocol.write_request(request_))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"cluster": "bank"}, AccessDenied, "proxy p1 of cluster main calls itself p1 of cluster bank"),
        ({"proxy": "p2"}, AccessDenied, "calls itself p2 of cluster main"),
        ({"version": 2}, InvalidInput, "the root speaks version 2"),
        ({"cluster": "\x1b[2J"}, AccessDenied, r"cluster \?\[2J"),
    ],
)
def test_a_hello_that_is_not_of_whom_was_proved(changes: dict[str, Any], error: type[TeleportError], said: str) -> None:
    """The certificate says who it is; another name, or another version, is refused."""
    with pytest.raises(error, match=said):
        leaf_end().receive(protocol.write_request(HELLO.model_copy(update=changes)))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"cluster": "bank"}, AccessDenied, "proxy q1 of cluster leaf calls itself q1 of cluster bank"),
        ({"proxy": "q2"}, AccessDenied, "calls itself q2 of cluster leaf"),
        ({"version": 2}, InvalidInput, "the leaf speaks version 2"),
    ],
)
def test_a_welcome_that_is_not_of_whom_was_proved(
    changes: dict[str, Any], error: type[TeleportError], said: str
) -> None:
    """The same holds for the leaf's answer."""
    end = root_end()
    with pytest.raises(error, match=said):
        end.greeted_with(protocol.write_result(WELCOME.model_copy(update=changes)))
    assert not end.greeted


@pytest.mark.parametrize(
    ("subsystem", "said"),
    [
        (None, "no shell and runs no commands"),
        ("", "has no subsystem"),
        ("sftp", "has no subsystem sftp"),
        ("proxy:db1:22", "has no subsystem proxy:db1:22"),
        ("x" * 1000 + "\n\x07", "has no subsystem x{512}…"),
        ("hello", "hello is malformed at the document"),
        ("hello []", "hello is malformed at the document"),
        ('hello {"version": 1}', "hello is malformed at cluster, proxy"),
        (
            'hello {"version": 1, "cluster": "m", "proxy": "p", "proxies": ["a"' + ', "a"' * 64 + "]}",
            "malformed at proxies",
        ),
        ('connect {"host": "h", "port": 70000, "visitor": {}}', "malformed at port, visitor"),
        ("hello " + "[" * 60_000, "hello is malformed"),
        ("hello " + "x" * protocol.MAX_REQUEST, f"{protocol.MAX_REQUEST} is the most"),
    ],
)
def test_requests_that_are_none(subsystem: str | None, said: str) -> None:
    """Whatever it is, it is refused with where it is wrong, and without what it says there."""
    with pytest.raises(InvalidInput, match=said) as caught:
        leaf_end().receive(subsystem)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("answer", [b"", b"null", b"[]", b"\xff", b"[" * 60_000, b'{"result": []}', b'{"error": 7}'])
def test_answers_that_are_none(answer: bytes) -> None:
    """The root refuses what it cannot read."""
    with pytest.raises(InvalidInput, match="the answer is malformed"):
        root_end().greeted_with(answer)


def test_an_answer_that_is_too_long() -> None:
    """It is not even read."""
    with pytest.raises(InvalidInput, match="an answer of more than"):
        protocol.read_result(b" " * (protocol.MAX_ANSWER + 1))


@pytest.mark.parametrize("kind", [NotFound, AccessDenied, Unavailable, InvalidInput])
def test_a_refusal_keeps_its_kind(kind: type[TeleportError]) -> None:
    """What the leaf raises the root raises, with the hint, in one line, and not without end."""
    answer = protocol.write_error(kind("no\nsuch\x1b" + "x" * 9999, hint="Ask.\r\n"))
    with pytest.raises(kind) as caught:
        protocol.read_result(answer)
    assert str(caught.value).startswith("no?such?xxx")
    assert len(str(caught.value)) <= protocol.MAX_SHOWN
    assert caught.value.hint == "Ask.??"


def test_a_refusal_of_a_kind_that_is_not_known() -> None:
    """It is an error all the same."""
    with pytest.raises(TeleportError, match="no"):
        protocol.read_result(json.dumps({"error": {"kind": "SystemExit", "message": "no"}}).encode())


def test_what_a_newer_side_adds_is_ignored() -> None:
    """Fields that are not known change nothing, so that releases can be mixed."""
    document = {**HELLO.model_dump(mode="json"), "news": {"a": 1}}
    assert protocol.parse_request(f"hello {json.dumps(document)}") == HELLO


@given(st.text(max_size=200))
def test_any_text_is_a_request_or_refused(text: str) -> None:
    """Nothing but InvalidInput comes of it."""
    for subsystem in (text, f"hello {text}", f"connect {text}"):
        try:
            protocol.parse_request(subsystem)
        except InvalidInput:
            continue


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_refused(answer: bytes) -> None:
    """Nothing but a TeleportError comes of it."""
    try:
        protocol.read_answer(answer, Welcome)
    except TeleportError:
        return
