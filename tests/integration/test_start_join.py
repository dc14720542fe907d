"""Processes that join with `teleport start`: tokens, pins, auth away, several auth servers and the list of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.member_messages import PresenceQuery
from runtime.api.token_messages import TokenRequest
from runtime.core.callers import CallerKind
from runtime.pki.keys import generate_key
from tests.servers.processes import Process
from tests.servers.teleport import SCRIPTS, Teleport, admin

TOKEN = "0123456789abcdef0123456789abcdef"
WITH_TOKEN = {"auth_service": {"tokens": [f"node:{TOKEN}"]}}


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[Teleport]:
    """Yield an auth server with a static token for nodes."""
    with Teleport(tmp_path / "auth", config=WITH_TOKEN).start() as teleport:
        yield teleport


def node(auth: Teleport, *, token: str | None = None, ca_pin: str | None = None) -> Teleport:
    """Return a node that is told of one auth server."""
    return Teleport(
        auth.folder.parent / "node", ("node",), auth_servers=[auth.auth_address], token=token, ca_pin=ca_pin
    )


async def pin(auth: Teleport) -> str:
    """Return the fingerprint of the cluster's host CA, as tctl nodes add shows it."""
    async with admin(auth) as client:
        return (await client.call(methods.TOKENS_CREATE, TokenRequest(roles=("node",)))).ca_pin


async def test_the_token_is_for_the_first_start_only(auth: Teleport) -> None:
    """A node joins with flags, and starts again without them, as the same member."""
    member = node(auth)
    with member.start(f"--token={TOKEN}", f"--ca-pin={await pin(auth)}"):
        member.wait_for_log("joined cluster main as node")
        identity = (member.data_dir / "node.identity").read_bytes()
    with member.start():
        member.wait_for_log("heartbeat of node taken")
        assert (member.data_dir / "node.identity").read_bytes() == identity
        assert member.log().count("joined cluster") == 1
    assert TOKEN not in member.log()
    assert TOKEN not in auth.log()


def test_without_a_pin_the_log_says_whom_it_believed(auth: Teleport) -> None:
    """Joining without --ca-pin works, with a warning that names the fingerprint."""
    with node(auth, token=TOKEN).start() as member:
        assert "joining without --ca-pin" in member.log()
        assert "SHA256:" in member.log()


def test_a_refused_token_ends_it(auth: Teleport) -> None:
    """A wrong token ends with 1, what was wrong and what to do; no identity is kept."""
    member = node(auth, token="f" * 32)
    member.launch()
    assert member.wait() == 1
    assert "error: this machine may not join the cluster: the token is not valid" in member.log()
    assert "hint: It may have expired or been revoked: make a new one with tctl nodes add." in member.log()
    assert not (member.data_dir / "node.identity").exists()
    assert "member.refused" in "".join(path.read_text() for path in (auth.data_dir / "log").iterdir())


def test_a_token_for_another_role_ends_it(auth: Teleport) -> None:
    """A node's token does not make a proxy."""
    member = Teleport(auth.folder.parent / "proxy", ("proxy",), auth_servers=[auth.auth_address], token=TOKEN)
    member.launch()
    assert member.wait() == 1
    assert "the token lets nobody join as proxy, only as node" in member.log()


def test_a_wrong_pin_ends_it(auth: Teleport) -> None:
    """An authority other than the pinned one ends it before the token is sent."""
    member = node(auth, token=TOKEN, ca_pin=generate_key().public.fingerprint)
    member.launch()
    assert member.wait() == 1
    assert "not the pinned" in member.log()
    assert "hint: Take --ca-pin from tctl nodes add." in member.log()


def test_no_token_at_the_first_start(auth: Teleport) -> None:
    """Without identity and token it says where a token comes from."""
    member = node(auth)
    member.launch()
    assert member.wait() == 1
    assert "error: node has not joined a cluster yet: a token is needed to join" in member.log()
    assert "hint: On the auth server run: tctl nodes add --roles=node; then start here with --token." in member.log()


