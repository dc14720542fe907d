"""JSON-RPC without I/O: two real ends joined in memory, then a peer that breaks the rules."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.api import wire
from runtime.api.wire import Cancel, Connection, Failure, LocalProtocolError, Piece, RemoteProtocolError, Reply, Request


def test_a_request_and_its_reply_cross() -> None:
    """What one end asks the other receives, and the reply comes back under the same id."""
    asker, answerer = Connection(), Connection()
    request, data = asker.request("ping", {"size": 3})
    assert answerer.receive(data) == [Request(request, "ping", {"size": 3})]
    assert asker.receive(answerer.reply(request, "pong")) == [Reply(request, "pong")]


def test_pieces_come_before_the_reply_and_none_after() -> None:
    """A streamed answer is pieces and then a reply; a piece after the reply is a bug of ours."""
    asker, answerer = Connection(), Connection()
    request, data = asker.request("watch", {})
    answerer.receive(data)
    data = answerer.piece(request, 1) + answerer.piece(request, 2) + answerer.reply(request, None)
    assert asker.receive(data) == [Piece(request, 1), Piece(request, 2), Reply(request, None)]
    with pytest.raises(LocalProtocolError):
        answerer.piece(request, 3)


def test_a_failure_carries_code_message_and_data() -> None:
    """A failed request ends with what failures.py needs to raise it again."""
    asker, answerer = Connection(), Connection()
    request, data = asker.request("get", {})
    answerer.receive(data)
    data = answerer.failure(request, -32000, "no such user", {"kind": "NotFound"})
    assert asker.receive(data) == [Failure(request, -32000, "no such user", {"kind": "NotFound"})]


def test_cancel_crosses_only_while_the_request_is_open() -> None:
    """Giving up an answered request sends nothing."""
    asker, answerer = Connection(), Connection()
    request, data = asker.request("watch", {})
    answerer.receive(data)
    assert answerer.receive(asker.cancel(request)) == [Cancel(request)]
    asker.receive(answerer.reply(request, None))
    assert asker.cancel(request) == b""


@given(cuts=st.lists(st.integers(1, 40), max_size=30), text=st.text())
def test_any_cut_of_the_bytes_gives_the_same_messages(cuts: list[int], text: str) -> None:
    """Messages do not depend on how the stream cuts them."""
    asker, whole, pieces = Connection(), Connection(), Connection()
    data = b"".join(asker.request("m", {"text": text, "n": n})[1] for n in range(5))
    expected, got, rest = whole.receive(data), [], data
    for cut in cuts:
        got += pieces.receive(rest[:cut])
        rest = rest[cut:]
    assert got + pieces.receive(rest) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"jsonrpc":"1.0","id":1,"method":"m"}',
        b'{"jsonrpc":"2.0","id":"1","method":"m"}',
        b'{"jsonrpc":"2.0","id":true,"method":"m"}',
        b'{"jsonrpc":"2.0","id":1,"method":7}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}',
        b'{"jsonrpc":"2.0","method":"m","params":{"id":1}}',
        b'{"jsonrpc":"2.0","id":1,"result":1}',
        b'{"jsonrpc":"2.0","method":"item","params":{"id":1,"value":1}}',
        b'[{"jsonrpc":"2.0","id":1,"method":"m"}]',
    ],
)
def test_what_is_not_the_protocol_is_the_peers_fault(line: bytes) -> None:
    """Each malformed line, and each answer to nothing, is told apart from our own mistakes."""
    with pytest.raises(RemoteProtocolError):
        Connection().receive(line + b"\n")


def test_an_answer_without_result_or_error_is_refused() -> None:
    """A reply must say how it went."""
    asker = Connection()
    asker.request("m", {})
    with pytest.raises(RemoteProtocolError):
        asker.receive(b'{"jsonrpc":"2.0","id":1}\n')


def test_an_id_cannot_be_open_twice() -> None:
    """A second request under an open id would make the answers ambiguous."""
    line = b'{"jsonrpc":"2.0","id":1,"method":"m"}\n'
    with pytest.raises(RemoteProtocolError):
        Connection().receive(line + line)


def test_open_requests_are_bounded() -> None:
    """A peer that asks without reading answers is stopped."""
    answerer = Connection()
    lines = [
        json.dumps({"jsonrpc": "2.0", "id": n, "method": "m"}).encode() + b"\n" for n in range(wire.MAX_PENDING + 1)
    ]
    answerer.receive(b"".join(lines[:-1]))
    with pytest.raises(RemoteProtocolError):
        answerer.receive(lines[-1])


def test_a_line_is_bounded_before_its_end_is_seen() -> None:
    """Memory for an endless line is not collected."""
    answerer = Connection()
    answerer.receive(b"x" * wire.MAX_LINE_BYTES)
    with pytest.raises(RemoteProtocolError):
        answerer.receive(b"x")


def test_a_message_too_long_to_send_leaves_the_request_open() -> None:
    """A result that cannot be sent can still be answered with a failure."""
    asker, answerer = Connection(), Connection()
    request, data = asker.request("m", {})
    answerer.receive(data)
    with pytest.raises(LocalProtocolError):
        answerer.reply(request, "x" * (wire.MAX_LINE_BYTES + 1))
    assert asker.receive(answerer.failure(request, 1, "too long", {})) == [Failure(request, 1, "too long", {})]
