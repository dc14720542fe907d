"""Peers and the TLS towards them: from the manual's keys to gRPC credentials (manual, Using etcd)."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from runtime.backend.options import EtcdOptions
from runtime.core.errors import InvalidSettings, Unavailable

CLIENT_PORT = 2379
"""etcd's port for clients, where a peer's URL names none (IANA service etcd-client)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """One member's address for clients."""

    host: str
    port: int
    tls: bool

    @property
    def address(self) -> str:
        """HOST:PORT, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"


def parse_peer(text: str) -> Peer:
    """Return the peer for a URL; without a scheme https is meant, without a port 2379. Raises InvalidSettings."""
    example = "Write it as https://HOST:2379."
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
        host, port = url.hostname, url.port
    except ValueError as error:
        raise InvalidSettings(f"peers: {text!r} is not a URL: {error}", hint=example) from error
    if url.scheme not in ("https", "http") or not host or url.path.strip("/") or url.query or url.username is not None:
        raise InvalidSettings(f"peers: {text!r} is not the URL of an etcd peer", hint=example)
    return Peer(host, port or CLIENT_PORT, url.scheme == "https")


def parse_peers(options: EtcdOptions) -> list[Peer]:
    """Return the peers of the options, and warn of what is not safe. Raises InvalidSettings."""
    peers = [parse_peer(text) for text in options.peers]
    if not peers:
        raise InvalidSettings("peers: etcd needs at least one", hint="List their URLs, as in [https://etcd-0:2379].")
    for peer in peers:
        if not peer.tls and not _loopback(peer.host):
            _log.warning("etcd peer %s: keys and secrets cross the network unencrypted; use https", peer)
    if options.insecure and any(peer.tls for peer in peers):
        _log.warning("etcd: `insecure: true` accepts any certificate of a peer, which is not recommended")
    return peers


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """The contents of tls_cert_file, tls_key_file and tls_ca_file, checked; None where a file is not set."""

    cert: bytes | None
    key: bytes | None
    ca: bytes | None


def read_tls_files(options: EtcdOptions) -> TLSFiles:
    """Read and check the files (blocking). Raises InvalidSettings that names key and file."""
    if (options.tls_cert_file is None) != (options.tls_key_file is None):
        missing = "tls_key_file" if options.tls_key_file is None else "tls_cert_file"
        raise InvalidSettings(f"{missing} is not set", hint="tls_cert_file and tls_key_file belong together.")
    cert, cert_key = _read("tls_cert_file", options.tls_cert_file, _certificate_key)
    key, private_key = _read("tls_key_file", options.tls_key_file, _private_key)
    ca, _ = _read("tls_ca_file", options.tls_ca_file, _certificate_key)
    if cert_key != private_key:
        raise InvalidSettings(
            f"tls_key_file: {options.tls_key_file} is not the key of the certificate in {options.tls_cert_file}"
        )
    return TLSFiles(cert, key, ca)


def _read(name: str, path: str | None, parse: Callable[[bytes], bytes]) -> tuple[bytes | None, bytes | None]:
    """Return a file's content and the public key in it."""
    if path is None:
        return None, None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidSettings(f"{name}: cannot read {path}: {error.strerror}") from error
    try:
        return content, parse(content)
    except (ValueError, TypeError) as error:  # TypeError: the key is encrypted and no password was given
        kind = "unencrypted private key" if name == "tls_key_file" else "certificate"
        raise InvalidSettings(f"{name}: {path} holds no {kind} in PEM format") from error


def _certificate_key(pem: bytes) -> bytes:
    public = x509.load_pem_x509_certificates(pem)[0].public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _private_key(pem: bytes) -> bytes:
    public = load_pem_private_key(pem, password=None).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a gRPC channel to one peer needs; `name` is the certificate's name to expect instead of the peer's host."""

    channel: Any  # grpc.ChannelCredentials, an opaque handle
    name: str | None = None


async def credentials(peer: Peer, files: TLSFiles, *, insecure: bool) -> Credentials:
    """Return the credentials for a peer with TLS.

    With `insecure` the certificate that it shows now is the one to trust: gRPC cannot be told not to verify. Raises
    OSError where the peer cannot be reached for that, Unavailable where its certificate names nobody.
    """
    if not insecure:
        return Credentials(grpc.ssl_channel_credentials(files.ca, files.key, files.cert))
    shown = x509.load_der_x509_certificate(await _fetch_certificate(peer))
    pinned = grpc.ssl_channel_credentials(shown.public_bytes(Encoding.PEM), files.key, files.cert)
    return Credentials(pinned, _any_name(shown, peer))


async def _fetch_certificate(peer: Peer) -> bytes:
    """Return the certificate that the peer shows, DER, unverified. Raises OSError."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A peer that demands a client certificate still shows its own first; what it says afterwards does not matter here.
    _, writer = await asyncio.open_connection(peer.host, peer.port, ssl=context)
    try:
        shown: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    if shown is None:
        raise ConnectionError("it shows no certificate")
    return shown


def _any_name(certificate: x509.Certificate, peer: Peer) -> str:
    """Return a name that the certificate is good for. Raises Unavailable when it has none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = None
    if names is not None:
        for name in names.get_values_for_type(x509.DNSName):
            return name.replace("*", "any", 1)
        for address in names.get_values_for_type(x509.IPAddress):
            return str(address)
    for attribute in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        return str(attribute.value)
    raise Unavailable(f"the certificate of etcd peer {peer} has no name", hint="Give it a subject alternative name.")
