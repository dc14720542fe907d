"""asyncssh's own settings, each one stated: what a default would be is not left to the release that is installed.

What these cannot express is in `guards` and `capture`. The defaults that they replace are listed in docs/adr/0005.
"""

from __future__ import annotations

from typing import Any

import asyncssh
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_certificate_algs

from runtime.core.errors import InvalidInput
from runtime.transport import algorithms
from runtime.transport.limits import Limits

Options = dict[str, Any]
"""Keyword arguments of asyncssh's option classes, whose values have no type in common."""


def common_options(limits: Limits) -> Options:
    """Return what both ends of every connection are set to."""
    return {
        "config": None,  # no file of anybody's is read
        "kex_algs": algorithms.available(algorithms.KEY_EXCHANGE, get_kex_algs()),
        "encryption_algs": algorithms.available(algorithms.CIPHERS, get_encryption_algs()),
        "mac_algs": algorithms.available(algorithms.MACS, get_mac_algs()),
        "compression_algs": None,  # "none" (A8)
        "signature_algs": list(algorithms.SIGNATURES),
        "x509_trusted_certs": None,  # no X.509 certificates
        "gss_host": None,
        "gss_kex": False,
        "gss_auth": False,
        "host_based_auth": False,
        "public_key_auth": True,
        "kbdint_auth": False,
        "password_auth": False,
        "rekey_bytes": limits.rekey_bytes,
        "rekey_seconds": limits.rekey_seconds,
        "login_timeout": limits.login_grace,
        "keepalive_interval": limits.keepalive_interval,
        "keepalive_count_max": limits.keepalive_count,
    }


def server_options(
    limits: Limits, *, host_key: bytes, host_certificate: bytes, forward_agent: bool = False, forward_x11: bool = False
) -> Options:
    """Return the settings of a listener; key and certificate are the contents of OpenSSH files.

    Raises InvalidInput when these cannot be read or do not belong together.
    """
    return common_options(limits) | {
        "server_version": "Teleport",  # which release it is, only those inside may know
        # The certificate first, and the bare key for clients that know of no certificates.
        "server_host_keys": key_pairs(host_key, host_certificate),
        "authorized_client_keys": None,
        "agent_forwarding": forward_agent,
        "x11_forwarding": forward_x11,
        "allow_scp": False,
        "line_editor": False,
        "line_echo": False,
        "encoding": None,  # bytes: not all that programs print is UTF-8
        "window": limits.window,
        "tcp_keepalive": True,
        "rdns_lookup": False,
    }


def client_options(
    limits: Limits, *, login: str, name: str, key: bytes, certificate: bytes, agent_path: str | None = None
) -> Options:
    """Return the settings of a client that logs in with that certificate at the server certified as `name`.

    The agent at `agent_path`, if one is given, is lent to the server; it is never asked for a key to log in with.

    Raises InvalidInput when key and certificate cannot be read or do not belong together.
    """
    return common_options(limits) | {
        "client_version": "Teleport",
        "username": login,
        "client_keys": key_pairs(key, certificate)[:1],  # the certificate; a bare key is never offered
        "known_hosts": asyncssh.import_known_hosts(""),  # nothing but `verify_host`; None would trust everybody
        "host_key_alias": name,
        "server_host_key_algs": algorithms.available(algorithms.HOST_CERTIFICATES, get_certificate_algs()),
        "preferred_auth": "publickey",
        "disable_trivial_auth": True,
        "agent_path": None,
        "agent_forwarding": agent_path or False,
        "pkcs11_provider": None,
        "client_host_keysign": False,
    }


def key_pairs(key: bytes, certificate: bytes) -> list[asyncssh.SSHKeyPair]:
    """Return a private key twice: showing its certificate, and bare.

    Raises InvalidInput when either cannot be read or they do not belong together.
    """
    try:
        private = asyncssh.import_private_key(key)
        pairs = asyncssh.load_keypairs([(private, asyncssh.import_certificate(certificate))])
    except (ValueError, asyncssh.KeyImportError) as error:
        raise InvalidInput(f"the SSH key and its certificate cannot be used: {error}") from error
    return list(pairs)
