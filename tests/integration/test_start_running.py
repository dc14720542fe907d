"""What a running `teleport start` does: reload, limits, diagnostics, logs, and where its configuration comes from."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.member_messages import RenewRequest
from runtime.api.messages import Nothing
from runtime.api.people_messages import UserRequest
from runtime.api.token_messages import TokenValue
from runtime.core.errors import InvalidInput, TeleportError
from tests.servers.processes import free_port
from tests.servers.teleport import Config, Teleport, admin

OLD, NEW = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[Teleport]:
    """Yield an auth server that serves."""
    with Teleport(tmp_path / "auth").start() as teleport:
        yield teleport


def get(url: str) -> tuple[int, str]:
    """Return status and body of a page."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - a loopback URL of ours
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


# --- SIGHUP -----------------------------------------------------------------------------------------------------------


def test_sighup_takes_the_severity(tmp_path: Path) -> None:
    """After SIGHUP the log shows what the file says now; with a broken file all goes on as before."""
    quiet, talkative = {"output": "stderr", "severity": "ERROR"}, {"output": "stderr", "severity": "INFO"}
    diag = f"127.0.0.1:{free_port()}"
    with Teleport(tmp_path / "auth", config={"teleport": {"log": quiet, "diag_addr": diag}}) as teleport:
        teleport.launch().wait_until(lambda: answers(f"http://{diag}/readyz"), timeout=60)
        assert teleport.log() == ""
        teleport.config_file.write_text("teleport: {log: {severity: LOUD}}")
        teleport.signal(signal.SIGHUP)
        teleport.wait_for_log("not reloaded, going on as before: ")
        assert "expected ERROR, WARN, INFO or DEBUG" in teleport.log()
        teleport.configure({"teleport": {"log": talkative}})
        teleport.signal(signal.SIGHUP)
        teleport.wait_for_log("INFO  service.lifecycle: reloaded")
        assert get(f"http://{diag}/readyz") == (200, "ok\n")


def test_sighup_takes_the_certificate(tmp_path: Path) -> None:
    """A proxy shows the new HTTPS certificate after SIGHUP, without a restart."""
    with Teleport(tmp_path / "all", ("auth", "proxy")).start() as teleport:
        before = ssl.get_server_certificate(("127.0.0.1", teleport.web_port))
        (pem,) = teleport.data_dir.glob("*.pem")
        pem.unlink()  # it is self-signed: a new one is made
        teleport.signal(signal.SIGHUP)
        teleport.wait_for_log("reloaded")
        assert ssl.get_server_certificate(("127.0.0.1", teleport.web_port)) != before


# --- limits -----------------------------------------------------------------------------------------------------------


def test_max_connections_holds(tmp_path: Path) -> None:
    """Beyond connection_limits.max_connections a connection is closed unread; when one has gone the next is served."""
    limits = {"teleport": {"connection_limits": {"max_connections": 2}}}
    with Teleport(tmp_path / "auth", config=limits).start() as teleport:
        first, second, third = (greeting(teleport.auth_port) for _ in range(3))
        assert [first[1], second[1], third[1]] == [b"SSH-2.0-", b"SSH-2.0-", b""]
        for sock, _ in (first, second, third):
            sock.close()
        teleport.process.wait_until(lambda: greeted(teleport.auth_port), timeout=10)


