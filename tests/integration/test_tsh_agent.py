"""Keys in an ssh-agent: with the real ssh-agent and ssh-add, and with sockets that only look like one."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.cli import sshagent, tsh_agent
from runtime.cli.profile import Keys, Profile
from runtime.cli.tsh_address import Address
from runtime.cli.tsh_certificate import read_login
from runtime.core.errors import InvalidInput, NotFound, Unavailable
from runtime.pki.certificate import read_certificate
from runtime.pki.keys import KeyAlgorithm, generate_key
from runtime.pki.wire import read_line
from tests.servers.processes import Process
from tests.unit.cli.tsh_proxy import Cluster

PROFILE = Profile(Address("localhost"), "joe")


def keys(user: str = "joe") -> Keys:
    """Return a fresh login of an hour."""
    key = generate_key()
    said = Cluster().login({"user": user, "public_key": key.public.line, "ttl": 3600})
    return Keys(key.to_openssh(), key.public.line, said["certificate"])


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """Yield the socket of a running ssh-agent, which is in the foreground and ended by its pid."""
    path = tmp_path / "agent"
    with Process(["ssh-agent", "-D", "-a", path], log=tmp_path / "log") as process:
        process.wait_until(path.is_socket, timeout=10)
        yield path


def listed(agent: Path) -> list[str]:
    """Return what `ssh-add -l` says, a line a key."""
    done = subprocess.run(
        ["ssh-add", "-l"], env={**os.environ, "SSH_AUTH_SOCK": str(agent)}, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    return done.stdout.splitlines() if done.returncode == 0 else []


def test_a_login_is_listed(agent: Path) -> None:
    """ssh-add -l shows the certificate and whose it is; another login's stays beside it, an older one's does not."""
    tsh_agent.add(agent, PROFILE, keys(), now())
    other = Profile(Address("localhost", 4080), "ann")
    tsh_agent.add(agent, other, keys("ann"), now())
    tsh_agent.add(agent, PROFILE, keys(), now())
    assert [line.split(maxsplit=2)[2] for line in listed(agent)] == [
        "teleport:ann@localhost:4080 (ED25519-CERT)",
        "teleport:joe@localhost (ED25519-CERT)",
    ]
    assert tsh_agent.remove(agent, PROFILE, ["joe"]) == ["teleport:joe@localhost"]
    assert len(listed(agent)) == 1
    assert tsh_agent.remove(agent, PROFILE, ["joe"]) == []


def test_foreign_keys_stay(agent: Path, tmp_path: Path) -> None:
    """A person's own key is not removed, whatever its comment says."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "teleport:joe@localhost", "-f", tmp_path / "own"],
        check=True, timeout=30,
    )  # fmt: skip
    subprocess.run(
        ["ssh-add", "-q", tmp_path / "own"], env={**os.environ, "SSH_AUTH_SOCK": str(agent)}, check=True, timeout=30
    )
    tsh_agent.add(agent, PROFILE, keys(), now())
    assert tsh_agent.remove(agent, PROFILE, ["joe"]) == ["teleport:joe@localhost"]
    assert [line.rsplit(" ", 1)[1] for line in listed(agent)] == ["(ED25519)"]


def test_the_key_leaves_when_the_certificate_ends(agent: Path) -> None:
    """The agent is told how long: it drops the key by itself, here after one second."""
    login = keys()
    ends = read_login(read_certificate(login.certificate.encode())).valid_before
    tsh_agent.add(agent, PROFILE, login, ends - timedelta(seconds=1))
    assert len(listed(agent)) == 1
    deadline = time.monotonic() + 20
    while listed(agent):
        assert time.monotonic() < deadline, "the agent still has the key"
        time.sleep(0.1)


def test_the_agent_signs_with_the_key(agent: Path, tmp_path: Path) -> None:
    """What was added is the private key itself: ssh-keygen signs with it through the agent, and the signature holds."""
    login = keys()
    tsh_agent.add(agent, PROFILE, login, now())
    public = tmp_path / "id.pub"
    public.write_text(login.certificate)
    signed = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-n", "test", "-f", public], input="text", capture_output=True, text=True,
        env={**os.environ, "SSH_AUTH_SOCK": str(agent)}, timeout=30, check=True,
    )  # fmt: skip
    signature = tmp_path / "signature"
    signature.write_text(signed.stdout)
    subprocess.run(
        ["ssh-keygen", "-Y", "check-novalidate", "-n", "test", "-s", signature], input="text", text=True,
        capture_output=True, timeout=30, check=True,
    )  # fmt: skip


def test_other_keys_are_refused(agent: Path) -> None:
    """Only Ed25519 is added, which is what tsh makes."""
    key = generate_key(KeyAlgorithm.ECDSA_P256)
    login = keys()
    with pytest.raises(InvalidInput, match="only Ed25519"):
        tsh_agent.add(agent, PROFILE, Keys(key.to_openssh(), key.public.line, login.certificate), now())
    with sshagent.connect(agent) as connected, pytest.raises(InvalidInput, match="only Ed25519"):
        connected.add(seed=b"", certificate=b"\0\0\0\x01x", comment="", lifetime=timedelta(1))


