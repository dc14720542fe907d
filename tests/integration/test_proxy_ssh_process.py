"""The manual's way with plain ssh, on real processes: auth, nodes, and two proxies of one cluster."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.servers.people import Person, certify, declare, user
from tests.servers.processes import free_port
from tests.servers.sshd import LOGIN
from tests.servers.teleport import Teleport

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def main(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Yield a process with auth, a proxy and a node, in which joe exists."""
    folder = tmp_path_factory.mktemp("main")
    tokens = {"auth_service": {"tokens": [f"node,proxy:{TOKEN}"]}}
    with Teleport(folder / "main", ("auth", "proxy", "node"), config=tokens) as main:
        main.configure({"teleport": {"nodename": "db1"}})
        main.start()
        declare(main, user("joe", ["joe", LOGIN] if LOGIN != "joe" else ["joe"]))
        yield main


@pytest.fixture(scope="module")
def joe(main: Teleport) -> Person:
    """Return somebody who may log in to every node."""
    return certify(main, "joe", ["joe", LOGIN] if LOGIN != "joe" else ["joe"])


def ssh(person: Person, folder: Path, port: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run plain ssh through the proxy on that port, with the manual's ProxyCommand."""
    options = person.ssh_options(folder)
    proxy = shlex.join(["ssh", *options, "-p", str(port), f"{person.name}@127.0.0.1"])
    return subprocess.run(
        ["ssh", *options, "-o", f"ProxyCommand={proxy} -s proxy:%h:%p", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def events(main: Teleport, event: str) -> list[dict[str, Any]]:
    """Return the audit events of a kind that auth has logged."""
    lines = [line for path in sorted((main.data_dir / "log").glob("*.log")) for line in path.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if record["event"] == event]


def test_the_ready_line_names_both_ports(main: Teleport) -> None:
    """Once it serves, the log says where, SSH and HTTPS."""
    assert f"proxy on 127.0.0.1:{main.ssh_port} and https://{main.web_address}" in main.log()


def test_plain_ssh_to_a_node(main: Teleport, joe: Person, tmp_path: Path) -> None:
    """A command runs on the node, by its name, through the proxy; auth's log has who was connected where."""
    done = ssh(joe, tmp_path, main.ssh_port, f"{LOGIN}@db1", "echo in; exit 3")
    assert (done.returncode, done.stdout) == (3, "in\n"), done.stderr
    main.process.wait_until(lambda: bool(events(main, "proxy.connect")), timeout=30)
    event = events(main, "proxy.connect")[-1]
    assert (event["user"], event["node"], event["addr.node"]) == ("joe", "db1", f"127.0.0.1:{main.node_port}")
    assert json.loads((main.data_dir / "proxy.identity").read_text())["id"] == event["server_id"]


def test_two_proxies_serve_the_same_cluster(main: Teleport, joe: Person, tmp_path: Path) -> None:
    """A second one, on its own, reaches the same nodes and the servers of its own settings, and goes on alone."""
    with ExitStack() as stack:
        # A machine with sshd: nothing of ours runs there.
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        second = Teleport(tmp_path / "second", ("proxy",), auth_servers=[main.auth_address], token=TOKEN)
        second.configure(
            {"proxy_service": {"openssh_servers": [{"name": "old", "addr": f"127.0.0.1:{server.getsockname()[1]}"}]}}
        )
        stack.enter_context(second.start())
        for proxy in (main, second):
            done = ssh(joe, tmp_path / "ssh", proxy.ssh_port, f"{LOGIN}@db1", "echo in")
            assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
        node = Teleport(tmp_path / "node", ("node",), auth_servers=[main.auth_address], token=TOKEN)
        node.configure({"teleport": {"nodename": "db2"}})
        stack.enter_context(node.start())
        for proxy in (main, second):
            done = ssh(joe, tmp_path / "ssh", proxy.ssh_port, f"{LOGIN}@db2", "echo in")
            assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
        words = [
            "ssh",
            *joe.ssh_options(tmp_path / "ssh"),
            "-p",
            str(second.ssh_port),
            "joe@127.0.0.1",
            "-s",
            "proxy:old:22",
        ]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
            server.settimeout(30)
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-old\r\n")
            assert asking.communicate(timeout=30)[0] == b"SSH-2.0-old\r\n"
        done = ssh(joe, tmp_path / "ssh", main.ssh_port, f"{LOGIN}@old", "true")
        assert "there is no node 'old' that you may reach" in done.stderr


def test_what_happened_last_is_logged(main: Teleport, joe: Person, tmp_path: Path) -> None:
    """What a proxy has to tell when it is stopped, auth hears before it is gone; sessions end within drain_timeout."""
    drain = {"teleport": {"drain_timeout": "10s"}}
    with Teleport(
        tmp_path / "proxy", ("proxy",), auth_servers=[main.auth_address], token=TOKEN, config=drain
    ).start() as proxy:
        words = ["ssh", *joe.ssh_options(tmp_path / "ssh"), "-p", str(proxy.ssh_port), "joe@127.0.0.1", "-s"]
        with subprocess.Popen([*words, "proxy:db1:22"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
            assert session.stdout is not None
            assert session.stdout.readline().startswith(b"SSH-2.0-")
            done = subprocess.run([*words, "proxy:gone:22"], stdin=subprocess.DEVNULL, timeout=60, check=False)
            assert done.returncode == 1
            proxy.signal(signal.SIGTERM)
            assert proxy.wait() == 0
            assert session.wait(timeout=30) == 255
        assert "1 sessions go on for 4 s at most" in proxy.log()
        assert "it is left behind" not in proxy.log()
        assert "lost" not in proxy.log()
        own = json.loads((proxy.data_dir / "proxy.identity").read_text())["id"]
        told = [event for kind in ("proxy.connect", "proxy.rejected") for event in events(main, kind)]
        assert [event["event"] for event in told if event["server_id"] == own] == ["proxy.connect", "proxy.rejected"]


def test_limits_of_the_settings_hold(main: Teleport, joe: Person, tmp_path: Path) -> None:
    """Beyond connection_limits.max_connections nobody gets in until somebody has left."""
    limits = {"teleport": {"connection_limits": {"max_connections": 2}}}
    with Teleport(
        tmp_path / "proxy", ("proxy",), auth_servers=[main.auth_address], token=TOKEN, config=limits
    ) as proxy:
        proxy.start()
        address = ("127.0.0.1", proxy.ssh_port)
        options = joe.ssh_options(tmp_path / "ssh")
        ask = ["ssh", *options, "-p", str(proxy.ssh_port), "joe@127.0.0.1", "-s", "proxysites"]
        with socket.create_connection(address) as one, socket.create_connection(address) as two:
            assert one.recv(4) == two.recv(4) == b"SSH-"
            refused = subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
            assert refused.returncode == 255
            proxy.wait_for_log("max_connections (2) reached")
        proxy.process.wait_until(
            lambda: (
                subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False).returncode
                == 0
            ),
            timeout=60,
        )


def test_a_proxy_that_auth_does_not_answer_lets_people_in(main: Teleport, joe: Person, tmp_path: Path) -> None:
    """A proxy that is started anew while auth is away knows who people are from the last time."""
    proxy = Teleport(tmp_path / "proxy", ("proxy",), auth_servers=[main.auth_address], token=TOKEN)
    with proxy.start():
        words = [
            "ssh",
            *joe.ssh_options(tmp_path / "ssh"),
            "-p",
            str(proxy.ssh_port),
            "joe@127.0.0.1",
            "-s",
            "proxysites",
        ]

        def ask() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
            )

        assert ask().returncode == 0
        proxy.process.wait_until((proxy.data_dir / "proxy.people.json").exists, timeout=30)
        proxy.stop()
        nobody = f"127.0.0.1:{free_port()}"
        (proxy.data_dir / "authservers.json").write_text(json.dumps([nobody]))
        proxy.configure({"teleport": {"auth_servers": [nobody]}})
        proxy.start()
        assert "auth is away: users and roles are those of the last time" in proxy.log()
        done = ask()
        assert (done.returncode, json.loads(done.stdout)[0]["name"]) == (0, "main"), done.stderr
