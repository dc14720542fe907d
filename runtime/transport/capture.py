"""What we add to the login of asyncssh's server connection: the certificate that was proved, and only that one.

Each override names the finding of docs/adr/0005 that it answers and what asyncssh 2.24.1 does without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from asyncssh import SSHServerConnection
from asyncssh.constants import DISC_NO_MORE_AUTH_METHODS_AVAILABLE, MSG_USERAUTH_REQUEST
from asyncssh.misc import DisconnectError, MaybeAwait, ProtocolError
from asyncssh.packet import SSHPacket
from cryptography.hazmat.primitives.serialization import SSHCertificate, SSHCertificateType

from runtime.core.errors import AccessDenied
from runtime.transport.algorithms import SIGNATURES
from runtime.transport.certificate import Shown, check_certificate, signature_algorithm
from runtime.transport.guards import Guards, Peer, fields_of

logger = logging.getLogger(__name__)

IdentityT = TypeVar("IdentityT")

_HANDLERS_TO_DECIDE = frozenset({"port-forwarding", "agent-forwarding"})

Validate = Callable[[str, bytes, Peer], IdentityT]
"""Says who the holder of a certificate is: `(login, certificate line, peer) → identity`. Raises AccessDenied.

It must not block and cannot await: a login decided in between would be another's (A1). It is asked before the holder
has proved to have the key, and once more when it has.
"""


@dataclass(frozen=True, slots=True)
class Proved(Generic[IdentityT]):
    """Who is at the other end: the login that was approved with a certificate whose key the peer proved to hold."""

    login: str
    certificate: bytes = field(repr=False)
    """Its line, as in a -cert.pub file without a comment."""
    parsed: SSHCertificate = field(repr=False)
    """What it says, extensions that asyncssh does not know included."""
    identity: IdentityT
    peer: Peer
    local: Peer
    """The address of ours that it came to."""


@dataclass(frozen=True, slots=True)
class Denied:
    """A login that our own check refused, and with what; that the peer has the certificate's key is not proved."""

    login: str
    certificate: bytes | None = field(repr=False)
    """Its line; None when what was shown is no certificate that could be considered."""
    error: AccessDenied
    peer: Peer
    local: Peer


OnDenied = Callable[[Denied], str]
"""Told of each login that was denied; returns what the person may know of the reason, or nothing for a stranger."""


class ServerConnection(Guards, SSHServerConnection, Generic[IdentityT]):
    """asyncssh's server connection with our guards. `proved` is None until the peer has shown a key to be its own."""

    proved: Proved[IdentityT] | None = None
    attempted = False
    """Whether the peer has tried to log in at all."""
    grace_exceeded = False
    _login: str | None = None
    _failures = 0
    _approved: Shown | None = None
    _explained = False

    def accept_with(self, validate: Validate[IdentityT], on_denied: OnDenied | None = None) -> None:
        """Set who decides, and who is told of a denial; called once, right after construction."""
        self._validate = validate
        self._on_denied = on_denied

    @property
    def local(self) -> Peer:
        """The address of ours that the peer came to."""
        address = self.get_extra_info("sockname") or ("", 0)
        return Peer(str(address[0]), int(address[1]))

    async def reload_config(self) -> None:
        """Do nothing: there is no configuration file, so no login waits for a free thread (A1)."""

    def _process_userauth_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> MaybeAwait[None]:
        # A1: 2.24.1 lets the user name change with each request. sshd ends such a connection too.
        fields = fields_of(packet)
        login, _service, method = (
            fields.get_string().decode("utf-8", "replace"),
            fields.get_string(),
            fields.get_string(),
        )
        if self._login is not None and login != self._login:
            raise ProtocolError("Change of user name not allowed")
        if self._login is None and method == b"none":
            self._failures -= 1  # A8: it asks which methods there are; sshd does not count that either
        self._login = login
        return super()._process_userauth_request(pkttype, pktid, packet)

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """Return whether that certificate may log in as that user; `msg` is empty in the query that precedes a proof.

        A7: 2.24.1 shows its callbacks the authority's key only. A4, A5: and has no rule for principals or algorithms.
        """
        self.attempted = True
        self._approved = None
        shown: Shown | None = None
        try:
            if msg and signature_algorithm(signature) not in SIGNATURES:
                raise AccessDenied(f"it signed with {signature_algorithm(signature)[:64]}, which is not accepted")
            shown = check_certificate(key_data, SSHCertificateType.USER)
            identity = self._validate(username, shown.line, self.peer)
        except AccessDenied as error:
            self._denied(Denied(username, shown.line if shown else None, error, self.peer, self.local))
            return False
        # Only a certificate that passed reaches asyncssh, which checks dates, principals, source address, signature.
        self._approved = shown
        if not await super().validate_public_key(username, key_data, msg, signature):
            self.refused(f"login {username[:64]!r}: the certificate or the signature is not valid for it, here and now")
            return False
        if msg:
            self.proved = Proved(username, shown.line, shown.parsed, identity, self.peer, self.local)
        return True

    def _denied(self, denied: Denied) -> None:
        """Log a denial, report it, and tell the person why, where that is for this person to know.

        A client that goes on to its next certificate has shown the first reason by then: one banner is enough.
        """
        reason = f"login {denied.login[:64]!r}: {denied.error}"
        if self._on_denied is None:
            self.refused(reason)
            return
        logger.warning("refused %s port %d: %s", *denied.peer, reason)
        text = self._on_denied(denied)
        if text and not self._explained and not self.is_closed():
            self._explained = True
            self.send_auth_banner(f"{text}\r\n")

    def approves_authority(self) -> bool:
        """Return whether the certificate now in asyncssh's hands is one that our own check has passed."""
        return self._approved is not None

    def check_certificate_permission(self, permission: str) -> bool:
        """Leave it to the handler whether the certificate permits a forward, so that it can say and audit why not.

        A7: 2.24.1 looks at the options of the certificate that was offered last. A handler that overrides nothing
        refuses; one that does has the proved one.
        """
        return permission in _HANDLERS_TO_DECIDE or super().check_certificate_permission(permission)

    def _process_cancel_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        # 2.24.1 ends the connection of a client that cancels what was refused; sshd answers that it failed.
        fields = SSHPacket(packet.get_remaining_payload())
        key = fields.get_string().decode("utf-8", "replace").lower(), fields.get_uint32()
        if key in self._local_listeners:
            super()._process_cancel_tcpip_forward_global_request(packet)
        else:
            self._report_global_response(False)

    def _process_cancel_streamlocal_forward_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        fields = SSHPacket(packet.get_remaining_payload())
        if fields.get_string().decode("utf-8", "replace") in self._local_listeners:
            super()._process_cancel_streamlocal_forward_at_openssh_dot_com_global_request(packet)
        else:
            self._report_global_response(False)

    def send_userauth_failure(self, partial_success: bool) -> None:
        """Count the failure, and end the connection with the last one allowed.

        A8: 2.24.1 lets a peer try until the login time is over.
        """
        self._failures += 1
        if self._failures >= self.limits.tries:
            raise DisconnectError(DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures")
        super().send_userauth_failure(partial_success)

    def _login_timer_callback(self) -> None:
        self.grace_exceeded = True
        self.refused(f"no login within {self.limits.login_grace:g} s")
        super()._login_timer_callback()

    _packet_handlers = {  # noqa: RUF012  # the base class's own form
        **Guards._packet_handlers,
        MSG_USERAUTH_REQUEST: _process_userauth_request,
    }
