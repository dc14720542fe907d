"""Who gets in at our SSH ports: findings A1, A4, A5 and A7 of docs/adr/0005, and the real ssh."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest
from asyncssh.auth import MSG_USERAUTH_PK_OK
from asyncssh.constants import MSG_USERAUTH_FAILURE, MSG_USERAUTH_SUCCESS
from cryptography.hazmat.primitives.serialization import SSHCertificateType

from runtime.core.errors import AccessDenied
from runtime.transport.capture import ServerConnection
from runtime.transport.client import connect
from runtime.transport.guards import Peer
from runtime.transport.server import Handler
from tests.servers.rawssh import raw_client
from tests.servers.sshca import Authority, rsa_key, sha1_certificate
from tests.servers.sshport import pattern, port, stock_port, until

OUTCOMES = (MSG_USERAUTH_SUCCESS, MSG_USERAUTH_FAILURE)


async def ssh(
    folder: Path, number: int, hosts: Authority, identity: Path, login: str, *extra: str, command: str = "whoami"
) -> tuple[int, str]:
    """Run the real ssh and return its exit status and what it printed."""
    known = folder / "known_hosts"
    known.write_bytes(b"@cert-authority * " + hosts.line + b"\n")
    options = {
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "BatchMode": "yes",
        "ConnectTimeout": "20",
    }
    arguments = ["ssh", "-F", "none", "-p", str(number), "-i", str(identity)]
    for name, value in options.items():
        arguments += ["-o", f"{name}={value}"]
    process = await asyncio.create_subprocess_exec(
        *arguments,
        *extra,
        f"{login}@127.0.0.1",
        command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode("latin-1")


async def test_real_ssh_logs_in_with_a_certificate(tmp_path: Path) -> None:
    """OpenSSH verifies our host certificate, shows a user certificate, and the handler knows login and identity."""
    async with port() as server:
        identity = server.users.issue(["joe"]).write(tmp_path, "id")
        assert await ssh(tmp_path, server.number, server.hosts, identity, "joe") == (0, "joe known\n")
        assert [proved.login for proved in server.proved] == ["joe"]


async def test_real_ssh_survives_many_key_exchanges(tmp_path: Path) -> None:
    """With new keys every 64 KiB a megabyte arrives whole: nothing is lost around a key exchange."""
    async with port() as server:
        identity = server.users.issue(["joe"]).write(tmp_path, "id")
        status, output = await ssh(
            tmp_path, server.number, server.hosts, identity, "joe", "-o", "RekeyLimit=64K", command="send 1000000"
        )
        assert status == 0
        assert output.encode("latin-1") == pattern(1_000_000)


@pytest.mark.parametrize("case", ["plain key", "other login", "expired", "not yet valid", "other authority"])
async def test_real_ssh_is_refused(tmp_path: Path, case: str) -> None:
    """A plain key, a certificate for another login, out of its time or by another authority does not get in."""
    async with port() as server:
        login = "root" if case == "other login" else "joe"
        times = {"expired": {"begins": -600.0, "lasts": -1.0}, "not yet valid": {"begins": 600.0}}.get(case, {})
        authority = Authority() if case == "other authority" else server.users
        identity = authority.issue(["joe"], **times).write(tmp_path, "id")  # type: ignore[arg-type]  # only the times
        if case == "plain key":
            (tmp_path / "id-cert.pub").unlink()
        status, output = await ssh(tmp_path, server.number, server.hosts, identity, login)
        assert status == 255
        assert "Permission denied (publickey)" in output
        assert server.proved == []
        assert {peer.host for peer, _ in server.refusals} == {"127.0.0.1"}
        assert {"plain key": "plain key", "other login": "principals", "other authority": "not trusted"}.get(
            case, "not valid"
        ) in server.reasons


async def test_real_ssh_refuses_our_port_with_another_host_authority(tmp_path: Path) -> None:
    """What convinces ssh is our host certificate: with another authority in known_hosts it goes away."""
    async with port() as server:
        identity = server.users.issue(["joe"]).write(tmp_path, "id")
        status, output = await ssh(tmp_path, server.number, Authority(), identity, "joe")
        assert status == 255
        assert "Host key verification failed" in output


async def test_a7_the_handler_gets_the_certificate_itself() -> None:
    """Extensions that asyncssh drops, key id, serial and the bytes are in what the handler is given."""
    async with port() as server, raw_client(server.number) as client:
        roles = (b"roles@teleport.internal", b'["dev"]')
        shown = server.users.issue(["joe", "dev"], extensions=[roles])
        assert await client.log_in("joe", shown)
        await until(lambda: server.proved, "the handler is made")
        proved = server.proved[0]
        assert (proved.login, proved.identity, proved.certificate) == ("joe", "known", shown.certificate)
        assert proved.peer == Peer("127.0.0.1", proved.peer.port)
        assert proved.parsed.serial == 7
        assert proved.parsed.extensions == {roles[0]: roles[1]}


async def test_a7_a_certificate_that_was_only_offered_counts_for_nothing() -> None:
    """A second certificate, asked about but not proved, does not take the place of the proved one (CVE-2024-45337)."""
    async with port() as server, raw_client(server.number) as client:
        own, others = server.users.issue(["joe"], key_id="joe"), server.users.issue(["joe"], key_id="admin")
        client.query("joe", others.blob)
        await client.expect(MSG_USERAUTH_PK_OK)
        (connection,) = server.listener._connections
        assert isinstance(connection, ServerConnection)
        assert connection.proved is None
        client.prove("joe", own)
        client.query("joe", others.blob)
        await client.expect(MSG_USERAUTH_SUCCESS)
        await until(lambda: server.proved, "the handler is made")
        assert [proved.certificate for proved in server.proved] == [own.certificate]


async def test_a7_somebody_elses_certificate_is_not_proved_with_ones_own_key() -> None:
    """A signature by another key than the certificate's is refused."""
    async with port() as server, raw_client(server.number) as client:
        own, others = server.users.issue(["joe"]), server.users.issue(["joe"])
        client.prove("joe", own, blob=others.blob)
        assert (await client.expect(*OUTCOMES))[0] == MSG_USERAUTH_FAILURE
        assert server.proved == []
        assert "signature is not valid" in server.reasons