def test_nobody_listens(tmp_path: Path) -> None:
    """An agent that has ended, and a name that cannot be a socket, are unavailable."""
    for path in (tmp_path / "gone", tmp_path, tmp_path / ("x" * 200), Path("a\0b")):
        with pytest.raises(Unavailable, match="no ssh-agent answers"), sshagent.connect(path):
            pass


@contextmanager
def answering(folder: Path, answer: bytes | None) -> Iterator[Path]:
    """Listen like an agent that gives this answer to anything and hangs up, or (None) gives none."""
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        ended = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(4096)
                if answer is None:
                    ended.wait(30)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"\0\0\0\x01\x05", "does not list its keys"),
        (b"\0\0\0\x00", "is no ssh-agent"),
        (b"HTTP/1.1 400", "is no ssh-agent"),
        (b"\0\0\0\x09\x0c", "hung up"),
        (b"", "hung up"),
        (b"\0\0\0\x05\x0c\0\0\0", "hung up"),
        (b"\0\0\0\x09\x0c\0\0\0\x01\xff\xff\xff\xff", "in the middle of a field"),
        (b"\0\0\0\x01\x0c", "in the middle of a field"),
    ],
)
def test_no_agent_at_all(tmp_path: Path, answer: bytes, match: str) -> None:
    """Whatever else listens there is told in one error, and nothing of its answer is trusted."""
    with answering(tmp_path, answer) as path, sshagent.connect(path) as agent, pytest.raises(Unavailable, match=match):
        agent.entries()


def test_a_count_that_is_a_lie(tmp_path: Path) -> None:
    """An agent that says it holds four billion keys and sends none holds none."""
    with answering(tmp_path, b"\0\0\0\x05\x0c\xff\xff\xff\xff") as path, sshagent.connect(path) as agent:
        assert agent.entries() == []


def test_an_agent_that_does_not_answer(tmp_path: Path) -> None:
    """A frozen agent is given up on."""
    with (
        answering(tmp_path, None) as path,
        sshagent.connect(path, timeout=0.2) as agent,
        pytest.raises(Unavailable, match="timed out"),
    ):
        agent.entries()


def test_an_agent_that_refuses(tmp_path: Path) -> None:
    """An agent may refuse a key, a locked one does."""
    login = keys()
    _, blob = read_line(login.certificate.encode())
    with (
        answering(tmp_path, b"\0\0\0\x01\x05") as path,
        sshagent.connect(path) as agent,
        pytest.raises(Unavailable, match="does not take the key"),
    ):
        agent.add(seed=bytes(32), certificate=blob, comment="", lifetime=timedelta(1))


def test_starting_an_agent() -> None:
    """`tsh agent` starts the installed ssh-agent with the login in it, its socket in a folder that is ours alone."""
    started = tsh_agent.start(PROFILE, keys(), now())
    try:
        assert listed(started.socket)[0].endswith("teleport:joe@localhost (ED25519-CERT)")
        assert started.socket.parent.stat().st_mode & 0o777 == 0o700
        assert re.fullmatch(
            rf"SSH_AUTH_SOCK={started.socket}; export SSH_AUTH_SOCK;\n"
            rf"SSH_AGENT_PID={started.pid}; export SSH_AGENT_PID;\necho Agent pid {started.pid};",
            started.as_shell(),
        )
        pid, lines = tsh_agent.kill({**os.environ, "SSH_AGENT_PID": str(started.pid)})
        assert pid == started.pid
        assert "unset SSH_AUTH_SOCK;" in lines
    finally:
        with suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGTERM)


def test_killing_no_agent() -> None:
    """Without SSH_AGENT_PID, or with something else in it, nothing is ended; nor is what is no longer there."""
    for environment in ({}, {"SSH_AGENT_PID": ""}, {"SSH_AGENT_PID": "-1"}, {"SSH_AGENT_PID": "1; x"}):
        with pytest.raises(InvalidInput, match="no agent is named by SSH_AGENT_PID"):
            tsh_agent.kill(environment)
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(Unavailable, match="ssh-agent -k failed"):
        tsh_agent.kill({**os.environ, "SSH_AGENT_PID": str(ended.pid)})


def test_without_openssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no ssh-agent is installed, the error says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="ssh-agent is not installed") as refused:
        tsh_agent.start(PROFILE, keys(), now())
    assert "openssh-client" in refused.value.hint


def test_an_agent_that_cannot_be_filled_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the key cannot be added the agent that was started for it does not stay behind."""
    sockets: list[Path] = []

    def fail(socket: Path, *_: object) -> None:
        assert socket.is_socket()
        sockets.append(socket)
        raise Unavailable("it is full")

    monkeypatch.setattr(tsh_agent, "add", fail)
    with pytest.raises(Unavailable, match="it is full"):
        tsh_agent.start(PROFILE, keys(), now())
    deadline = time.monotonic() + 20
    while sockets[0].exists():
        assert time.monotonic() < deadline, "the agent's socket is still there"
        time.sleep(0.05)
