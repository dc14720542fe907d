"""`tsh ls` and `tsh clusters` against real processes: what the manual shows, who sees what, and what can go wrong.

What a stranger gets who asks the same by raw HTTPS is in tests/integration/test_signed_requests.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.member_messages import Heartbeat, Presence
from runtime.api.messages import Nothing
from runtime.api.methods import Method, Params, Result
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.service.identity import DataDir, StoredIdentity
from runtime.service.member import AuthServers, auth_client, join
from tests.servers.listed import TOKEN, Cluster, Done, eventually, listed_cluster
from tests.servers.people import certify, declare, in_thread, role, user
from tests.servers.processes import free_port
from tests.servers.teleport import Teleport, run


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield a cluster of two nodes."""
    with listed_cluster(tmp_path_factory.mktemp("lists")) as cluster:
        yield cluster


def rows(table: str) -> list[list[str]]:
    """Return a table's lines, cut where the manual cuts columns: at five blanks and more."""
    return [re.split(r" {5,}", line) for line in table.splitlines()]


# --- the commands ----------------------------------------------------------------------------------------------------


def test_the_manual_s_tables(cluster: Cluster) -> None:
    """`tsh clusters` and `tsh --cluster=… ls` as the manual has them, and the same table as `tctl nodes ls`."""
    proxy = f"--proxy={cluster.main.web_address}"
    clusters = cluster.tsh("joe", proxy, "clusters")
    assert (clusters.returncode, clusters.stderr) == (0, "")
    assert rows(clusters.stdout) == [["Cluster Name", "Status"], ["------------", "------"], ["main", "online"]]
    ls = cluster.tsh("joe", proxy, "--cluster=main", "ls")
    assert (ls.returncode, ls.stderr) == (0, "")
    head, dashes, prod, stage = rows(ls.stdout)
    assert head == ["Node Name", "Node ID", "Address", "Labels"]
    assert dashes == ["---------", "-------", "-------", "------"]
    assert (prod[0], prod[2:]) == ("prod", [f"127.0.0.1:{cluster.main.node_port}", "env=prod,role=web"])
    assert (stage[0], stage[2:]) == ("stage", [f"127.0.0.1:{cluster.stage.node_port}", "env=staging,note=a, b"])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", prod[1])
    assert cluster.main.tctl("nodes", "ls").stdout == ls.stdout


def test_two_people_see_different_nodes(cluster: Cluster) -> None:
    """Each sees what each may reach, and a change of a role shows within seconds, without another login."""
    assert cluster.names("joe") == ["prod", "stage"]
    assert cluster.names("ann") == ["stage"]
    assert cluster.names("ann", "env=prod") == []
    assert cluster.names("ann", "--search=prod") == []
    declare(cluster.main, role("stage", allow={"logins": ["dev"], "nodeLabels": {"role": ["web"]}}))
    eventually(lambda: cluster.names("ann") == ["prod"])
    declare(cluster.main, role("stage", allow={"logins": ["dev"], "nodeLabels": {"env": ["staging"]}}))
    eventually(lambda: cluster.names("ann") == ["stage"])


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["env=prod"], ["prod"]),
        (["env=*"], ["prod", "stage"]),
        (["env=prod,role=web"], ["prod"]),
        (["env=prod", "role=web"], ["prod"]),
        (["env=prod,role=db"], []),
        (['note="a, b"'], ["stage"]),
        (["--search=STAG"], ["stage"]),
        (["--search=pro,web"], ["prod"]),
        (["--search=pro", "--search=stag"], []),
        (["--search=127.0.0.1", "env=staging"], ["stage"]),
        (["--cluster=main"], ["prod", "stage"]),
    ],
)
def test_filters(cluster: Cluster, arguments: list[str], found: list[str]) -> None:
    """Labels and texts together; every one of them has to fit."""
    assert cluster.names("joe", *arguments) == found


