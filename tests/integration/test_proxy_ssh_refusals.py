"""Who is not let in at the proxy's SSH port, and what nobody gets there: with the real ssh, and the audit log."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from asyncssh.packet import Boolean, String, UInt32

from runtime.core.callers import CallerKind
from runtime.core.errors import AccessDenied
from runtime.transport.client import connect
from tests.servers.auth_port import host_of
from tests.servers.sshaudit import CLASSICAL, audit
from tests.servers.sshca import Authority
from tests.servers.sshd import LOGIN
from tests.servers.sshproxy import Done, SSHProxyCluster, ssh_proxy

HOUR = timedelta(hours=1)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[SSHProxyCluster]:
    """Yield a cluster with nobody in it."""
    async with ssh_proxy(tmp_path) as cluster:
        yield cluster


def refused(done: Done) -> bool:
    """Tell whether ssh was not let in."""
    return (done.code, done.out) == (255, b"") and "Permission denied (publickey)." in done.err


# --- logins -------------------------------------------------------------------------------------------------------


async def test_a_certificate_that_has_expired(cluster: SSHProxyCluster) -> None:
    """Its holder is told when it ended and what to do; the attempt is in the audit log with the person's name."""
    await cluster.joe()
    done = await cluster.person(ttl=timedelta(minutes=5), age=HOUR).ask("proxysites")
    assert refused(done)
    assert done.err.startswith("teleport: the certificate expired at ")
    assert "teleport: Log in again: tsh login." in done.err
    (event,) = cluster.events("auth")
    assert (event["success"], event["user"], event["login"]) == ("false", "joe", "joe")
    assert event["error"].startswith("the certificate expired at ")
    assert event["addr.remote"].startswith("127.0.0.1:")


async def test_a_user_that_does_not_exist(cluster: SSHProxyCluster) -> None:
    """A certificate that is good is not enough: its user has to exist now."""
    done = await cluster.person("ghost", ["ghost"]).ask("proxysites")
    assert refused(done)
    assert done.err.startswith("teleport: there is no user ghost")
    assert cluster.events("auth")[0]["success"] == "false"


async def test_a_certificate_of_who_had_the_name_before(cluster: SSHProxyCluster) -> None:
    """A user that is declared anew is somebody else."""
    await cluster.joe()
    done = await cluster.person(person="0" * 32).ask("proxysites")
    assert refused(done)
    assert done.err.startswith("teleport: the certificate was issued to who was user joe before")
    assert "teleport: Log in again: tsh login." in done.err


async def test_a_login_that_is_not_the_certificates(cluster: SSHProxyCluster) -> None:
    """Any login of the certificate is taken, another one is not, and those there are, are told."""
    joe = await cluster.joe()
    for login in {"joe", LOGIN}:
        assert (await joe.ask("proxysites", login=login)).code == 0
    done = await joe.ask("proxysites", login="admin")
    assert refused(done)
    assert "not for 'admin'" in done.err.splitlines()[0]


async def test_the_networks_of_a_certificate(cluster: SSHProxyCluster) -> None:
    """A certificate that is good from elsewhere is not good from here."""
    await cluster.joe()
    here, elsewhere = ip_network("127.0.0.0/8"), ip_network("192.0.2.0/24")
    assert (await cluster.person(source_addresses=(here, elsewhere)).ask("proxysites")).code == 0
    done = await cluster.person(source_addresses=(elsewhere,)).ask("proxysites")
    assert refused(done)
    assert "is good from 192.0.2.0/24 only, not from 127.0.0.1" in done.err


async def test_a_certificate_for_one_command(cluster: SSHProxyCluster) -> None:
    """It is refused at the door, since the proxy runs none."""
    await cluster.joe()
    done = await cluster.person(force_command="/bin/true").ask("proxysites")
    assert refused(done)
    assert "for one command" in done.err