def greeting(port: int) -> tuple[socket.socket, bytes]:
    """Connect, and return the connection with the first bytes that the server says; none if it hangs up."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        return sock, sock.recv(8)
    except ConnectionResetError:
        return sock, b""


def greeted(port: int) -> bool:
    """Tell whether a connection is served."""
    sock, said = greeting(port)
    sock.close()
    return bool(said)


# --- diagnostics ------------------------------------------------------------------------------------------------------


def answers(url: str) -> bool:
    """Tell whether a page says ok."""
    try:
        return get(url)[0] == 200
    except OSError:
        return False


async def test_health_readiness_and_metrics(tmp_path: Path) -> None:
    """/healthz and /readyz say ok, /metrics counts what happened; no other page is there."""
    diag = f"127.0.0.1:{free_port()}"
    with Teleport(tmp_path / "auth").start(f"--diag-addr={diag}") as teleport:
        async with admin(teleport) as client:
            await client.call(methods.TOKENS_LIST, Nothing())
            with pytest.raises(TeleportError):
                await client.call(methods.RENEW, RenewRequest(name="x", public_key="x"))
        assert get(f"http://{diag}/healthz") == (200, "ok\n")
        assert get(f"http://{diag}/readyz") == (200, "ok\n")
        assert get(f"http://{diag}/")[0] == 404
        status, text = get(f"http://{diag}/metrics")
        assert status == 200
        lines = text.splitlines()
        assert 'teleport_build_info{version="0.1.0"} 1.0' in lines
        assert "teleport_ready 1.0" in lines
        assert 'teleport_auth_refused_total{event="call.refused"} 1.0' in lines
        assert any(line.startswith('teleport_heartbeats_total{result="success",role="auth"}') for line in lines)
        assert any(line.startswith('teleport_backend_requests_total{operation="get"}') for line in lines)


def test_not_ready_while_it_waits(tmp_path: Path) -> None:
    """A newcomer that waits for auth is healthy and not ready."""
    diag = f"127.0.0.1:{free_port()}"
    member = Teleport(tmp_path / "node", ("node",), auth_servers=["127.0.0.1:1"], token=OLD)
    with member:
        member.launch(f"--diag-addr={diag}").wait_until(lambda: answers(f"http://{diag}/healthz"), timeout=60)
        assert get(f"http://{diag}/readyz") == (503, "starting\n")


# --- where the configuration comes from -------------------------------------------------------------------------------


async def static_tokens(teleport: Teleport) -> set[str]:
    """Return the static tokens that hold."""
    async with admin(teleport) as client:
        tokens = (await client.call(methods.TOKENS_LIST, Nothing())).tokens
    return {entry.token for entry in tokens if entry.static}


async def second_factor(teleport: Teleport) -> str:
    """Return what a login asks for beside the password."""
    async with admin(teleport) as client:
        return (await client.call(methods.PING, Nothing())).second_factor


def file(token: str, factor: str, *, dynamic: bool) -> dict[str, Config]:
    """Return settings with this token and second factor."""
    return {
        "auth_service": {
            "dynamic_config": dynamic,
            "tokens": [f"node:{token}"],
            "authentication": {"second_factor": factor},
        }
    }


async def test_without_dynamic_config_the_file_is_the_truth(tmp_path: Path) -> None:
    """At each start the file's tokens and second factor hold; users that tctl made stay."""
    with Teleport(tmp_path / "auth", config=file(OLD, "otp", dynamic=False)).start() as teleport:
        async with admin(teleport) as client:
            await client.call(methods.USERS_CREATE, UserRequest(name="joe"))
        assert (await static_tokens(teleport), await second_factor(teleport)) == ({OLD}, "otp")
        teleport.stop()
        teleport.configure(file(NEW, "off", dynamic=False))
        teleport.start()
        assert (await static_tokens(teleport), await second_factor(teleport)) == ({NEW}, "off")
        async with admin(teleport) as client:
            assert [user.name for user in (await client.call(methods.USERS_LIST, Nothing())).users] == ["joe"]


async def test_with_dynamic_config_the_storage_is_the_truth(tmp_path: Path) -> None:
    """The file counts once, then the storage; what another auth server publishes there is followed live."""
    with Teleport(tmp_path / "auth", config=file(OLD, "otp", dynamic=True)).start() as teleport:
        assert (await static_tokens(teleport), await second_factor(teleport)) == ({OLD}, "otp")
        teleport.stop()
        teleport.configure(file(NEW, "off", dynamic=True))
        teleport.start()
        assert "are not what the storage holds, and the storage counts" in teleport.log()
        assert (await static_tokens(teleport), await second_factor(teleport)) == ({OLD}, "otp")
        storage = {"type": "sqlite", "path": str(teleport.data_dir / "backend.sqlite")}
        publisher = Teleport(tmp_path / "publisher", config=file(NEW, "off", dynamic=False))
        publisher.configure({"teleport": {"storage": storage}})
        with publisher.start():
            await asyncio.to_thread(teleport.wait_for_log, "the configuration in the storage has changed, and holds")
        assert (await static_tokens(teleport), await second_factor(teleport)) == ({NEW}, "off")


async def test_a_static_token_cannot_be_revoked(tmp_path: Path) -> None:
    """Revoking it is refused, and says where it stands."""
    with Teleport(tmp_path / "auth", config=file(OLD, "otp", dynamic=False)).start() as teleport:
        async with admin(teleport) as client:
            with pytest.raises(InvalidInput, match="static token"):
                await client.call(methods.TOKENS_DELETE, TokenValue.model_validate({"token": OLD}))


# --- the log ----------------------------------------------------------------------------------------------------------


def test_stdout_takes_the_log_where_it_is_asked_for(tmp_path: Path) -> None:
    """output: stdout sends each entry there, one a line with time and severity, and nothing to stderr."""
    with Teleport(
        tmp_path / "auth", config={"teleport": {"log": {"output": "stdout", "severity": "INFO"}}}
    ) as teleport:
        teleport.launch().wait_until(lambda: "ready: " in teleport.output(), timeout=60)
        assert teleport.log() == ""
        for line in teleport.output().splitlines():
            assert line[23:31] in ("Z INFO  ", "Z WARN  "), line


def test_debug_flag_wins_over_the_file(tmp_path: Path) -> None:
    """-d logs everything of ours to stderr, whatever the file says, and still no secret."""
    log = {"output": "stdout", "severity": "ERROR"}
    config: dict[str, Config] = {"teleport": {"log": log}, **file(OLD, "otp", dynamic=False)}
    with Teleport(tmp_path / "auth", config=config).start("-d") as teleport:
        teleport.wait_for_log("DEBUG service.member: heartbeat of auth taken")
        assert teleport.output() == ""
        assert OLD not in teleport.log()
        for identity in teleport.data_dir.glob("*.identity"):
            assert json.loads(identity.read_text())["key"] not in teleport.log()