async def test_a7_unknown_critical_option_is_refused() -> None:
    """A certificate with a critical option that we do not enforce does not get in; without it, it would."""
    async with port() as server, raw_client(server.number) as client:
        assert not await client.log_in("joe", server.users.issue(["joe"], critical=[b"verify-required"]))
        assert "critical options" in server.reasons
        assert await client.log_in("joe", server.users.issue(["joe"]))


async def test_a1_another_user_name_ends_the_connection() -> None:
    """After a request for one login, a request for another is the end, even with a good certificate for both."""
    async with port() as server, raw_client(server.number) as client:
        shown = server.users.issue(["joe", "root"])
        client.query("joe", shown.blob)
        await client.expect(MSG_USERAUTH_PK_OK)
        client.prove("root", shown)
        assert "Change of user name" in await client.ended()
        assert server.proved == []
        assert server.reasons == "Change of user name not allowed"


async def test_a1_another_user_name_in_the_same_segment_ends_the_connection() -> None:
    """The proof for one login and a request for another, sent at once, do not become a login of the other."""
    async with port() as server, raw_client(server.number) as client:
        client.prove("joe", server.users.issue(["joe"]))
        client.request("root", "none")
        assert "Change of user name" in await client.ended()
        assert [proved.login for proved in server.proved if proved.login != "joe"] == []


async def test_a1_control_asyncssh_alone_lets_the_user_name_change() -> None:
    """Control: without us, the second user name is served."""
    users = Authority()
    async with stock_port(users) as (number, _), raw_client(number) as client:
        shown = users.issue(["joe", "root"])
        client.query("joe", shown.blob)
        await client.expect(MSG_USERAUTH_PK_OK)
        assert await client.log_in("root", shown)


async def test_a1_a_signature_for_one_login_is_none_for_another() -> None:
    """The login is part of what is signed."""
    async with port() as server, raw_client(server.number) as client:
        client.prove("root", server.users.issue(["joe", "root"]), sign_as="joe")
        assert (await client.expect(*OUTCOMES))[0] == MSG_USERAUTH_FAILURE


async def test_a1_the_recorded_login_must_be_the_proved_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should asyncssh record another login than the one that was proved, the connection is cut before a handler."""
    original = asyncssh.SSHServerConnection.set_extra_info

    def lie(self: asyncssh.SSHServerConnection, **values: object) -> None:
        original(self, **{name: "root" if name == "username" else value for name, value in values.items()})

    monkeypatch.setattr(asyncssh.SSHServerConnection, "set_extra_info", lie)
    async with port() as server, raw_client(server.number) as client:
        client.prove("joe", server.users.issue(["joe"]))
        await client.ended()
        assert server.proved == []
        assert "not the one that asyncssh recorded" in server.reasons


async def test_a4_a_certificate_without_principals_is_refused() -> None:
    """It names nobody, so it lets nobody in, whatever the service's own check says."""
    async with (
        port(validate=lambda _login, _certificate, _peer: "anybody") as server,
        raw_client(server.number) as client,
    ):
        assert not await client.log_in("joe", server.users.issue([]))
        assert "no principals" in server.reasons
        assert await client.log_in("joe", server.users.issue(["joe"]))


async def test_a4_control_asyncssh_alone_accepts_it_for_every_login() -> None:
    """Control: without us, a certificate without principals is everybody's."""
    users = Authority()
    async with stock_port(users) as (number, _), raw_client(number) as client:
        assert await client.log_in("root", users.issue([]))


