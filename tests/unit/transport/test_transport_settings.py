"""Algorithm lists, asyncssh's settings and the releases that are tested."""

from __future__ import annotations

import subprocess
import sys

import asyncssh
import pytest
from asyncssh.public_key import get_public_key_algs

from runtime.transport import algorithms
from runtime.transport.limits import Limits
from runtime.transport.options import client_options, server_options
from runtime.transport.versions import require_tested
from tests.servers.sshca import Authority

HOST = Authority().host("server.example")
USER = Authority().issue(["joe"])


def test_nothing_weak_is_on_the_lists() -> None:
    """No SHA-1, no DSA, no NIST curve in the key exchange, no CBC, no MAC before encryption."""
    everything = [
        *algorithms.KEY_EXCHANGE,
        *algorithms.CIPHERS,
        *algorithms.MACS,
        *algorithms.SIGNATURES,
        *algorithms.HOST_CERTIFICATES,
    ]
    assert not [name for name in everything if "sha1" in name or "dss" in name or "cbc" in name or "md5" in name]
    assert not [name for name in everything if name.startswith("ssh-rsa")]
    assert not [name for name in algorithms.KEY_EXCHANGE if "nistp" in name]
    assert all("-etm@" in name for name in algorithms.MACS)


def test_available_keeps_our_order() -> None:
    """What asyncssh lacks is left out, and its own order does not matter."""
    assert algorithms.available(("a", "b", "c"), [b"c", b"x", b"a"]) == ["a", "c"]


def test_the_server_offers_exactly_this() -> None:
    """What asyncssh makes of our settings: the lists, one kind of login, nothing forwarded, bytes as they are."""
    options = asyncssh.SSHServerConnectionOptions(
        **server_options(Limits(), host_key=HOST.key, host_certificate=HOST.certificate)
    )
    assert options.kex_algs[0] == b"mlkem768x25519-sha256"
    assert set(options.kex_algs) <= {name.encode() for name in algorithms.KEY_EXCHANGE}
    assert [name.decode() for name in options.encryption_algs] == list(algorithms.CIPHERS)
    assert options.compression_algs == [b"none"]
    assert [name.decode() for name in options.signature_algs] == algorithms.available(
        algorithms.SIGNATURES, get_public_key_algs()
    )
    assert (options.public_key_auth, options.password_auth, options.kbdint_auth) == (True, False, False)
    assert (options.host_based_auth, options.gss_auth, options.gss_kex) == (False, False, False)
    assert (options.agent_forwarding, options.x11_forwarding, options.allow_scp) == (False, False, False)
    assert (options.encoding, options.line_editor) == (None, False)
    assert (options.keepalive_interval, options.keepalive_count_max) == (15, 3)
    assert (options.rekey_bytes, options.rekey_seconds, options.login_timeout) == (1024**3, 3600, 30)
    assert options.authorized_client_keys is None
    assert list(options.server_host_keys) == [b"ssh-ed25519-cert-v01@openssh.com", b"ssh-ed25519"]


def test_forwarding_is_on_when_asked_for() -> None:
    """The node asks for agent and X11 forwarding; nobody else does."""
    asked = server_options(
        Limits(), host_key=HOST.key, host_certificate=HOST.certificate, forward_agent=True, forward_x11=True
    )
    options = asyncssh.SSHServerConnectionOptions(**asked)
    assert (options.agent_forwarding, options.x11_forwarding) == (True, True)


def test_the_client_uses_nothing_but_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration, no default keys, no bare host keys, and `known_hosts` is never None."""
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere/agent")
    settings = client_options(Limits(), login="joe", name="server.example", key=USER.key, certificate=USER.certificate)
    options = asyncssh.SSHClientConnectionOptions(**settings)
    assert options.known_hosts is not None
    assert options.agent_forward_path is None
    assert [pair.algorithm for pair in options.client_keys or []] == [b"ssh-ed25519-cert-v01@openssh.com"]
    assert all("-cert-v01@" in name for name in settings["server_host_key_algs"])
    assert settings["config"] is None


@pytest.mark.parametrize("release", ["2.24.1", "2.24.9", "2.24.10"])
def test_tested_releases_of_asyncssh(release: str) -> None:
    """The series that the overrides were read against is accepted."""
    require_tested(release)


@pytest.mark.parametrize("release", ["2.24.0", "2.23.9", "2.25.0", "3.0.0", "2.25.0b1"])
def test_other_releases_of_asyncssh_say_what_to_do(release: str) -> None:
    """An override that nothing calls any more guards nothing: another release is an error, with the way out in it."""
    with pytest.raises(ImportError, match=rf"asyncssh {release} is installed.*docs/adr/0005"):
        require_tested(release)


def test_the_pure_parts_do_not_import_asyncssh() -> None:
    """Limits, lists and rules cost no second of start-up time."""
    modules = "limits, admission, algorithms, certificate, versions"
    code = f"from runtime.transport import {modules}; import sys; sys.exit('asyncssh' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    loaded = subprocess.run([sys.executable, "-c", code.replace(modules, "guards")], check=False, timeout=60)
    assert loaded.returncode == 1
