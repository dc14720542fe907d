"""JSON-RPC 2.0 without I/O: bytes in, messages out, and the other way round.

One JSON object a line, UTF-8, both directions, both sides may ask. A request may be answered piece by piece: each piece
is a notification `item` that names the request, and the reply ends it. A notification `cancel` gives a request up.

    {"jsonrpc": "2.0", "id": 7, "method": "resources.watch", "params": {"kinds": ["Role"]}}
    {"jsonrpc": "2.0", "method": "item", "params": {"id": 7, "value": …}}
    {"jsonrpc": "2.0", "method": "cancel", "params": {"id": 7}}
    {"jsonrpc": "2.0", "id": 7, "result": null}

Source: JSON-RPC 2.0 specification. Batches are not spoken: a line that is not one object is the peer's fault.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TypeAlias

MAX_LINE_BYTES = 4 * 1024 * 1024
"""A line's bytes: ten values of the backend's largest size, base64 included."""

MAX_PENDING = 256
"""Requests that a peer may have open at once; tsh and members have a handful."""

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


class RemoteProtocolError(Exception):
    """The peer broke the protocol: end the connection."""


class LocalProtocolError(Exception):
    """We were about to break it: a bug on our side."""


@dataclass(frozen=True, slots=True)
class Request:
    """The peer asks; answer with items and then one reply or failure of the same id."""

    id: int
    method: str
    params: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to our request; the last we hear of it."""

    id: int
    result: Json


@dataclass(frozen=True, slots=True)
class Failure:
    """Our request failed; the last we hear of it. `data` is what `runtime.api.failures` understands."""

    id: int
    code: int
    message: str
    data: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of the answer to our request; more follow, or the reply."""

    id: int
    value: Json


@dataclass(frozen=True, slots=True)
class Cancel:
    """The peer gives up its request; it still expects the reply or failure."""

    id: int


Message = Request | Reply | Failure | Piece | Cancel


class Connection:
    """One end of a JSON-RPC conversation.

    It knows which requests are open in both directions, so that an answer to nothing, a second answer, or an id used
    twice is noticed here and not in the code that calls it.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._last_id = 0
        self._asked: set[int] = set()
        self._owed: set[int] = set()

    def request(self, method: str, params: dict[str, Json]) -> tuple[int, bytes]:
        """Return the id of a new request and the bytes to send."""
        self._last_id += 1
        data = _line({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params})
        self._asked.add(self._last_id)
        return self._last_id, data

    def cancel(self, request: int) -> bytes:
        """Return the bytes that give up our request; nothing if it was answered meanwhile."""
        return _notification("cancel", {"id": request}) if request in self._asked else b""

    def piece(self, request: int, value: Json) -> bytes:
        """Return the bytes of one piece of the answer to the peer's request."""
        if request not in self._owed:
            raise LocalProtocolError(f"request {request} is not open")
        return _notification("item", {"id": request, "value": value})

    def reply(self, request: int, result: Json) -> bytes:
        """Return the bytes that answer the peer's request and end it."""
        data = _line({"jsonrpc": "2.0", "id": request, "result": result})
        self._settle(request)
        return data

    def failure(self, request: int, code: int, message: str, data: dict[str, Json]) -> bytes:
        """Return the bytes that end the peer's request as failed."""
        self._settle(request)
        return _line({"jsonrpc": "2.0", "id": request, "error": {"code": code, "message": message, "data": data}})

    def receive(self, data: bytes) -> list[Message]:
        """Return the messages that these bytes complete, in order.

        Raises RemoteProtocolError; the connection is then dead.
        """
        messages: list[Message] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._buffer += line
            _check_length(self._buffer)
            messages.append(self._message(bytes(self._buffer)))
            self._buffer.clear()
        self._buffer += rest
        _check_length(self._buffer)
        return messages

    def _settle(self, request: int) -> None:
        if request not in self._owed:
            raise LocalProtocolError(f"request {request} is not open")
        self._owed.discard(request)

    def _message(self, line: bytes) -> Message:
        try:
            frame = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RemoteProtocolError("a line is not JSON") from error
        if not isinstance(frame, dict) or frame.get("jsonrpc") != "2.0":
            raise RemoteProtocolError("a line is not a JSON-RPC 2.0 object")
        if "method" not in frame:
            return self._answer(frame)
        method, params = frame["method"], frame.get("params", {})
        if not isinstance(method, str) or not isinstance(params, dict):
            raise RemoteProtocolError("a method is text and its params are an object")
        return self._request(frame["id"], method, params) if "id" in frame else self._notice(method, params)

    def _request(self, request: object, method: str, params: dict[str, Json]) -> Request:
        number = _id(request)
        if number in self._owed:
            raise RemoteProtocolError(f"request {number} is open already")
        if len(self._owed) >= MAX_PENDING:
            raise RemoteProtocolError(f"more than {MAX_PENDING} requests at once")
        self._owed.add(number)
        return Request(number, method, params)

    def _notice(self, method: str, params: dict[str, Json]) -> Piece | Cancel:
        number = _id(params.get("id"))
        if method == "cancel":
            return Cancel(number)
        if method == "item" and "value" in params:
            self._expect(number)
            return Piece(number, params["value"])
        raise RemoteProtocolError("a notification is neither item nor cancel")

    def _answer(self, frame: dict[str, Json]) -> Reply | Failure:
        number = _id(frame.get("id"))
        self._expect(number)
        self._asked.discard(number)
        if "result" in frame:
            return Reply(number, frame["result"])
        match frame.get("error"):
            case {"code": int(code), "message": str(message), **rest}:
                data = rest.get("data")
                return Failure(number, code, message, data if isinstance(data, dict) else {})
        raise RemoteProtocolError("an answer has neither result nor error")

    def _expect(self, number: int) -> None:
        if number not in self._asked:
            raise RemoteProtocolError(f"an answer to request {number}, which is not open")


def _id(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RemoteProtocolError("an id is not a whole number")
    return value


def _check_length(buffer: bytearray) -> None:
    if len(buffer) > MAX_LINE_BYTES:
        raise RemoteProtocolError(f"a line is longer than {MAX_LINE_BYTES} bytes")


def _notification(method: str, params: dict[str, Json]) -> bytes:
    return _line({"jsonrpc": "2.0", "method": method, "params": params})


def _line(frame: dict[str, Json]) -> bytes:
    data = json.dumps(frame, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    if len(data) > MAX_LINE_BYTES + 1:
        raise LocalProtocolError(f"a message of {len(data)} bytes is longer than {MAX_LINE_BYTES}")
    return data
