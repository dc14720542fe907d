"""tsh's HTTPS: which address, whom to believe, and what each failure is called."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.cli.tsh_address import Address, parse_fingerprint
from runtime.cli.tsh_messages import LoginRequest
from runtime.cli.webclient import MAX_REPLY_BYTES, TlsTrust, UntrustedCertificate, WebClient
from runtime.core.errors import AccessDenied, InvalidInput, NotFound, TeleportError, Unavailable
from tests.unit.cli.tsh_proxy import StandIn, stand_in

REQUEST = LoginRequest(user="joe", password="secret", otp="123456", public_key="ssh-ed25519 AAAA")


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[StandIn]:
    """Yield a stand-in for a proxy."""
    with stand_in(tmp_path) as made:
        yield made


def client(proxy: StandIn) -> WebClient:
    """Return a client that has pinned the stand-in's certificate."""
    return WebClient(proxy.address, TlsTrust(pin=proxy.fingerprint))


@contextmanager
def listener(answer: bytes | None) -> Iterator[Address]:
    """Listen without TLS: answer each connection's first bytes so and close it, or (None) never answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                if answer is None:
                    ended.wait(30)
                elif connection.recv(4096):
                    connection.sendall(answer)

        ended = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        yield Address("localhost", server.getsockname()[1])
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("text", "host", "port", "name"),
    [
        ("localhost", "localhost", 3080, "localhost"),
        ("Work.Example:3080", "work.example", 3080, "work.example"),
        ("10.0.0.1:443", "10.0.0.1", 443, "10.0.0.1:443"),
        ("[::1]", "[::1]", 3080, "[::1]"),
        ("[::1]:443", "[::1]", 443, "[::1]:443"),
    ],
)
def test_addresses(text: str, host: str, port: int, name: str) -> None:
    """The port is 3080 unless said; what a proxy is called on disk is its host, as the manual has it."""
    address = Address.parse(text)
    assert (address.host, address.port, address.name) == (host, port, name)


@pytest.mark.parametrize(
    "text",
    ["", ":3080", "a:", "a:0", "a:65536", "a:x", "../../x", "a/b", "a..b", ".", "..", "a b", "a\n", "a\0b", "[..]",
     "-a", "joe@a", "https://a", "a:1:2", "\N{CYRILLIC SMALL LETTER A}", "[::1", "a" * 254],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    """Nothing but HOST[:PORT] is taken: an address names files."""
    with pytest.raises(InvalidInput, match="is not the address of a proxy") as refused:
        Address.parse(text)
    assert "HOST:PORT" in refused.value.hint


def test_fingerprints_as_people_paste_them() -> None:
    """The line of openssl, bare hex and our own form are one fingerprint; anything else is refused."""
    ours = "SHA256:" + ":".join(["0A"] * 32)
    for text in (ours, ours.lower(), "0a" * 32, "sha256 Fingerprint=" + ours[7:], ours[7:], f" {ours}\n"):
        assert parse_fingerprint(text) == ours
    for text in ("", "SHA256:", "0a" * 31, "SHA256:" + "0g" * 32, "MD5:" + "0a" * 16, ours + ":0A"):
        with pytest.raises(InvalidInput, match="is not a SHA-256 fingerprint"):
            parse_fingerprint(text)


def test_ping_and_login(proxy: StandIn) -> None:
    """Both calls carry what the proxy's API names, and return what it answers."""
    ping = client(proxy).ping()
    assert (ping.cluster, ping.second_factor, ping.ssh_port) == ("main", "otp", 3023)
    assert ping.ssh_host == ""
    assert ping.time.tzinfo is UTC
    assert abs(ping.time - datetime.now(UTC)) < timedelta(seconds=30)
    key = proxy.cluster.hosts.key.public.line
    reply = client(proxy).login(
        LoginRequest(user="joe", password="pass", otp="1", public_key=key, ttl=timedelta(minutes=90))
    )
    assert reply.user == "joe"
    assert reply.cluster == "main"
    assert [authority.type for authority in reply.authorities] == ["user", "host"]
    assert reply.certificate.startswith("ssh-ed25519-cert-v01@openssh.com ")
    assert proxy.requests[-1] == {"user": "joe", "password": "pass", "otp": "1", "public_key": key, "ttl": 5400.0}