def test_formats(cluster: Cluster) -> None:
    """JSON has all that is known of a node; -v has the version in the table too."""
    (node,) = json.loads(cluster.tsh("ann", "ls", "--format=json").stdout)
    assert node | {"id": "", "version": ""} == {
        "name": "stage",
        "id": "",
        "addr": f"127.0.0.1:{cluster.stage.node_port}",
        "labels": {"env": "staging", "note": "a, b"},
        "version": "",
        "kind": "node",
    }
    head, _, row = rows(cluster.tsh("ann", "ls", "-v").stdout)
    assert head == ["Node Name", "Node ID", "Address", "Version", "Labels"]
    assert (row[1], row[3]) == (node["id"], node["version"])
    assert json.loads(cluster.tsh("ann", "clusters", "--format=json").stdout) == [
        {"name": "main", "status": "online", "local": True, "last_connected": None}
    ]


async def join_as(cluster: Cluster, name: str) -> StoredIdentity:
    """Return the identity of one more node, of which there is nothing but its name."""
    servers = AuthServers(DataDir(cluster.folder), [cluster.main.auth_address])
    roles = [CallerKind.NODE]
    made = await join(
        token=TOKEN, roles=roles, name=name, advertised=(), servers=servers, ca_pin=None, clock=SystemClock()
    )
    return made[CallerKind.NODE]


async def call(cluster: Cluster, identity: StoredIdentity, method: Method[Params, Result], params: Params) -> Result:
    """Call auth as a member."""
    servers = AuthServers(DataDir(cluster.folder), [cluster.main.auth_address])
    auth = auth_client(lambda: identity, servers, SystemClock())
    try:
        return await auth.call(method, params)
    finally:
        await auth.close()


def test_what_a_node_names_is_escaped(cluster: Cluster) -> None:
    """A node whose labels hold escape sequences and line feeds gets one line, and the terminal obeys none of it."""
    liar = in_thread(join_as(cluster, "zz-liar"))
    labels = {"env": "\x1b]0;owned\x07", "x": "a\nroot     all     yours"}
    presence = Presence(id=liar.id, kind=CallerKind.NODE, name="zz-liar", addr="127.0.0.1:1", labels=labels)
    in_thread(call(cluster, liar, methods.HEARTBEAT, Heartbeat(presence=presence)))
    try:
        eventually(lambda: "zz-liar" in cluster.names("joe"))
        shown = cluster.tsh("joe", "ls", "--search=liar").stdout
        assert shown.isascii()
        assert "\x1b" not in shown
        assert r"env=\x1b]0;owned\x07,x=a\x0aroot" in shown
        assert len(shown.splitlines()) == 3
        assert "\x1b" not in cluster.tsh("joe", "ls", "--format=json").stdout
    finally:
        in_thread(call(cluster, liar, methods.LEAVE, Nothing()))
    eventually(lambda: "zz-liar" not in cluster.names("joe"))


