"""Our SSH client: the server is known by a certificate that the caller approves, or not at all."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from cryptography.hazmat.primitives.serialization import SSHCertificateType

from runtime.core.errors import AccessDenied, InvalidInput, Unavailable
from runtime.transport.algorithms import SIGNATURES
from runtime.transport.client import ClientConnection, connect
from runtime.transport.options import key_pairs
from runtime.transport.server import Handler
from tests.servers.sshca import Authority, Credential, rsa_key
from tests.servers.sshport import port, stock_port


def approve(_name: str, _certificate: bytes) -> None:
    """Approve of every certificate."""


async def dial(number: int, me: Credential, **changes: Any) -> ClientConnection:
    """Connect as joe to server.example, or as the changes say."""
    settings: dict[str, Any] = {
        "name": "server.example",
        "login": "joe",
        "key": me.key,
        "certificate": me.certificate,
        "verify_host": approve,
        **changes,
    }
    return await connect("127.0.0.1", number, **settings)


async def test_a_command_runs_over_our_client_and_server() -> None:
    """Both ends of ours understand one another, and the caller was shown the name and the very host certificate."""
    shown: list[tuple[str, bytes]] = []
    async with port() as server:
        me = server.users.issue(["joe"])
        async with await dial(
            server.number, me, verify_host=lambda name, certificate: shown.append((name, certificate))
        ) as connection:
            result = await connection.run("whoami", encoding=None)
            assert result.stdout == b"joe known\n"
            assert connection.host_certificate is not None
            assert shown == [("server.example", connection.host_certificate.line)]
            parsed = connection.host_certificate.parsed
            assert parsed.valid_principals == [b"server.example", b"127.0.0.1", b"localhost"]


async def test_the_first_choice_is_post_quantum_and_uncompressed() -> None:
    """Between two of ours the algorithms are the first of our lists."""
    async with port() as server, await dial(server.number, server.users.issue(["joe"])) as connection:
        assert connection.get_extra_info("send_cipher") == "chacha20-poly1305@openssh.com"
        assert connection.get_extra_info("send_compression") == "none"
        assert connection._kex_algs[0] == b"mlkem768x25519-sha256"


async def test_a_server_that_the_caller_denies_is_denied_with_the_callers_reason() -> None:
    """AccessDenied of `verify_host` ends the connection before any login, with its reason and hint."""

    def deny(name: str, _certificate: bytes) -> None:
        raise AccessDenied(f"no authority for {name} is known", hint="Add it.")

    async with port() as server:
        with pytest.raises(AccessDenied, match=r"no authority for server\.example is known") as caught:
            await dial(server.number, server.users.issue(["joe"]), verify_host=deny)
        assert caught.value.hint == "Add it."
        assert server.asked == []


async def test_a_certificate_for_another_name_is_denied() -> None:
    """Even if the caller approves of everything, the name must be among the principals."""
    async with port() as server:
        with pytest.raises(AccessDenied, match=r"other\.example"):
            await dial(server.number, server.users.issue(["joe"]), name="other.example")
        assert server.asked == []


async def test_a_plain_host_key_is_denied() -> None:
    """A server without a certificate is not talked to, whatever the caller approves of."""
    users = Authority()
    async with stock_port(users) as (number, _):
        with pytest.raises(AccessDenied) as caught:
            await dial(number, users.issue(["joe"]))
        assert "host certificate" in caught.value.hint


class _Lenient(asyncssh.SSHServer):
    """Lets every certificate in."""

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return True


async def serve_with(host: asyncssh.SSHKeyPair, server: type[asyncssh.SSHServer] = _Lenient) -> asyncssh.SSHAcceptor:
    """Start asyncssh's own server with that host certificate: ours would not have it."""
    return await asyncssh.listen(
        "127.0.0.1",
        0,
        config=None,
        server_factory=server,
        server_host_keys=[host],
        gss_host=None,
    )


@pytest.mark.parametrize("case", ["good", "no principals", "expired", "a user's", "short key"])
async def test_a_bad_host_certificate_is_denied(case: str) -> None:
    """A4 and A5 for hosts: no principals, out of its time, a user's, a short key; a good one is accepted."""
    hosts = Authority()
    kind = SSHCertificateType.HOST
    issued = {
        "good": lambda: hosts.host("server.example"),
        "no principals": lambda: hosts.host(),
        "expired": lambda: hosts.issue(["server.example"], kind=kind, begins=-60, lasts=-1, extensions=()),
        "a user's": lambda: hosts.issue(["server.example"], extensions=()),
        "short key": lambda: hosts.issue(["server.example"], kind=kind, key=rsa_key(2048), extensions=()),
    }[case]()
    acceptor = await serve_with(key_pairs(issued.key, issued.certificate)[0])
    me = Authority().issue(["joe"])
    try:
        if case == "good":
            async with await dial(acceptor.get_port(), me) as connection:
                assert connection.host_certificate is not None
        else:
            with pytest.raises(AccessDenied):
                await dial(acceptor.get_port(), me)
    finally:
        acceptor.close()
        await acceptor.wait_closed()


