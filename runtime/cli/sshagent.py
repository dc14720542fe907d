"""The client's half of the ssh-agent protocol (draft-ietf-sshm-ssh-agent), as far as tsh needs it.

Spoken to whatever listens on SSH_AUTH_SOCK: OpenSSH's ssh-agent, or another program that speaks the protocol. Of keys
only Ed25519 with a certificate are added: tsh makes no others.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from runtime.core.errors import InvalidInput, TeleportError, Unavailable

# draft-ietf-sshm-ssh-agent, "Protocol Numbers".
_FAILURE = 5
_SUCCESS = 6
_REQUEST_IDENTITIES = 11
_IDENTITIES_ANSWER = 12
_REMOVE_IDENTITY = 18
_ADD_ID_CONSTRAINED = 25
_CONSTRAIN_LIFETIME = 1

_CERTIFICATE_TYPE = b"ssh-ed25519-cert-v01@openssh.com"
_PUBLIC_BYTES = 32
_MAX_MESSAGE_BYTES = 256 * 1024
"""OpenSSH's agent takes and sends no more (ssh-agent.c, AGENT_MAX_LEN)."""
TIMEOUT = 5.0
"""Seconds that an agent may take to answer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that an agent holds: its blob, a certificate's if it has one, and its comment."""

    blob: bytes
    comment: str

    @property
    def is_certificate(self) -> bool:
        """Whether the agent holds a certificate with the key."""
        return self.blob[4:].startswith(_CERTIFICATE_TYPE)


class Agent:
    """A connection to an agent, made by `connect`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def entries(self) -> list[Entry]:
        """Return what the agent holds, in its order. Raises Unavailable."""
        answer = self._ask(bytes([_REQUEST_IDENTITIES]))
        if answer[:1] != bytes([_IDENTITIES_ANSWER]):
            raise _refused("list its keys")
        reader = _Reader(answer[1:])
        # Not by what it says their number is: that may be anything.
        count = reader.number()
        entries: list[Entry] = []
        while reader.left and len(entries) < count:
            entries.append(Entry(reader.string(), reader.string().decode(errors="replace")))
        return entries

    def add(self, *, seed: bytes, certificate: bytes, comment: str, lifetime: timedelta) -> None:
        """Add an Ed25519 key (`seed`: its 32 private bytes) with its certificate (the blob); gone after `lifetime`.

        Lifetimes are whole seconds, at least one. Raises Unavailable when the agent refuses.
        """
        public = _public_of(certificate)
        message = b"".join(
            [
                bytes([_ADD_ID_CONSTRAINED]),
                _string(_CERTIFICATE_TYPE),
                _string(certificate),
                # draft-ietf-sshm-ssh-agent, "EDDSA certificates": ENC(A), then k || ENC(A).
                _string(public),
                _string(seed + public),
                _string(comment.encode()),
                bytes([_CONSTRAIN_LIFETIME]),
                max(1, int(lifetime.total_seconds())).to_bytes(4, "big"),
            ]
        )
        if self._ask(message)[:1] != bytes([_SUCCESS]):
            raise _refused("take the key")

    def remove(self, blob: bytes) -> bool:
        """Remove a key; return whether it was there. Raises Unavailable."""
        return self._ask(bytes([_REMOVE_IDENTITY]) + _string(blob))[:1] == bytes([_SUCCESS])

    def _ask(self, message: bytes) -> bytes:
        """Send a message and return the answer, without their lengths."""
        try:
            self._sock.sendall(_string(message))
            size = int.from_bytes(self._receive(4), "big")
            if not 0 < size <= _MAX_MESSAGE_BYTES:
                raise Unavailable("what listens on SSH_AUTH_SOCK is no ssh-agent", hint=_HINT)
            return self._receive(size)
        except OSError as error:
            raise _away(error) from error

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._sock.recv(size - len(data))
            if not piece:
                raise ConnectionResetError("it hung up")
            data += piece
        return data


_HINT = "Start one with: eval $(tsh agent), or log in with --no-agent."


@contextmanager
def connect(path: Path, *, timeout: float = TIMEOUT) -> Iterator[Agent]:
    """Connect to the agent that listens on a socket. Raises Unavailable."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(str(path))
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise _away(error) from error
        yield Agent(sock)


class _Reader:
    """Takes numbers and strings off the front of an agent's answer (RFC 4251 §5)."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def left(self) -> bool:
        return bool(self._data)

    def number(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def string(self) -> bytes:
        return self._take(self.number())

    def _take(self, size: int) -> bytes:
        if size > len(self._data):
            raise Unavailable("the ssh-agent's answer ends in the middle of a field", hint=_HINT)
        taken, self._data = self._data[:size], self._data[size:]
        return taken


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _public_of(certificate: bytes) -> bytes:
    """Return the Ed25519 public key in a certificate: type, nonce, key (PROTOCOL.certkeys). Raises InvalidInput."""
    reader = _Reader(certificate)
    if reader.string() == _CERTIFICATE_TYPE:
        reader.string()
        public = reader.string()
        if len(public) == _PUBLIC_BYTES:
            return public
    raise InvalidInput("only Ed25519 keys with a certificate can be added to an ssh-agent", hint="Log in again.")


def _refused(what: str) -> Unavailable:
    return Unavailable(f"the ssh-agent does not {what}", hint=_HINT)


def _away(error: Exception) -> TeleportError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Unavailable(f"no ssh-agent answers on SSH_AUTH_SOCK: {reason}", hint=_HINT)