def test_a_list_loads_little(cluster: Cluster) -> None:
    """What takes long to import is not imported for a list: not what a session needs, nor what a service does."""
    code = (
        "import sys\n"
        "from runtime.cli.tsh import main\n"
        "try: main()\n"
        "finally: print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    home = str(cluster.home("joe"))
    done = subprocess.run(
        [sys.executable, "-c", code, "ls"],
        env={**os.environ, "TELEPORT_HOME": home},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = set(done.stderr.split())
    assert {"ssl", "cryptography", "runtime.cli.tsh_lists"} <= loaded
    assert not loaded & {"pydantic", "asyncssh", "aiohttp", "asyncio", "boto3", "grpc", "kubernetes", "yaml"}


# --- what can go wrong -----------------------------------------------------------------------------------------------


def refused(done: Done, *says: str) -> None:
    """See that tsh ended with 1 and says so, with what to do."""
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "\nhint: " in done.stderr
    for text in says:
        assert text in done.stderr


def test_another_cluster_is_not_found(cluster: Cluster) -> None:
    """It is told which one, and how to see those that there are."""
    for arguments in (("--cluster=cluster-b", "ls"), ("ls", "--cluster=cluster-b")):
        refused(cluster.tsh("joe", *arguments), "there is no cluster 'cluster-b' behind this proxy", "tsh clusters")


@pytest.mark.parametrize("command", ["ls", "clusters"])
def test_who_is_not_logged_in_is_told_how(cluster: Cluster, command: str) -> None:
    """Without any proxy, at one where nobody logged in, as another user, and after the certificate is over."""
    refused(cluster.tsh("nobody", command), "which proxy?", "login")
    proxy = f"--proxy={cluster.main.web_address}"
    log_in = f"{proxy} --user=eve login"
    refused(cluster.tsh("nobody", proxy, "--user=eve", command), "not logged in at proxy", log_in)
    refused(cluster.tsh("joe", "--user=eve", command), "not logged in at proxy", log_in)
    cluster.log_in("late", "root", age=timedelta(hours=2))
    refused(cluster.tsh("late", command), "the certificate expired at", f"{proxy} --user=late login")


def test_wrong_words_are_the_command_line_s_fault(cluster: Cluster) -> None:
    """Labels that are none end with 2, and say how they are written."""
    for labels in ("env", "=prod", "env=prod,env=staging", "env=prod,"):
        done = cluster.tsh("joe", "ls", labels)
        assert (done.returncode, done.stdout) == (2, "")
        assert "label" in done.stderr


def test_insecure_is_told(cluster: Cluster) -> None:
    """--insecure asks whoever answers, and says so; the data stays apart."""
    for arguments in (("--insecure", "ls"), ("ls", "--insecure")):
        done = cluster.tsh("joe", *arguments)
        assert (done.returncode, len(rows(done.stdout))) == (0, 4)
        assert done.stderr.startswith(f"warning: --insecure: whoever answers at {cluster.main.web_address} is believed")


def test_a_proxy_that_is_away_is_told(cluster: Cluster) -> None:
    """Nobody listens at the address of the login: that is said, with the address."""
    joe = certify(cluster.main, "joe", ["root"])
    joe.log_in(cluster.home("far"), cluster.main)
    folder, port = cluster.home("far"), free_port()
    moved = f"127.0.0.1:{port}"
    (yaml,) = folder.glob("*:*.yaml")
    (folder / f"{moved}.yaml").write_text(yaml.read_text().replace(cluster.main.web_address, moved))
    (folder / "keys" / cluster.main.web_address).rename(folder / "keys" / moved)
    refused(cluster.tsh("far", f"--proxy={moved}", "ls"), f"proxy {moved} cannot be reached: nobody listens there")


def test_a_deleted_user_sees_nothing_within_seconds(cluster: Cluster) -> None:
    """The certificate is good for another hour; the person is not. It is told and audited."""
    declare(cluster.main, user("gone", ["root"]))
    cluster.log_in("gone", "root")
    eventually(lambda: cluster.tsh("gone", "ls").returncode == 0)
    assert cluster.main.tctl("users", "del", "gone").returncode == 0
    eventually(lambda: cluster.tsh("gone", "ls").returncode == 1)
    refused(cluster.tsh("gone", "ls"), "there is no user gone")
    refused(cluster.tsh("gone", "clusters"), "there is no user gone")
    eventually(lambda: any(e.get("event") == "web.rejected" and e.get("user") == "gone" for e in cluster.events()))


def test_lists_go_on_while_auth_is_away(tmp_path: Path) -> None:
    """What a proxy heard of users, roles and nodes still holds when auth is gone; also for one that starts then."""
    config = {"auth_service": {"tokens": [f"node,proxy:{TOKEN}"]}}
    with Teleport(tmp_path / "auth", ("auth",), config=config).start() as auth:
        declare(auth, user("joe", ["root"]))
        joe = certify(auth, "joe", ["root"])
        proxy = Teleport(tmp_path / "proxy", ("proxy", "node"), auth_servers=[auth.auth_address], token=TOKEN)
        with proxy.start():
            joe.log_in(tmp_path / "home", proxy)

            def ls() -> Done:
                return run("tsh", "ls", env={"TELEPORT_HOME": str(tmp_path / "home"), "SSH_AUTH_SOCK": ""})

            eventually(lambda: "localhost" in ls().stdout)
            before = ls().stdout
            auth.stop()
            time_over = time.monotonic() + 3
            while time.monotonic() < time_over:  # past the two seconds for which a list is fresh
                done = ls()
                assert (done.returncode, done.stdout) == (0, before), done.stderr