async def test_a_stranger_is_told_nothing(cluster: SSHProxyCluster, tmp_path: Path) -> None:
    """With a certificate of another authority, or a plain key, there is neither a way in nor a reason."""
    joe = await cluster.joe()
    id_file, certificate = (option for option in joe.options if option.startswith(("IdentityFile", "CertificateFile")))
    mine = Authority().issue(["joe"], key_id="joe").write(tmp_path, "id")
    for mine_certificate in (f"{mine}-cert.pub", "none"):
        changed = {id_file: f"IdentityFile={mine}", certificate: f"CertificateFile={mine_certificate}"}
        joe.options = [changed.get(option, option) for option in joe.options]
        if mine_certificate == "none":
            mine.with_name("id-cert.pub").unlink()
        done = await joe.ask("proxysites")
        assert refused(done), done.err
        assert "teleport" not in done.err
    assert cluster.events("auth") == []


@pytest.mark.parametrize("role", [CallerKind.NODE, CallerKind.ADMIN])
async def test_members_are_no_users(cluster: SSHProxyCluster, role: CallerKind) -> None:
    """What the host CA signed, to call auth with, opens no proxy; what other proxies may do: test_tunnel_siblings."""
    identity = cluster.identity(role)
    with pytest.raises(AccessDenied, match="does not accept the certificate"):
        await connect(
            "127.0.0.1",
            cluster.address.port,
            name="localhost",
            login=identity.login,
            key=identity.client.key,
            certificate=identity.client.certificate,
            verify_host=lambda name, certificate: None,
        )