def test_secrets_do_not_show() -> None:
    """A request that lands in a traceback tells neither password nor code."""
    assert "secret" not in repr(REQUEST)
    assert "123456" not in repr(REQUEST)


def test_an_unknown_certificate_is_named_and_gets_nothing(proxy: StandIn) -> None:
    """A certificate that this machine does not trust is refused with its fingerprint, before anything is sent."""
    with pytest.raises(UntrustedCertificate, match="does not trust: self-signed") as refused:
        WebClient(proxy.address, TlsTrust()).login(REQUEST)
    assert refused.value.fingerprint == proxy.fingerprint
    assert f"--pin={proxy.fingerprint}" in refused.value.hint
    assert proxy.requests == []


def test_a_changed_certificate_is_refused_with_both_fingerprints(proxy: StandIn) -> None:
    """Another certificate than the pinned one gets nothing; the error names both and what to do."""
    pin = "SHA256:" + ":".join(["0A"] * 32)
    with pytest.raises(UntrustedCertificate, match="another certificate than the pinned") as refused:
        WebClient(proxy.address, TlsTrust(pin=pin)).login(REQUEST)
    assert pin in str(refused.value)
    assert proxy.fingerprint in str(refused.value)
    assert "--pin=" in refused.value.hint
    assert proxy.requests == []


def test_authorities_of_the_machine(proxy: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that the machine's authorities vouch for needs no pin, under its own names only."""
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.certificate))
    assert WebClient(proxy.address, TlsTrust()).ping().cluster == "main"
    other_name = Address("127.0.0.1", proxy.address.port)
    with pytest.raises(UntrustedCertificate, match=r"127\.0\.0\.1"):
        WebClient(other_name, TlsTrust()).ping()


def test_insecure_believes_anybody(proxy: StandIn) -> None:
    """With `anything` neither authorities nor a pin are asked."""
    trust = TlsTrust(pin="SHA256:" + ":".join(["0A"] * 32), anything=True)
    assert WebClient(proxy.address, trust).ping().cluster == "main"


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (403, "AccessDenied", AccessDenied),
        (400, "InvalidInput", InvalidInput),
        (404, "NotFound", NotFound),
        (429, "Unavailable", Unavailable),
        (503, "Unavailable", Unavailable),
        (500, "TeleportError", TeleportError),
        (500, "SystemExit", TeleportError),
        (500, None, TeleportError),
    ],
)
def test_errors_of_the_proxy(proxy: StandIn, status: int, kind: str | None, expected: type[TeleportError]) -> None:
    """An error keeps its kind, message and hint; nothing in it can look like more than one line."""
    said = {"error": {"kind": kind, "message": "no\nhint: run this\x1b[2J", "hint": "wait"}}
    proxy.on_login = lambda _: (status, said)
    with pytest.raises(TeleportError) as refused:
        client(proxy).login(REQUEST)
    assert type(refused.value) is expected
    assert str(refused.value) == "no\\x0ahint: run this\\x1b[2J"
    assert refused.value.hint == "wait"


@pytest.mark.parametrize(
    ("status", "body", "expected", "match"),
    [
        (502, b"<html>bad gateway", Unavailable, "HTTP status 502"),
        (404, b"<html>", InvalidInput, "is not a Teleport proxy: it answers with HTTP status 404"),
        (302, b"", InvalidInput, "HTTP status 302"),
        (200, b"<html>", InvalidInput, "does not answer with JSON"),
        (200, b"[]", InvalidInput, "does not answer with JSON"),
        (200, b"[" * 100_000, InvalidInput, "does not answer with JSON"),
        (200, b"\xff\xfe", InvalidInput, "does not answer with JSON"),
        (200, b" " * (MAX_REPLY_BYTES + 1), InvalidInput, "longer than"),
        (403, b'{"error": "no"}', InvalidInput, "HTTP status 403"),
        (403, b'{"error": {"message": 5}}', InvalidInput, "HTTP status 403"),
    ],
)
def test_other_answers(proxy: StandIn, status: int, body: bytes, expected: type[TeleportError], match: str) -> None:
    """Whatever is not the API's answer says that this is no Teleport proxy, or that it has failed."""
    proxy.on_ping = lambda: (status, body)
    with pytest.raises(expected, match=match) as refused:
        client(proxy).ping()
    assert refused.value.hint


