"""`teleport start` as real processes: what starts and is left on disk, how it ends, what it says when it cannot."""

from __future__ import annotations

import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.member_messages import PresenceQuery
from runtime.core.callers import CallerKind
from tests.servers.teleport import Teleport, admin, run


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[Teleport]:
    """Yield an auth server that serves."""
    with Teleport(tmp_path / "auth").start() as teleport:
        yield teleport


def fails(teleport: Teleport, *flags: str) -> str:
    """Start what cannot start, see it end with 1 and no traceback, and return what it said."""
    teleport.launch(*flags)
    assert teleport.wait() == 1
    said = teleport.log()
    assert "Traceback" not in said
    assert said.count("error: ") == 1
    assert "hint: " in said
    return said


def test_data_dir_is_private(auth: Teleport) -> None:
    """data_dir and its folders are 0700, the files 0600 but for the audit log's, which the manual shows as 0640."""
    modes = {
        str(path.relative_to(auth.folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in [auth.data_dir, *auth.data_dir.rglob("*")]
    }
    assert {"data/admin.identity", "data/auth.identity", "data/backend.sqlite"} <= set(modes)
    for name, mode in modes.items():
        folder, event_log = name in ("data", "data/log"), name.startswith("data/log/") and name.endswith(".log")
        assert mode == (0o700 if folder else 0o640 if event_log else 0o600), f"{name} is {mode:o}"


def test_an_open_data_dir_is_closed(tmp_path: Path) -> None:
    """A data_dir that others can look into is made private at the start."""
    teleport = Teleport(tmp_path / "auth")
    teleport.data_dir.mkdir(mode=0o755)
    with teleport.start():
        assert stat.S_IMODE(teleport.data_dir.stat().st_mode) == 0o700


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(auth: Teleport, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end it with 0; the next start has the same identity and authorities."""
    identity = (auth.data_dir / "auth.identity").read_bytes()
    auth.signal(number)
    assert auth.wait() == 0
    assert "teleport has stopped" in auth.log()
    auth.start()
    assert (auth.data_dir / "auth.identity").read_bytes() == identity
    assert auth.log().count("created the user CA") == 1


def test_all_roles_in_one_process(tmp_path: Path) -> None:
    """auth, proxy and node start together without a token, and print nothing on stdout."""
    with Teleport(tmp_path / "all", ("auth", "proxy", "node")) as teleport:
        teleport.start()
        assert f"auth on {teleport.auth_address}; proxy on 127.0.0.1:{teleport.ssh_port} and " in teleport.log()
        assert f" and https://{teleport.web_address}; node on " in teleport.log()
        for role in ("auth", "proxy", "node", "admin"):
            assert (teleport.data_dir / f"{role}.identity").exists()
        assert teleport.output() == ""


async def test_members_are_listed_and_leave(tmp_path: Path) -> None:
    """Each role is listed with its address and labels, those of commands included; after SIGTERM it is gone at once."""
    labels = {"labels": {"role": "master"}, "commands": [{"name": "word", "command": ["echo", "a b"], "period": "1h"}]}
    with Teleport(tmp_path / "auth").start() as auth:
        auth.configure({"auth_service": {"tokens": ["proxy,node:0123456789abcdef0123456789abcdef"]}})
        auth.stop()
        auth.start()
        member = Teleport(
            tmp_path / "member",
            ("proxy", "node"),
            auth_servers=[auth.auth_address],
            token="0123456789abcdef0123456789abcdef",
            config={"ssh_service": labels, "teleport": {"nodename": "luna"}},
        )
        with member.start():
            member.wait_for_log("heartbeat of node taken")
            member.wait_for_log("heartbeat of proxy taken")
            async with admin(auth) as client:
                (node,) = (await client.call(methods.PRESENCE, PresenceQuery(kind=CallerKind.NODE))).members
                (proxy,) = (await client.call(methods.PRESENCE, PresenceQuery(kind=CallerKind.PROXY))).members
                assert (node.presence.name, node.presence.addr) == ("luna", f"127.0.0.1:{member.node_port}")
                assert node.presence.labels == {"role": "master", "word": "a b"}
                assert proxy.presence.addr == f"127.0.0.1:{member.ssh_port}"
                assert proxy.presence.labels == {"web": member.web_address, "tunnel": f"127.0.0.1:{member.tunnel_port}"}
                member.signal(signal.SIGTERM)
                assert member.wait() == 0
                for kind in (CallerKind.NODE, CallerKind.PROXY):
                    assert (await client.call(methods.PRESENCE, PresenceQuery(kind=kind))).members == ()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """It ends with 1 and names the address; nothing is left behind that would keep a later start from working."""
    teleport = Teleport(tmp_path / "auth")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", teleport.auth_port))
        taken.listen()
        assert f"cannot listen on 127.0.0.1 port {teleport.auth_port}: " in fails(teleport)
    with teleport.start():
        pass


def test_a_data_dir_that_cannot_be(tmp_path: Path) -> None:
    """A data_dir below a file is refused by name."""
    teleport = Teleport(tmp_path / "auth")
    teleport.data_dir.write_text("a file")
    assert f"data_dir {teleport.data_dir} cannot be used" in fails(teleport)


def test_bad_settings_start_nothing(tmp_path: Path) -> None:
    """A mistake in the file ends it before anything is made."""
    teleport = Teleport(tmp_path / "auth", config={"auth_service": {"authentication": {"second_factor": "opt"}}})
    assert "did you mean otp?" in fails(teleport)
    assert not teleport.data_dir.exists()


def test_another_name_for_the_cluster_is_refused(auth: Teleport) -> None:
    """A cluster_name that is not the storage's ends it: it would make all certificates worthless."""
    auth.stop()
    auth.configure({"auth_service": {"cluster_name": "other"}})
    assert "main" in fails(auth)


def test_help_lists_the_flags() -> None:
    """`teleport start --help` has every flag of the manual."""
    shown = run("teleport", "start", "--help").stdout
    for flag in (
        "-d, --debug", "-r, --roles", "--advertise-ip", "-l, --listen-ip", "--auth-server",
        "--token", "--nodename", "-c, --config", "--labels",
    ):  # fmt: skip
        assert flag in shown


def test_a_storage_that_is_away(tmp_path: Path) -> None:
    """With etcd away auth stays up, says so in the log, is not ready, and SIGTERM ends it."""
    storage = {"type": "etcd", "peers": ["http://127.0.0.1:1"], "insecure": True}
    with Teleport(tmp_path / "auth", config={"teleport": {"storage": storage}}) as teleport:
        teleport.launch()
        teleport.wait_for_log("ERROR cli.start_storage: the storage cannot be used yet: ")
        teleport.signal(signal.SIGTERM)
        assert teleport.wait() == 0
        assert "ready: " not in teleport.log()
