"""The chart on etcd: auth, operator and proxy as Deployments of several pods, one of each killed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from runtime.proxy.self_signed import make_self_signed
from tests.e2e.scenarios.place import Kubernetes, Object, until
from tests.e2e.scenarios.release import Release, release
from tests.e2e.scenarios.someone import newcomer, user
from tests.e2e.scenarios.stores import etcd
from tests.servers import image
from tests.servers.webproxy import key_pem


@pytest.fixture
def on_etcd(kubernetes: Kubernetes, tmp_path: Path) -> Iterator[Release]:
    """Install two auths and two proxies, with a certificate for both, and a node."""
    with etcd(kubernetes, tmp_path / "etcd") as url:
        values = {
            "storage": {"type": "etcd", "etcd": {"peers": [url]}},
            "auth": {"replicas": 2},
            "proxy": {"replicas": 2, "tls": {"secretName": "web"}},
            "node": {"enabled": True},
        }
        with release(kubernetes, "scenario-etcd", image.reference(), 1, values) as made:
            made.apply(certificate("web", kubernetes.address))
            made.install()
            yield made


def certificate(name: str, host: str) -> Object:
    """Return a Secret with a certificate for a host, as cert-manager would make it."""
    made, key = make_self_signed([host], datetime.now(UTC))
    pem = {"tls.crt": made.public_bytes(serialization.Encoding.PEM), "tls.key": key_pem(key)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name},
        "stringData": {key: value.decode() for key, value in pem.items()},
    }


def test_one_of_each_is_killed(on_etcd: Release, tmp_path: Path) -> None:
    """A session outlives an auth; with an auth, a proxy and the operator killed people get in, and kubectl is heard."""
    auths, proxies = on_etcd.wait_pods("auth", 2), on_etcd.wait_pods("proxy", 2)
    (node,) = on_etcd.wait_pods("node", 1)
    where = f"root@{node}"
    ann = newcomer(on_etcd, tmp_path, "ann", logins=("root",))
    ann.until_in(where)
    (operator,) = on_etcd.wait_pods("operator", 1)
    with ann.shell.terminal("ssh", where) as terminal:
        terminal.type("echo before-$((40+1))\n")
        terminal.expect("before-41")
        on_etcd.kill(operator)
        on_etcd.apply(user("bob", logins=("bob",)))
        on_etcd.kill(auths[0])
        terminal.type("echo without-$((41+1))\n")
        terminal.expect("without-42")
        assert ann.ssh(where, "true").returncode == 0
        terminal.type("exit\n")
        assert terminal.wait() == 0
    on_etcd.kill(proxies[0])
    ann.until_in(where)
    on_etcd.ready("user", "bob")
    assert not {auths[0], proxies[0]} & {*on_etcd.wait_pods("auth", 2), *on_etcd.wait_pods("proxy", 2)}
    until(lambda: node in ann.nodes(), "the node is listed", on_etcd)