def test_auth_away_at_the_first_start(auth: Teleport) -> None:
    """A newcomer tries on and says so in the log; SIGTERM ends even that; once auth is there it joins."""
    auth.stop()
    member = node(auth, token=TOKEN)
    member.launch()
    member.wait_for_log("ERROR service.joining: cannot join the cluster yet: ")
    member.signal(signal.SIGTERM)
    assert member.wait() == 0
    member.launch()
    auth.start()
    member.wait_for_log("ready: node")
    member.stop()


def test_auth_away_at_a_later_start(auth: Teleport) -> None:
    """A member starts without auth, says that it cannot be reached, and is heard as soon as auth is back."""
    with node(auth, token=TOKEN).start() as member:
        member.stop()
        auth.stop()
        member.start()
        member.wait_for_log("no heartbeat: ")
        auth.start()
        member.wait_for_log("auth takes heartbeats again")


async def test_several_auth_servers_on_one_storage(auth: Teleport) -> None:
    """Members are told of a second auth server on one storage, keep the list, and go on when the first is gone."""
    storage = {"type": "sqlite", "path": str(auth.data_dir / "backend.sqlite")}
    with (
        Teleport(
            auth.folder.parent / "second", config={"teleport": {"storage": storage}, "auth_service": {"tokens": []}}
        ).start() as second,
        node(auth, token=TOKEN).start() as member,
    ):
        cache = member.data_dir / "authservers.json"
        both = {auth.auth_address, second.auth_address}
        member.process.wait_until(lambda: cache.exists() and set(json.loads(cache.read_text())) == both, timeout=60)
        auth.signal(signal.SIGKILL)
        auth.wait()
        beats = member.log().count("heartbeat of node taken")
        member.process.wait_until(lambda: member.log().count("heartbeat of node taken") > beats + 1, timeout=90)
        async with admin(second) as client:
            listed = await client.call(methods.PRESENCE, PresenceQuery(kind=CallerKind.NODE))
            assert [entry.presence.name for entry in listed.members] == ["localhost"]


def test_the_list_that_was_heard_takes_precedence(auth: Teleport) -> None:
    """authservers.json wins over teleport.yaml; where all in it are dead, those of teleport.yaml are asked."""
    with node(auth, token=TOKEN).start() as member:
        member.wait_for_log("heartbeat of node taken")
        member.stop()
        cache = member.data_dir / "authservers.json"
        assert json.loads(cache.read_text()) == [auth.auth_address]
        # The file's server is dead, the cached one alive.
        member.configure({"teleport": {"auth_servers": ["127.0.0.1:1"]}})
        beats = member.log().count("heartbeat of node taken")
        member.start()
        member.process.wait_until(lambda: member.log().count("heartbeat of node taken") > beats, timeout=30)
        assert "no heartbeat" not in member.log()
        member.stop()
        # The cached one is dead, the file's alive.
        cache.write_text('["127.0.0.1:1"]')
        member.configure({"teleport": {"auth_servers": [auth.auth_address]}})
        beats = member.log().count("heartbeat of node taken")
        member.start()
        member.process.wait_until(lambda: member.log().count("heartbeat of node taken") > beats, timeout=60)
        assert json.loads(cache.read_text()) == [auth.auth_address]


async def test_flags_alone(auth: Teleport, tmp_path: Path) -> None:
    """The command that `tctl nodes add` prints, with every flag of the manual's table, makes the node that they say."""
    file = tmp_path / "teleport.yaml"
    file.write_text(f"teleport: {{data_dir: {tmp_path}/data}}")
    command: list[str | Path] = [
        SCRIPTS / "teleport", "start", "-d", "--roles=node", f"--token={TOKEN}", f"--auth-server={auth.auth_address}",
        f"--ca-pin={await pin(auth)}", "--nodename=turing", "--advertise-ip=192.0.2.7", "--listen-ip=127.0.0.1",
        '--labels=kernel=[1h:"uname -s"],distro=debian', f"--config={file}",
    ]  # fmt: skip
    with Process(command, log=tmp_path / "log") as process:
        process.wait_until(lambda: "ready: node" in (tmp_path / "log").read_text(), timeout=60)
        async with admin(auth) as client:
            (entry,) = (await client.call(methods.PRESENCE, PresenceQuery(kind=CallerKind.NODE))).members
    assert (entry.presence.name, entry.presence.addr) == ("turing", "192.0.2.7:3022")
    assert entry.presence.labels == {"kernel": "Linux", "distro": "debian"}