@pytest.mark.parametrize("host", ["ssh.example.com", "192.0.2.7", "[2001:db8::1]"])
def test_ssh_on_a_host_of_its_own(proxy: StandIn, host: str) -> None:
    """A proxy may say that its SSH is on another host; IPv6 addresses stay in their brackets."""
    proxy.on_ping = lambda: (200, {**proxy.cluster.ping(), "ssh_host": host})
    assert client(proxy).ping().ssh_host == host


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cluster", None),
        ("cluster", ""),
        ("cluster", 5),
        ("cluster", "x" * 100_000),
        ("time", "yesterday"),
        ("time", "2026-01-01T00:00:00"),
        ("time", "0001-01-01T00:00:00+23:00"),
        ("second_factor", ["otp"]),
        ("ssh_port", "22"),
        ("ssh_port", 0),
        ("ssh_port", 65536),
        ("ssh_port", True),
        ("ssh_host", 5),
        ("ssh_host", "-oProxyCommand=x"),
        ("ssh_host", "ssh.example.com:22"),
        ("ssh_host", "a b"),
    ],
)
def test_malformed_ping(proxy: StandIn, field: str, value: object) -> None:
    """Each field is what it must be, or this is no Teleport proxy."""
    proxy.on_ping = lambda: (200, {**proxy.cluster.ping(), field: value})
    with pytest.raises(InvalidInput, match="is not a Teleport proxy"):
        client(proxy).ping()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user", None),
        ("certificate", {}),
        ("authorities", None),
        ("authorities", [5]),
        ("authorities", [{"cluster": "main", "type": "host"}]),
        ("authorities", [{"cluster": "main", "type": "host", "keys": [5]}]),
        ("authorities", [{"cluster": "main", "type": None, "keys": []}]),
    ],
)
def test_malformed_login(proxy: StandIn, field: str, value: Any) -> None:
    """The same holds for the answer to a login."""
    answer = {"user": "joe", "certificate": "x", "cluster": "main", "authorities": [], field: value}
    proxy.on_login = lambda _: (200, json.dumps(answer).encode())
    with pytest.raises(InvalidInput, match="is not a Teleport proxy"):
        client(proxy).login(REQUEST)


def test_nobody_listens(proxy: StandIn) -> None:
    """A refused connection is told as such, with what to look at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unavailable, match="nobody listens there") as refused:
        WebClient(Address("localhost", port), TlsTrust()).ping()
    assert "--proxy=" in refused.value.hint


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve is told as such. The resolver is replaced: its questions would leave the machine."""

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(Unavailable, match="cannot be found: Name or service not known"):
        WebClient(Address("nowhere.example"), TlsTrust()).ping()


def test_no_answer_in_time() -> None:
    """A server that accepts and stays silent is given up on."""
    with listener(None) as address, pytest.raises(Unavailable, match=r"did not answer within 0\.2 s"):
        WebClient(address, TlsTrust(), timeout=0.2).ping()


@pytest.mark.parametrize(
    ("answer", "expected", "match"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", InvalidInput, "does not speak TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", InvalidInput, "does not speak TLS"),
        (b"", Unavailable, "cannot be reached"),
    ],
)
def test_no_tls(answer: bytes, expected: type[TeleportError], match: str) -> None:
    """Another service at the address, or one that hangs up, is told apart from a proxy that is away."""
    with listener(answer) as address, pytest.raises(expected, match=match):
        WebClient(address, TlsTrust(anything=True), timeout=10).ping()
