"""What the process of a file transfer does once it is the login user's: `serve`.

Imported by the spawner's child before it becomes the user's, so it stays small (see `runtime.node.copying`).
"""

from __future__ import annotations

import signal

from runtime.core.errors import InvalidInput
from runtime.node.copying.channel import Channel, Gone
from runtime.node.copying.command import ScpRequest, parse_scp
from runtime.node.copying.scp import Peer, Source
from runtime.node.copying.scp_sink import Refused, Sink
from runtime.node.copying.sftp import SftpServer

FAILED = 1


def serve(kind: str, command: str, stdin_fd: int, stdout_fd: int, stderr_fd: int) -> int:
    """Serve one client's sftp or scp on three descriptors, as the user that this process is. Returns the exit code.

    Paths are relative to the current folder. What went wrong is told to the client; to the node, if it still listens.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # an error to be recorded, not the end
    channel = Channel(kind, stdin_fd, stdout_fd, stderr_fd)
    try:
        return SftpServer(channel).serve() if kind == "sftp" else _serve_scp(channel, command)
    except OSError:  # the node no longer listens: nobody is left to tell
        return FAILED


def _serve_scp(channel: Channel, command: str) -> int:
    try:
        request = parse_scp(command)
    except InvalidInput as error:
        channel.say(str(error))
        return FAILED
    if request is None:
        channel.say("scp: this is not what an scp asks for")
        return FAILED
    peer = Peer(channel)
    try:
        _copy(peer, request)
    except Gone:
        return FAILED
    except Refused as refusal:
        peer.fail(str(refusal))
        return FAILED
    return FAILED if peer.failures else 0


def _copy(peer: Peer, request: ScpRequest) -> None:
    if request.sink:
        Sink(peer, request).run()
    else:
        Source(peer, request).run()
