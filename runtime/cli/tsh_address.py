"""What names a proxy: its address, and its TLS certificate's fingerprint."""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import dataclass

from runtime.core.defaults import PROXY_WEB_PORT
from runtime.core.errors import InvalidInput

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_ADDRESS_HINT = "Write it as HOST or HOST:PORT, as in --proxy=proxy.example.com:3080; an IPv6 address in brackets."


@dataclass(frozen=True, slots=True)
class Address:
    """Where a proxy serves HTTPS. `host` is a name in lower case, an IPv4 address, or an IPv6 address in brackets."""

    host: str
    port: int = PROXY_WEB_PORT

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that `HOST[:PORT]` names. Raises InvalidInput.

        The name is used as the name of files too: nothing that is let through leaves a folder.
        """
        host, colon, port = text.lower().rpartition(":") if not text.endswith("]") else (text.lower(), "", "")
        if not colon:
            host, port = host or port, str(PROXY_WEB_PORT)
        known = _is_ipv6(host[1:-1]) if host[:1] + host[-1:] == "[]" else _HOST.fullmatch(host)
        if not known or not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
            raise InvalidInput(f"{text[:80]!a} is not the address of a proxy", hint=_ADDRESS_HINT)
        return cls(host, int(port))

    @property
    def name(self) -> str:
        """The name of this proxy in ~/.tsh: its host, as in the manual, and the port only where it is not 3080."""
        return self.host if self.port == PROXY_WEB_PORT else str(self)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def _is_ipv6(text: str) -> bool:
    try:
        return bool(socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):  # ValueError: a NUL in it
        return False


def fingerprint_of(certificate: bytes) -> str:
    """Return a TLS certificate's name, `SHA256:` and pairs of hex digits, as `openssl x509 -fingerprint` has them."""
    return "SHA256:" + hashlib.sha256(certificate).digest().hex(":").upper()


def parse_fingerprint(text: str) -> str:
    """Return the fingerprint in our form; colons, case and a `SHA256:` before it do not matter. Raises InvalidInput."""
    digits = re.sub(r"^(sha256[ :]?)?(fingerprint=)?|:", "", text.strip().lower())
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise InvalidInput(
            f"{text[:120]!a} is not a SHA-256 fingerprint",
            hint="It is 64 hex digits; on the proxy: openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE",
        )
    return "SHA256:" + bytes.fromhex(digits).hex(":").upper()
