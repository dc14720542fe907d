"""`tsh ls` and `tsh clusters` against real processes, and what a stranger gets who asks the same by raw HTTPS."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from runtime.api import messages as m
from runtime.api import methods
from runtime.api.signed import signed_headers
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import UserClaims
from runtime.pki.keys import PrivateKey, generate_key, load_private_key
from runtime.pki.signing import random_serial, sign_user
from runtime.pki.trust import Signer
from runtime.service.identity import DataDir
from runtime.service.member import AuthServers, auth_client, join
from tests.servers.people import Person, certify, declare, in_thread, role, user
from tests.servers.processes import free_port
from tests.servers.teleport import Teleport, run

TOKEN = "0123456789abcdef0123456789abcdef"
CLOCK = SystemClock()
DEADLINE = 10.0
"""Seconds within which a change of users, roles and nodes has to show (security.md: "refused within 10 s")."""

Done = subprocess.CompletedProcess[str]


@dataclass
class Cluster:
    """Auth, proxy and the node `prod` in one process, the node `stage` in another; joe and ann, logged in."""

    main: Teleport
    stage: Teleport
    folder: Path

    def tsh(self, who: str, *arguments: str, **env: str) -> Done:
        """Run tsh as somebody who has a home."""
        return run("tsh", *arguments, env={"TELEPORT_HOME": str(self.home(who)), "SSH_AUTH_SOCK": "", **env})

    def home(self, who: str) -> Path:
        """Return where somebody's logins are."""
        return self.folder / f"home-{who}"

    def log_in(self, who: str, *logins: str, **claims: Any) -> Person:
        """Leave a login, issued by the cluster's authority, in a person's home."""
        person = certify(self.main, who, logins, **claims)
        person.log_in(self.home(who), self.main)
        return person

    def names(self, who: str, *arguments: str) -> list[str]:
        """Return the names of the nodes that somebody sees."""
        done = self.tsh(who, "ls", "--format=json", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return [node["name"] for node in json.loads(done.stdout)]

    def get(self, target: str, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Ask the proxy as any program might."""
        trusted = ssl.create_default_context(cafile=str(self.main.data_dir / "web.pem"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.main.web_port, context=trusted, timeout=30)
        with closing(connection):
            connection.request("GET", target, headers=dict(headers))
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def events(self) -> list[dict[str, Any]]:
        """Return the audit log."""
        files = sorted((self.main.data_dir / "log").iterdir())
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def eventually(true: Callable[[], bool]) -> None:
    """Wait until something is true. Raises AssertionError after DEADLINE."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield the cluster, with both nodes listed."""
    folder = tmp_path_factory.mktemp("lists")
    roles = ("auth", "proxy", "node")
    config: dict[str, dict[str, Any]] = {
        "teleport": {"nodename": "prod"},
        "auth_service": {"tokens": [f"node:{TOKEN}"]},
        "ssh_service": {"labels": {"env": "prod", "role": "web"}},
    }
    with Teleport(folder / "main", roles, config=config).start() as main:
        labels: dict[str, dict[str, Any]] = {
            "teleport": {"nodename": "stage"},
            "ssh_service": {"labels": {"env": "staging", "note": "a, b"}},
        }
        stage = Teleport(folder / "stage", ("node",), auth_servers=[main.auth_address], token=TOKEN, config=labels)
        with stage.start():
            made = Cluster(main, stage, folder)
            declare(main, role("stage", allow={"logins": ["dev"], "nodeLabels": {"env": ["staging"]}}))
            declare(main, user("joe", ["root"]), user("ann", [], ["stage"]))
            made.log_in("joe", "root")
            made.log_in("ann", "dev")
            eventually(lambda: made.names("joe") == ["prod", "stage"])
            yield made


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


def test_what_a_node_names_is_escaped(cluster: Cluster) -> None:
    """A node whose labels hold escape sequences and line feeds gets one line, and the terminal obeys none of it."""

    async def lie() -> None:
        servers = AuthServers(DataDir(cluster.folder), [cluster.main.auth_address])
        made = await join(
            token=TOKEN,
            roles=[CallerKind.NODE],
            name="zz-liar",
            advertised=(),
            servers=servers,
            ca_pin=None,
            clock=CLOCK,
        )
        identity = made[CallerKind.NODE]
        auth = auth_client(lambda: identity, servers, CLOCK)
        labels = {"env": "\x1b]0;owned\x07", "x": "a\nroot     all     yours"}
        told = m.Presence(id=identity.id, kind=CallerKind.NODE, name="zz-liar", addr="127.0.0.1:1", labels=labels)
        try:
            await auth.call(methods.HEARTBEAT, m.Heartbeat(presence=told))
        finally:
            await auth.close()

    in_thread(lie())
    eventually(lambda: "zz-liar" in cluster.names("joe"))
    shown = cluster.tsh("joe", "ls", "--search=liar").stdout
    assert shown.isascii()
    assert "\x1b" not in shown
    assert r"env=\x1b]0;owned\x07,x=a\x0aroot" in shown
    assert len(shown.splitlines()) == 3
    assert "\x1b" not in cluster.tsh("joe", "ls", "--format=json").stdout


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
    eventually(lambda: any(e["event"] == "web.rejected" and e.get("user") == "gone" for e in cluster.events()))


# --- a stranger with an HTTP client ----------------------------------------------------------------------------------

TARGET = "/webapi/nodes?label=env%3Dprod"


def headers_of(
    key: PrivateKey, certificate: str, *, at: timedelta = timedelta(), target: str = TARGET
) -> dict[str, str]:
    """Return the headers of a request for the cluster main, signed so far from now."""
    return signed_headers("GET", target, cluster="main", key=key, certificate=certificate, now=CLOCK.now() + at)


@dataclass
class Attempt:
    """What a stranger tries, and what the answer says."""

    make: Callable[[Cluster], Mapping[str, str]]
    says: str
    status: int = 401


def certified(cluster: Cluster, who: str = "joe", **claims: Any) -> dict[str, str]:
    """Return the headers of somebody with a certificate of the cluster's."""
    person = certify(cluster.main, who, ["root"], **claims)
    return headers_of(person.private, person.certificate.decode())


def foreign(cluster: Cluster) -> dict[str, str]:
    """Return the headers of a joe of another cluster that has the same name."""
    signer = Signer(AuthorityType.USER, "main", generate_key())
    claims = UserClaims(user="joe", cluster="main", logins=("root",), roles=(), ttl=timedelta(hours=1))
    key = generate_key()
    line = sign_user(claims, key.public, signer=signer, now=CLOCK.now(), serial=random_serial()).line
    return headers_of(key, line.decode())


def member(cluster: Cluster) -> dict[str, str]:
    """Return the headers of a node that asks as itself."""
    identity = DataDir(cluster.stage.data_dir).identity(CallerKind.NODE)
    return headers_of(load_private_key(identity.key.get_secret_value()), identity.member_certificate)


def host(cluster: Cluster) -> dict[str, str]:
    """Return the headers of a node that asks with its host certificate."""
    identity = DataDir(cluster.stage.data_dir).identity(CallerKind.NODE)
    return headers_of(load_private_key(identity.key.get_secret_value()), identity.host_certificate)


def borrowed(cluster: Cluster) -> dict[str, str]:
    """Return the headers of somebody who has joe's certificate and another key."""
    return certified(cluster, "ann") | {"X-Teleport-Certificate": certified(cluster)["X-Teleport-Certificate"]}


def skewed(cluster: Cluster, at: timedelta) -> dict[str, str]:
    """Return what joe signed then."""
    joe = certify(cluster.main, "joe", ["root"])
    return headers_of(joe.private, joe.certificate.decode(), at=at)


def elsewhere(cluster: Cluster) -> dict[str, str]:
    """Return what joe signed for another path."""
    joe = certify(cluster.main, "joe", ["root"])
    return headers_of(joe.private, joe.certificate.decode(), target="/webapi/clusters")


def damaged(cluster: Cluster) -> dict[str, str]:
    """Return joe's headers with another letter in the signature."""
    headers = certified(cluster)
    value = headers["Authorization"]
    return headers | {"Authorization": value[:-8] + ("A" if value[-8] != "A" else "B") + value[-7:]}


ATTEMPTS = {
    "nothing": Attempt(lambda _: {}, "is missing"),
    "password": Attempt(lambda _: {"Authorization": "Basic am9lOmpvZQ=="}, "is missing"),
    "another CA": Attempt(foreign, "a CA that is not trusted here"),
    "a member": Attempt(member, "here one signed by a user CA is due"),
    "a host": Attempt(host, "here one signed by a user CA is due"),
    "expired": Attempt(lambda cluster: certified(cluster, age=timedelta(hours=2)), "the certificate expired at"),
    "another key": Attempt(borrowed, "the signature is by another key"),
    "wrong signature": Attempt(damaged, "the signature does not fit"),
    "another path": Attempt(elsewhere, "the signature does not fit"),
    "another time": Attempt(
        lambda cluster: (
            certified(cluster) | {"X-Teleport-Time": f"{CLOCK.now() - timedelta(seconds=5):%Y-%m-%dT%H:%M:%SZ}"}
        ),
        "the signature does not fit",
    ),
    "old": Attempt(lambda cluster: skewed(cluster, timedelta(seconds=-75)), "by the proxy's clock it is"),
    "future": Attempt(lambda cluster: skewed(cluster, timedelta(seconds=75)), "by the proxy's clock it is"),
    "one command": Attempt(lambda cluster: certified(cluster, force_command="id"), "for running one command"),
    "another network": Attempt(
        lambda cluster: certified(cluster, source_addresses=(ip_network("192.0.2.0/24"),)), "may not be used from", 403
    ),
    "nobody we know": Attempt(lambda cluster: certified(cluster, "mallory"), "there is no user mallory", 403),
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_a_stranger_learns_nothing(cluster: Cluster, attempt: Attempt) -> None:
    """Whatever is wrong is refused and told, without a word of any node; the same asked rightly is answered."""
    status, document = cluster.get(TARGET, attempt.make(cluster))
    assert (status, set(document)) == (attempt.status, {"error"})
    assert document["error"]["kind"] == "AccessDenied"
    assert attempt.says in document["error"]["message"]
    assert document["error"]["hint"]
    assert "127.0.0.1:" not in json.dumps(document)
    status, document = cluster.get(TARGET, certified(cluster))
    assert (status, [node["name"] for node in document["nodes"]]) == (200, ["prod"])


def test_refusals_are_audited(cluster: Cluster) -> None:
    """The event has address, path and reason; the user's name only where it was proved."""
    cluster.get("/webapi/clusters", certified(cluster))
    cluster.get("/webapi/nodes?search=audited", certified(cluster, "mallory") | {"X-Teleport-Time": "now"})
    event: dict[str, Any] = {}

    def told() -> bool:
        event.update(next((e for e in reversed(cluster.events()) if "no time such as" in e.get("error", "")), {}))
        return bool(event)

    eventually(told)
    assert (event["event"], event["user"], event["path"]) == ("web.rejected", "", "/webapi/nodes")
    assert event["addr.remote"] == "127.0.0.1"
    assert "search" not in json.dumps(event)


def test_a_header_that_is_too_long_is_refused(cluster: Cluster) -> None:
    """A little too long is told; far too long ends the connection with 400 before anything is looked at."""
    status, document = cluster.get(TARGET, certified(cluster) | {"X-Teleport-Certificate": "A" * (16 * 1024 + 4)})
    assert status == 401
    assert "is longer than 16384 bytes" in document["error"]["message"]
    trusted = ssl.create_default_context(cafile=str(cluster.main.data_dir / "web.pem"))
    connection = http.client.HTTPSConnection("127.0.0.1", cluster.main.web_port, context=trusted, timeout=30)
    with closing(connection):
        connection.request("GET", TARGET, headers={"X-Teleport-Certificate": "A" * 200_000})
        assert connection.getresponse().status == 400


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