@pytest.mark.parametrize(
    ("algorithm", "welcome"), [(b"ssh-rsa", False), (b"rsa-sha2-256", True), (b"rsa-sha2-512", True)]
)
async def test_a5_the_users_signature_must_not_use_sha1(algorithm: bytes, welcome: bool) -> None:
    """With the same RSA certificate, SHA-2 gets in and SHA-1 does not."""
    async with port() as server, raw_client(server.number) as client:
        client.prove("joe", server.users.issue(["joe"], key=rsa_key(3072)), signature=algorithm)
        assert ((await client.expect(*OUTCOMES))[0] == MSG_USERAUTH_SUCCESS) is welcome
        assert ("signed with ssh-rsa" in server.reasons) is not welcome


async def test_a5_the_authoritys_signature_must_not_use_sha1() -> None:
    """A certificate that its RSA authority signed with SHA-1 is refused; with SHA-2 the same authority is believed."""
    async with port() as server, raw_client(server.number) as client:
        server.users = Authority(rsa_key(3072))
        assert not await client.log_in("joe", sha1_certificate(rsa_key(3072), ["joe"]))
        assert "signed with ssh-rsa" in server.reasons
        assert await client.log_in("joe", server.users.issue(["joe"]))


@pytest.mark.parametrize("whose", ["user", "authority"])
async def test_a5_short_rsa_keys_are_refused(whose: str) -> None:
    """RSA keys below 3,072 bits do not count, neither the holder's nor the authority's."""
    async with port() as server, raw_client(server.number) as client:
        if whose == "authority":
            server.users = Authority(rsa_key(2048))
        shown = server.users.issue(["joe"], key=rsa_key(2048) if whose == "user" else None)
        assert not await client.log_in("joe", shown)
        assert "2048 bits" in server.reasons


async def test_a5_control_asyncssh_alone_accepts_sha1_and_short_keys() -> None:
    """Control: without us, an RSA key of 2,048 bits signing with SHA-1 gets in."""
    users = Authority()
    async with stock_port(users) as (number, _), raw_client(number) as client:
        client.prove("joe", users.issue(["joe"], key=rsa_key(2048)), signature=b"ssh-rsa")
        assert (await client.expect(*OUTCOMES))[0] == MSG_USERAUTH_SUCCESS


async def test_a_host_certificate_does_not_log_in() -> None:
    """A certificate of type host is not a user's, even from the authority that is trusted."""
    async with port() as server, raw_client(server.number) as client:
        assert not await client.log_in("joe", server.users.issue(["joe"], kind=SSHCertificateType.HOST, extensions=()))
        assert "host certificate" in server.reasons


@pytest.mark.parametrize("method", ["password", "keyboard-interactive", "hostbased", "gssapi-with-mic"])
async def test_only_public_keys_are_offered(method: str) -> None:
    """Every other method fails, and the answer names publickey alone."""
    async with port() as server, raw_client(server.number) as client:
        client.request("joe", method)
        _, failure = await client.expect(MSG_USERAUTH_FAILURE)
        assert failure.get_namelist() == [b"publickey"]


async def test_a_plain_key_is_refused_whatever_the_service_says() -> None:
    """The service is not even asked about a key without a certificate."""
    async with (
        port(validate=lambda _login, _certificate, _peer: "anybody") as server,
        raw_client(server.number) as client,
    ):
        shown = server.users.issue(["joe"])
        plain = asyncssh.import_private_key(shown.key).public_data
        client.prove("joe", shown, blob=plain)
        assert (await client.expect(*OUTCOMES))[0] == MSG_USERAUTH_FAILURE
        assert "plain key" in server.reasons


@pytest.mark.parametrize(
    "blob", [b"", b"\xff", b"\0\0\0\x01", b"\0\0\0\x07ssh-rsa", b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com"]
)
async def test_garbage_for_a_key_is_refused(blob: bytes) -> None:
    """What is neither key nor certificate gets a clear refusal, and the connection may try again."""
    async with port() as server, raw_client(server.number) as client:
        client.query("joe", blob)
        await client.expect(MSG_USERAUTH_FAILURE)
        assert len(server.refusals) == 1
        assert await client.log_in("joe", server.users.issue(["joe"]))


async def test_the_services_refusal_is_reported_with_its_reason() -> None:
    """AccessDenied from the service is the reason that is logged and reported, once for each time it was asked."""

    def never(login: str, _certificate: bytes, peer: Peer) -> str:
        raise AccessDenied(f"{login} of {peer.host} is locked")

    async with port(validate=never) as server, raw_client(server.number) as client:
        assert not await client.log_in("joe", server.users.issue(["joe"]))
        assert server.reasons == "login 'joe': joe of 127.0.0.1 is locked"


async def test_a_handler_that_overrides_nothing_refuses_everything() -> None:
    """By default no session, forwarding, listener or agent is given to anybody who is logged in."""
    async with port(handler=lambda _proved, _connection: Handler()) as server:
        me = server.users.issue(["joe"])
        async with await connect(
            "127.0.0.1",
            server.number,
            name="server.example",
            login="joe",
            key=me.key,
            certificate=me.certificate,
            verify_host=lambda _name, _certificate: None,
        ) as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.run("whoami")
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", server.number)
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_unix_connection("/nowhere")
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", server.number)
