"""Lists by raw HTTPS: a stranger with any HTTP client, any certificate and any signature learns nothing."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from runtime.api.signed import signed_headers
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import UserClaims
from runtime.pki.keys import PrivateKey, generate_key, load_private_key
from runtime.pki.signing import random_serial, sign_user
from runtime.pki.trust import Signer
from runtime.service.identity import DataDir
from tests.servers.listed import Cluster, eventually, listed_cluster
from tests.servers.people import certify

CLOCK = SystemClock()
TARGET = "/webapi/nodes?label=env%3Dprod"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield a cluster of two nodes."""
    with listed_cluster(tmp_path_factory.mktemp("lists")) as cluster:
        yield cluster


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
        lambda cluster: certified(cluster, source_addresses=(ip_network("192.0.2.0/24"),)),
        "is good from 192.0.2.0/24",
        403,
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


def bare(cluster: Cluster, headers: Mapping[str, str]) -> int:
    """Return the status of an answer, whatever its body."""
    trusted = ssl.create_default_context(cafile=str(cluster.main.data_dir / "web.pem"))
    connection = http.client.HTTPSConnection("127.0.0.1", cluster.main.web_port, context=trusted, timeout=30)
    with closing(connection):
        connection.request("GET", "/webapi/ping", headers=dict(headers))
        return connection.getresponse().status


def test_headers_are_bounded(cluster: Cluster) -> None:
    """One that is a little too long is told; far too long ones, and too many, end with 400 before anything is read."""
    status, document = cluster.get(TARGET, certified(cluster) | {"X-Teleport-Certificate": "A" * (16 * 1024 + 4)})
    assert status == 401
    assert "is longer than 16384 bytes" in document["error"]["message"]
    # No more than is sent before the answer can close the connection.
    assert bare(cluster, {"X-Teleport-Certificate": "A" * 48_000}) == 400
    assert bare(cluster, {f"X-{number}": "x" for number in range(50)}) == 200
    assert bare(cluster, {f"X-{number}": "x" for number in range(70)}) == 400