async def test_a_user_that_is_deleted_while_connected(cluster: SSHProxyCluster, tmp_path: Path) -> None:
    """A connection that is there stays, and what goes on in it; nothing new begins on it."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        await cluster.node("db1").heartbeat(f"127.0.0.1:{there.getsockname()[1]}")
        joe = await cluster.joe()
        control = ["-o", f"ControlPath={tmp_path}/control"]
        session = await joe.start([*joe.to_proxy()[:-1], *control, "-M", joe.to_proxy()[-1], "-s", "proxy:db1:22"])
        node, _ = await asyncio.to_thread(there.accept)
        with node:
            assert session.stdin is not None
            assert session.stdout is not None
            node.sendall(b"one\n")
            assert await session.stdout.readline() == b"one\n"
            words = ["ssh", "-F", "none", *control, "joe@127.0.0.1", "-s"]
            assert (await joe.run([*words, "proxysites"])).code == 0
            await cluster.delete_user("joe")
            for subsystem in ("proxysites", "proxy:db1:22"):
                done = await joe.run([*words, subsystem])
                assert (done.code, done.out) == (1, b"")
                assert done.err.startswith("teleport: there is no user joe")
            node.sendall(b"two\n")
            assert await session.stdout.readline() == b"two\n"
    assert refused(await joe.ask("proxysites"))


# --- what there is not --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["cat /etc/passwd"], ["scp -f /etc/passwd"]])
async def test_no_shell_and_no_command(cluster: SSHProxyCluster, words: list[str]) -> None:
    """Who wants one is told what to use, and ssh ends with 1."""
    joe = await cluster.joe()
    done = await joe.run([*joe.to_proxy(), *words])
    assert (done.code, done.out) == (1, b"")
    assert done.err.splitlines()[-2:] == [
        "teleport: this is the Teleport proxy of cluster main: it has no shell and runs no commands",
        "teleport: Log in to a node: tsh ssh LOGIN@NODE, or plain ssh as `tsh config` sets it up.",
    ]
    assert len(cluster.events("proxy.rejected")) == 1


async def test_no_terminal(cluster: SSHProxyCluster) -> None:
    """At a terminal the same is told; ssh that insists on a terminal (-tt) gives up."""
    joe = await cluster.joe()
    ours, theirs = pty.openpty()
    shown = ""
    try:
        try:
            process = await asyncio.create_subprocess_exec(*joe.to_proxy(), stdin=theirs, stdout=theirs, stderr=theirs)
        finally:
            os.close(theirs)
        cluster.started(process)
        async with asyncio.timeout(60):
            assert await process.wait() == 1
        with suppress(OSError):  # EIO: nobody has the other end any more, and all was read
            while True:
                shown += os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
    assert "PTY allocation request failed" in shown
    assert "teleport: this is the Teleport proxy of cluster main" in shown
    done = await joe.run([*joe.to_proxy(), "-tt"])
    assert done.code == 255
    assert "PTY allocation request failed" in done.err


async def test_no_files(cluster: SSHProxyCluster, tmp_path: Path) -> None:
    """Neither scp nor sftp find anything on the proxy."""
    joe = await cluster.joe()
    (tmp_path / "file").write_text("text")
    for words in (["scp"], ["scp", "-O"]):
        port = str(cluster.address.port)
        done = await joe.run([*words, *joe.options, "-P", port, f"{tmp_path}/file", f"joe@127.0.0.1:{tmp_path}/copy"])
        assert done.code in (1, 255), done.err
        assert "teleport: " in done.err
    assert not (tmp_path / "copy").exists()


async def test_no_jump(cluster: SSHProxyCluster) -> None:
    """What `ssh -J` and `ssh -W` ask for is refused, with what to use, and audited; also to a node that is there."""
    await cluster.node("db1").heartbeat("127.0.0.1:3022")
    joe = await cluster.joe()
    done = await joe.run(["ssh", "-W", "db1:3022", *joe.to_proxy()[1:]])
    assert (done.code, done.out) == (255, b"")
    assert "administratively prohibited: a Teleport proxy forwards no ports" in done.err
    assert "`tsh config`" in done.err
    (event,) = cluster.events("proxy.rejected")
    assert event["subsystem"] == "direct-tcpip db1:3022"


@pytest.mark.parametrize("forward", ["-R0:127.0.0.1:1", "-R{folder}/socket:127.0.0.1:1"])
async def test_no_remote_forwarding(cluster: SSHProxyCluster, tmp_path: Path, forward: str) -> None:
    """The proxy listens for nobody."""
    joe = await cluster.joe()
    forward = forward.format(folder=tmp_path)
    done = await joe.run(["ssh", "-N", "-o", "ExitOnForwardFailure=yes", forward, *joe.to_proxy()[1:]])
    assert done.code == 255
    assert "remote port forwarding failed for listen" in done.err
    assert not (tmp_path / "socket").exists()


async def test_no_agent_no_environment_and_no_window(cluster: SSHProxyCluster) -> None:
    """What a client may ask for on a channel beside the subsystem is refused, one by one, and the subsystem goes on."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        await cluster.node("db1").heartbeat(f"127.0.0.1:{there.getsockname()[1]}")
        joe = await cluster.joe()
        async with await joe.connect() as connection:
            writer, reader, _ = await connection.open_session(subsystem="proxy:db1:22", encoding=None)
            node, _ = await asyncio.to_thread(there.accept)
            with node:
                requests = {
                    b"env": (String("LD_PRELOAD"), String("/tmp/x.so")),
                    b"auth-agent-req@openssh.com": (),
                    b"x11-req": (Boolean(False), String("MIT-MAGIC-COOKIE-1"), String("00"), UInt32(0)),
                    b"pty-req": (String("xterm"), UInt32(80), UInt32(25), UInt32(0), UInt32(0), String("")),
                    b"exec": (String("id"),),
                    b"subsystem": (String("proxysites"),),
                }
                for name, fields in requests.items():
                    assert await writer.channel._make_request(name, *fields) is False, name
                node.sendall(b"still here")
                assert await reader.read(100) == b"still here"


# --- the port itself ----------------------------------------------------------------------------------------------


async def test_the_certificate_is_renewed(cluster: SSHProxyCluster) -> None:
    """Connections from now on see the new host certificate, without a restart."""
    joe = await cluster.joe()
    assert (await joe.ask("proxysites")).code == 0
    await cluster.proxy.renew(**host_of(cluster.identity(CallerKind.PROXY, "elsewhere")))
    done = await joe.ask("proxysites")
    assert done.code == 255
    assert "Certificate invalid: name is not a listed principal" in done.err
    await cluster.proxy.renew(**host_of(cluster.identity(CallerKind.PROXY, "localhost", ("127.0.0.1",))))
    assert (await joe.ask("proxysites")).code == 0


async def test_ssh_audit_finds_nothing(cluster: SSHProxyCluster) -> None:
    """No `fail`, and no `warn` but that X25519 alone is not safe from a quantum computer."""
    findings = await audit(cluster.address.port)
    assert {(kind, name, level) for kind, name, level, _ in findings} == {("kex", name, "warn") for name in CLASSICAL}
