"""The messages between the node service and the spawner: JSON, each one packet of a UNIX SOCK_SEQPACKET pair.

    node ── control ──► spawner    {"do": "start", "id": 7}, with two descriptors: where to answer; the request's text
                                   {"do": "signal", "id": 7, "signal": 15}
                                   {"do": "remove", "id": 7}        a listener of listen_unix is closed: unlink it
    node ◄── control ── spawner    {"id": 7, "status": 256}         ended, with the status of wait(2)
    node ◄── answer ─── child      {"pid": 4711}, with descriptors; then the end: it has started
                                   {"error": "NotFound", "message": …, "hint": …}: it has not

The request's text lies in a memfd because a command may be longer than a packet. Each request has a socket of its
own to be answered on, which the child closes by executing the shell (close-on-exec): what was not answered with an
error before is running. So no step of a child can fail unheard, and children that take their time delay nobody else.
"""

from __future__ import annotations

import json
import os
import socket
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from runtime.core.errors import TeleportError, Unavailable, kind_named, name_of_kind

READY = 0
"""The id of no request, which the spawner says has ended when it has started."""
MAX_PACKET = 64 * 1024
"""The longest control message or answer, in bytes. Both are short; an error's text is cut."""
MAX_DESCRIPTORS = 4
"""The most descriptors that come with a message: stdin, stdout and stderr of a session without a terminal."""
_SPACE = socket.CMSG_SPACE(MAX_DESCRIPTORS * array("i").itemsize)
MAX_ERROR_TEXT = 2 * 1024
"""More of an error's text than that is not sent, in characters; one may become 12 bytes of JSON."""

TRANSFERS = ("sftp", "scp")
"""The kinds of session that no shell carries out."""


class Terminal(NamedTuple):
    """The pseudo-terminal that a client asked for (RFC 4254 §6.2): sizes in characters and pixels, modes of §8."""

    term: str
    columns: int
    rows: int
    pixel_width: int = 0
    pixel_height: int = 0
    modes: Mapping[int, int] = {}


class Request(NamedTuple):
    """What to start, and as whom.

    `kind` is "shell", "exec", "sftp", "scp", or one of `sockets.OPENERS`; the other fields are those that it needs.
    """

    kind: str
    login: str
    command: str = ""
    environment: Mapping[str, str] = {}
    terminal: Terminal | None = None
    path: str = ""
    folder: bool = False
    """listen_unix: make the folder of `path`, and remove it with the socket."""
    host: str = ""
    port: int = 0


def request_to_text(request: Request) -> bytes:
    """Return a request as text. Bytes that are not UTF-8 travel as the surrogates that os.fsdecode makes of them."""
    return json.dumps(request).encode("ascii")


def request_from_text(text: bytes) -> Request:
    """Return the request that `request_to_text` wrote."""
    fields = json.loads(text)
    request = Request(*fields)
    if request.terminal is None:
        return request
    terminal = Terminal(*request.terminal)
    modes = {int(opcode): value for opcode, value in terminal.modes.items()}  # JSON's keys are strings
    return request._replace(terminal=terminal._replace(modes=modes))


def request_to_file(request: Request) -> int:
    """Return the descriptor of a file in memory that holds a request's text, to be read from its beginning."""
    file = os.memfd_create("request", os.MFD_CLOEXEC)
    try:
        with open(file, "wb", closefd=False) as writing:
            writing.write(request_to_text(request))
        os.lseek(file, 0, os.SEEK_SET)
    except BaseException:
        os.close(file)
        raise
    return file


def send(channel: socket.socket, message: Mapping[str, object], descriptors: Iterable[int] = ()) -> None:
    """Send one message, with descriptors. Raises OSError: BlockingIOError if it does not block and there is no room."""
    socket.send_fds(channel, [json.dumps(message).encode("ascii")], list(descriptors), socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next message with its descriptors, close-on-exec; None at the end.

    Raises OSError; Unavailable when this process has too many files open to take the descriptors.
    """
    # Not socket.recv_fds: that of Python 3.11 drops its flags, and the descriptors would be inherited.
    packet, ancillary, flags, _ = channel.recvmsg(MAX_PACKET, _SPACE, socket.MSG_CMSG_CLOEXEC)
    received = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            received.frombytes(data[: len(data) - len(data) % received.itemsize])
    if flags & socket.MSG_CTRUNC:
        for descriptor in received:
            os.close(descriptor)
        raise Unavailable("too many files are open for another session", hint="raise the limit of open files")
    return (json.loads(packet), received.tolist()) if packet else None


def error_to_message(error: TeleportError) -> dict[str, object]:
    """Return an error as the answer to a request."""
    return {"error": name_of_kind(error), "message": str(error)[:MAX_ERROR_TEXT], "hint": error.hint[:MAX_ERROR_TEXT]}


def raise_from_message(message: Mapping[str, Any]) -> NoReturn:
    """Raise the error that an answer tells of."""
    raise kind_named(message["error"])(message["message"], hint=message["hint"])