@pytest.mark.parametrize("signed_with", ["rsa-sha2-512", "ssh-rsa"])
async def test_a_host_that_signs_with_sha1_is_denied(signed_with: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A5 for hosts: one that agrees on rsa-sha2-512 and signs with SHA-1 is not believed; one that keeps to it is."""
    host = Authority().issue(["server.example"], kind=SSHCertificateType.HOST, key=rsa_key(3072), extensions=())
    key = asyncssh.import_private_key(host.key)
    shown, _ = key_pairs(host.key, host.certificate)
    agreed: list[bytes] = []

    def sign(data: bytes) -> bytes:
        agreed.append(shown.sig_algorithm)
        return key.sign(data, signed_with.encode())

    monkeypatch.setattr(shown, "sign", sign)
    acceptor = await serve_with(shown)
    me = Authority().issue(["joe"])
    try:
        if signed_with in SIGNATURES:
            async with await dial(acceptor.get_port(), me) as connection:
                assert connection.host_certificate is not None
        else:
            with pytest.raises(AccessDenied):
                await dial(acceptor.get_port(), me)
        assert agreed == [b"rsa-sha2-512"]
    finally:
        acceptor.close()
        await acceptor.wait_closed()


async def test_a_refused_login_is_access_denied() -> None:
    """A certificate that the server does not accept is AccessDenied, with the login in the message."""
    async with port() as server:
        with pytest.raises(AccessDenied, match="login 'joe'"):
            await dial(server.number, Authority().issue(["joe"]))


async def test_the_plain_key_is_never_offered() -> None:
    """Our client shows its certificate only: one refusal, and it is not about a plain key."""
    async with port() as server:
        with pytest.raises(AccessDenied):
            await dial(server.number, Authority().issue(["joe"]))
        assert server.reasons == "login 'joe': the authority is not trusted"


async def test_nobody_there_is_unavailable() -> None:
    """A closed port is Unavailable, and the message says where."""
    async with port() as server:
        number = server.number
    with pytest.raises(Unavailable, match=f"127.0.0.1 port {number}"):
        await dial(number, Authority().issue(["joe"]))


async def test_a_server_that_says_nothing_is_unavailable_in_time() -> None:
    """A port that accepts and is silent costs the caller no more than the time it gave."""
    accepted: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _reader, writer: accepted.append(writer), "127.0.0.1", 0)
    async with silent:
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await dial(silent.sockets[0].getsockname()[1], Authority().issue(["joe"]), connect_timeout=0.2)
        for writer in accepted:
            writer.close()
            await writer.wait_closed()


async def test_an_address_that_swallows_connections_costs_little() -> None:
    """Where no connection comes about, less time is lost than a login may take."""
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # what does not fit behind it is dropped without a word, as by a pod that is gone
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await dial(full.getsockname()[1], Authority().issue(["joe"]), reach_timeout=0.2)


async def test_a_server_that_is_reached_has_its_time() -> None:
    """The time to be reached is no limit on the login."""
    accepted: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _reader, writer: accepted.append(writer), "127.0.0.1", 0)
    async with silent:
        number = silent.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match=r"within 0\.6 s"):
            await dial(number, Authority().issue(["joe"]), connect_timeout=0.6, reach_timeout=0.5)
        for writer in accepted:
            writer.close()
            await writer.wait_closed()


async def test_no_agent_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that happens to run is not even connected to, refused or not."""
    asked: list[asyncio.StreamWriter] = []
    agent = await asyncio.start_unix_server(lambda _reader, writer: asked.append(writer), tmp_path / "agent")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    async with agent, port() as server:
        with pytest.raises(AccessDenied):
            await dial(server.number, Authority().issue(["joe"]))
        assert asked == []


async def test_a_key_without_its_certificate_is_invalid() -> None:
    """Key and certificate must belong together; nothing is dialled otherwise."""
    users = Authority()
    mixed = Credential(users.issue(["joe"]).key, users.issue(["joe"]).certificate)
    with pytest.raises(InvalidInput, match="cannot be used"):
        await dial(1, mixed)


async def test_a_new_host_certificate_is_shown_to_new_connections() -> None:
    """`update` changes what the next client sees; the one that is connected stays connected."""
    async with port() as server:
        me = server.users.issue(["joe"])
        async with await dial(server.number, me) as before:
            renewed = server.hosts.host("server.example")
            await server.listener.update(host_key=renewed.key, host_certificate=renewed.certificate)
            async with await dial(server.number, me) as after:
                assert after.host_certificate is not None
                assert after.host_certificate.line == renewed.certificate
            assert (await before.run("whoami", encoding=None)).stdout == b"joe known\n"


async def test_a_server_that_asks_for_no_proof_is_denied() -> None:
    """A server that lets everybody in without a signature is not ours: we do not go on with it."""
    host = Authority().host("server.example")

    class _Open(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

    acceptor = await serve_with(key_pairs(host.key, host.certificate)[0], _Open)
    try:
        with pytest.raises(AccessDenied):
            await dial(acceptor.get_port(), Authority().issue(["joe"]))
    finally:
        acceptor.close()
        await acceptor.wait_closed()


async def test_through_another_connection() -> None:
    """With `tunnel` the second connection runs inside the first, and the name, not the address, is verified."""

    class _Forwarding(Handler):
        def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
            return True

    async with (
        port() as inner,
        port(handler=lambda _proved, _connection: _Forwarding()) as outer,
        await dial(outer.number, outer.users.issue(["joe"])) as first,
        await dial(inner.number, inner.users.issue(["joe"]), tunnel=first) as second,
    ):
        assert (await second.run("whoami", encoding=None)).stdout == b"joe known\n"


async def test_a_user_without_a_name_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's user needs a name, which a container's, or one without a free file, may not have."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nameless)
    with pytest.raises(Unavailable, match="local username") as caught:
        await dial(1, Authority().issue(["joe"]))
    assert "LOGNAME" in caught.value.hint
