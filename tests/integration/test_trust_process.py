"""The declared way on real clusters: a token, one document, ssh, edits that count at once, and the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.test_tunnel_process import Pair, believing, events
from tests.servers import linked
from tests.servers.people import certify, declare, role, user
from tests.servers.sshclient import wait_until
from tests.servers.sshd import LOGIN
from tests.servers.teleport import Teleport


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Yield a root and a leaf that do not know each other; joe is a user of both, in the root with the role `dev`."""
    folder = tmp_path_factory.mktemp("trust")
    root, leaf = linked.cluster(folder / "root", "main"), linked.cluster(folder / "leaf", "leaf")
    root.configure({"teleport": {"nodename": "web1"}})
    leaf.configure({"teleport": {"nodename": "db1"}, "ssh_service": {"labels": {"env": "dev"}}})
    with root, leaf:
        root.launch()
        leaf.start()
        root.wait_for_log("ready: ")
        declare(root, user("joe", [LOGIN]), role("dev", allow={"logins": [LOGIN], "nodeLabels": {"*": ["*"]}}))
        declare(leaf, user("joe", [LOGIN]), role("env-dev", allow={"logins": [LOGIN], "nodeLabels": {"env": ["dev"]}}))
        joe = certify(root, "joe", [LOGIN], roles=["dev"])
        yield Pair(root, leaf, folder, believing(joe, linked.authorities(leaf, "leaf")))


def ended(teleport: Teleport, *arguments: str) -> str:
    """Run tctl, which must succeed, and return what it prints."""
    done = teleport.tctl(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def apply(pair: Pair, **spec: Any) -> str:
    """Apply the leaf's TrustedCluster, whose Secret lies beside it, and return what tctl prints."""
    document = {
        "apiVersion": "teleport.internal/v1",
        "kind": "TrustedCluster",
        "metadata": {"name": "main"},
        "spec": {
            "proxy": {"webAddr": pair.root.web_address, "tunnelAddr": pair.tunnel_addr},
            "tokenSecretRef": {"name": "join-main"},
            **spec,
        },
    }
    file = pair.folder / "documents" / "main.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document))
    return ended(pair.leaf, "apply", "-f", str(file))


def refused(pair: Pair, says: str) -> None:
    """Wait until joe is refused at the leaf's node in these words, or has no way there."""

    def is_so() -> bool:
        done = pair.ssh("db1", "true")
        return done.returncode == 255 and says in done.stderr

    wait_until(is_so)


@pytest.mark.timeout(900)
def test_one_token_and_one_document(pair: Pair) -> None:
    """From two strangers to ssh, through edits, to strangers again; each side tells who came from where."""
    created = json.loads(ended(pair.root, "tokens", "add", "--type=trusted_cluster", "--format=json"))
    token, pin = created["entry"]["token"], created["ca_pin"]
    (pair.folder / "documents").mkdir()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "join-main"},
        "stringData": {"token": token, "caPin": pin},
    }
    (pair.folder / "documents" / "join-main.yaml").write_text(json.dumps(secret))
    told = apply(pair, roleMap=[{"remote": "dev", "local": ["env-dev"]}])
    assert "TrustedCluster 'main' has been created" in told
    assert f"cluster main is trusted, by its CA keys {pin}" in told
    assert token not in pair.leaf.log() + pair.root.log()
    assert "Trusted" in ended(pair.leaf, "get", "trusted_clusters")
    assert ["leaf", "host"] in [line.split()[:2] for line in ended(pair.root, "auth", "ls").splitlines()]

    pair.online()
    done = pair.ssh("db1", "echo", "here")
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr
    wait_until(lambda: bool(events(pair.leaf, "exec", user="joe@main", login=LOGIN)))
    assert not events(pair.leaf, "exec", user="joe")
    # Through the root only: the leaf's own proxy takes its own people, as whom joe of main does not count.
    assert "Permission denied" in pair.ssh("db1", "true", proxy=pair.leaf).stderr
    assert pair.ssh("db1", "-tt", "echo", "on a terminal").returncode == 0
    wait_until(lambda: bool(events(pair.leaf, "session.end", user="joe@main")))
    wait_until(lambda: "joe@main" in ended(pair.leaf, "recordings", "ls"))
    (begun,) = events(pair.root, "trust.begun", cluster="leaf", side="leaf")
    assert begun["addr.remote"] == "127.0.0.1"
    (begun,) = events(pair.leaf, "trust.begun", cluster="main", side="root")
    assert pin in begun["fingerprints"]

    # Live: the tunnel stays, the right goes and comes back another way.
    apply(pair)
    refused(pair, "nothing here is for joe@main")
    assert pair.sites()["leaf"] == "online"
    apply(pair, allowLogins=[LOGIN])
    wait_until(lambda: pair.ssh("db1", "true").returncode == 0)

    apply(pair, allowLogins=[LOGIN], enabled=False)
    wait_until(lambda: pair.sites()["leaf"] == "offline")
    apply(pair, allowLogins=[LOGIN])
    pair.online()
    assert pair.ssh("db1", "true").returncode == 0

    # A restart of either keeps trust; the token is long used.
    pair.leaf.stop()
    pair.leaf.start()
    pair.online()
    assert pair.ssh("db1", "true").returncode == 0

    ended(pair.leaf, "rm", "trusted_cluster/main")
    wait_until(lambda: pair.sites()["leaf"] == "offline")
    ended(pair.root, "auth", "rm", "leaf")
    wait_until(lambda: "leaf" not in pair.sites())
    wait_until(lambda: len(events(pair.leaf, "trust.ended", cluster="main")) == 2)
    reasons = [event["reason"] for event in events(pair.leaf, "trust.ended", cluster="main")]
    assert reasons == ["it is disabled: spec.enabled is false", "its TrustedCluster was deleted"]
    (over,) = events(pair.root, "trust.ended", cluster="leaf")
    assert over["by"].startswith("admin")
