"""A root and its leaf: two releases in two namespaces, joined as examples/trusted-cluster says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.kubernetes.node import Cluster
from tests.e2e.kubernetes.policies import NetworkPolicies
from tests.e2e.scenarios.conftest import GIVEN
from tests.e2e.scenarios.place import Done, Kubernetes, Object, until
from tests.e2e.scenarios.reach import at, pods_of, reached, services_of
from tests.e2e.scenarios.release import Release, release
from tests.e2e.scenarios.someone import Someone
from tests.e2e.scenarios.test_etcd import certificate
from tests.servers import image

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "trusted-cluster"
BACK_SECONDS = 60.0
"""How long a tunnel may take to be back from when both proxies are ready; two seconds are usual."""
ALL = ("auth", "proxy", "node")


@dataclass
class Pair:
    """Two releases, and ann of the root, who has signed up and logged in."""

    root: Release
    leaf: Release
    ann: Someone

    def tsh(self, *words: str) -> Done:
        """Run tsh in the leaf."""
        return self.ann.tsh("--cluster=leaf", *words)

    @property
    def node(self) -> str:
        """The leaf's node as one logs in to it."""
        return f"root@{self.leaf.wait_pods('node', 1)[0]}"

    def gets_in(self) -> bool:
        """Tell whether a command of ann runs on the leaf's node."""
        return self.tsh("ssh", self.node, "true").returncode == 0

    def until_in(self, *, seconds: float = 60.0) -> None:
        """Wait until ann gets in."""
        until(self.gets_in, "ann gets in to the leaf's node", self.leaf, seconds=seconds)

    def until_refused(self) -> str:
        """Wait until ann does not get in, and return what she is told."""
        said: list[str] = []

        def refused() -> bool:
            done = self.tsh("ssh", self.node, "true")
            said.append(done.stderr)
            return done.returncode == 255

        until(refused, "ann is refused", self.leaf)
        return said[-1]

    def until_shown(self, status: str) -> None:
        """Wait until `tsh clusters` shows the leaf so."""

        def shown() -> bool:
            listed = json.loads(self.ann.tsh("clusters", "--format=json").stdout or "[]")
            return {each["name"]: each["status"] for each in listed}.get("leaf") == status

        until(shown, f"the leaf is {status}", self.root)

    def wait(self, condition: str, reason: str) -> Object:
        """Wait until the TrustedCluster has a condition for that reason, and return its status."""

        def read() -> Object:
            found: Object = self.leaf.get("trustedcluster.teleport.internal", "main")
            status: Object = found.get("status", {})
            generation = found["metadata"]["generation"]
            reasons = {
                each["type"]: each["reason"]
                for each in status.get("conditions", [])
                if each["observedGeneration"] == generation
            }
            return status if reasons.get(condition) == reason else {}

        return until(read, f"{condition} is {reason}", self.leaf)

    def patch(self, **spec: Any) -> None:
        """Edit the TrustedCluster."""
        change = json.dumps({"spec": spec})
        self.leaf.kubectl("patch", "trustedcluster.teleport.internal", "main", "--type=merge", "-p", change)

    def events(self, place: Release, kind: str) -> list[Object]:
        """Return a cluster's audit events of one type."""
        printed = place.tctl("events", "ls", f"--type={kind}", "--format=json").stdout
        return [json.loads(line) for line in printed.splitlines()]


def commands() -> list[str]:
    """Return the kubectl commands of the example's README, in its order."""
    lines = (EXAMPLE / "README.md").read_text().splitlines()
    return [line.strip() for line in lines if line.startswith("    kubectl ")]


def values_of(side: str) -> dict[str, Any]:
    """Return the example's values of a side."""
    found: dict[str, Any] = yaml.safe_load((EXAMPLE / f"{side}-values.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def network(kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Iterator[None]:
    """Have NetworkPolicies count: a cluster that is given has a network that knows them, as kind has."""
    if os.environ.get(GIVEN):
        yield
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    with NetworkPolicies(cluster.control_plane):
        yield


@pytest.fixture(scope="module")
def pair(kubernetes: Kubernetes, network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Install both with the example's values, and do what its README says; ann signs up meanwhile."""
    with ExitStack() as stack:
        root = stack.enter_context(release(kubernetes, "main", image.reference(), 3, values_of("root")))
        leaf = stack.enter_context(release(kubernetes, "leaf", image.reference(), None, values_of("leaf")))
        # What comes in the proxy's place has the same certificate for HTTPS, or tsh would not believe it.
        root.values["proxy"]["tls"] = {"secretName": "web"}
        root.apply(certificate("web", kubernetes.address))
        root.install()
        leaf.install()
        for command in commands():
            kubernetes.done("sh", "-c", f"cd '{ROOT}' && {command}")
        ann = Someone(root, "ann", tmp_path_factory.mktemp("ann") / "home")
        root.wait_pods("proxy", 1)
        ann.sign_up()
        done = ann.log_in()
        assert done.returncode == 0, done.stderr
        yield Pair(root, leaf, ann)


def test_the_leaf_is_seen_and_used_from_the_root(pair: Pair) -> None:
    """One Token, one Secret and one TrustedCluster later, tsh lists the leaf and its node and runs a command there."""
    status = pair.wait("Ready", "Reconciled")
    assert len(status["caFingerprints"]) == 2
    pair.until_shown("online")
    (node,) = pair.leaf.wait_pods("node", 1)
    until(lambda: node in pair.tsh("ls", "env=staging").stdout, "the leaf's node is listed", pair.leaf)
    assert node not in pair.ann.nodes()
    done = pair.tsh("ssh", f"root@{node}", "hostname; exit 3")
    assert (done.returncode, done.stdout) == (3, f"{node}\n"), done.stderr
    refused = pair.tsh("ssh", f"daemon@{node}", "true")
    assert refused.returncode == 255
    assert "daemon" in refused.stderr


def test_plain_ssh_goes_through_the_tunnel(pair: Pair) -> None:
    """OpenSSH with what tsh config prints, which is the manual's ProxyCommand with the leaf's name, gets in as well."""
    ssh = pair.ann.home / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "config").write_text(pair.ann.tsh("config", "--cluster=leaf").stdout)
    assert "@leaf" in (ssh / "config").read_text()
    done = pair.ann.shell.run_other("ssh", "-F", ssh / "config", f"{pair.node}.leaf", "echo in")
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr


def test_nothing_of_the_leaf_is_reached_but_through_the_tunnel(pair: Pair) -> None:
    """No pod of the root gets a connection to the leaf's pods or Services; the leaf to the root's proxies only."""
    root, leaf = pair.root, pair.leaf
    for component in ALL:
        leaf.wait_pods(component, 1)
    theirs = pods_of(leaf, *ALL) | services_of(leaf)
    assert {each["spec"]["type"] for each in leaf.get("services")["items"]} == {"ClusterIP"}
    with ThreadPoolExecutor(4) as pool:
        from_proxy = pool.submit(reached, root, "proxy", theirs)
        from_auth = pool.submit(reached, root, "auth", theirs)
        inside = pool.submit(reached, leaf, "proxy", theirs)
        out = pool.submit(reached, leaf, "proxy", pods_of(root, "auth", "proxy"))
    assert (from_proxy.result(), from_auth.result()) == (set(), set())
    # The same attempt does succeed where it may: it is the network that keeps the root out, and nothing else.
    assert inside.result() == at(leaf, "auth", 3025) | at(leaf, "node", 3022) | services_of(leaf)
    assert out.result() == at(root, "proxy", 3024, 3080)


def test_both_sides_tell_who_was_there(pair: Pair) -> None:
    """The root's audit log has ann and the cluster that she went to; the leaf's has ann of main, on its node."""
    pair.until_in()
    where = pair.leaf.wait_pods("node", 1)[0]

    def told() -> bool:
        carried = [each for each in pair.events(pair.root, "proxy.connect") if each.get("cluster") == "leaf"]
        came = [each for each in pair.events(pair.leaf, "exec") if each.get("user") == "ann@main"]
        return any(each["user"] == "ann" for each in carried) and any(each["command"] == "true" for each in came)

    until(told, "both audit logs tell it", pair.leaf)
    (begun,) = pair.events(pair.leaf, "trust.begun")
    assert (begun["cluster"], begun["side"]) == ("main", "root")
    (begun,) = pair.events(pair.root, "trust.begun")
    assert (begun["cluster"], begun["side"]) == ("leaf", "leaf")
    assert pair.events(pair.root, "tunnel.connected")
    assert where not in pair.root.tctl("nodes", "ls").stdout


def test_an_edit_counts_at_once(pair: Pair) -> None:
    """Another roleMap takes and gives access on the same tunnel; disabled there is none, and enabled one again."""
    pair.until_in()
    tunnels = len(pair.events(pair.root, "tunnel.connected"))
    pair.patch(roleMap=[{"remote": "nobody", "local": ["visitors"]}])
    assert "this cluster maps no role and no login to people of main" in pair.until_refused()
    pair.patch(roleMap=[{"remote": "ops", "local": ["visitors"]}])
    pair.until_in()
    assert len(pair.events(pair.root, "tunnel.connected")) == tunnels
    pair.patch(enabled=False)
    pair.wait("TunnelConnected", "Disabled")
    pair.until_shown("offline")
    assert "offline" in pair.until_refused()
    pair.patch(enabled=True)
    pair.wait("TunnelConnected", "Connected")
    pair.until_in()


@pytest.mark.parametrize("side", ["root", "leaf"])
def test_the_tunnel_is_back_after_a_proxy_is_gone(pair: Pair, side: str) -> None:
    """A proxy's pod dies on either side: soon after the next one is ready people get through it again."""
    pair.until_in()
    place = pair.root if side == "root" else pair.leaf
    (old,) = place.wait_pods("proxy", 1)
    place.kill(old)
    place.wait_pods("proxy", 1, but=[old])
    pair.until_in(seconds=BACK_SECONDS)


def test_the_root_gets_new_authorities_below_a_session(pair: Pair) -> None:
    """Pods and the leaf follow each phase, no session is cut, and at the end old certificates count no more."""
    pair.until_in()
    with pair.ann.shell.terminal("--cluster=leaf", "ssh", pair.node) as terminal:
        terminal.type("echo before-$((40+1))\n")
        terminal.expect("before-41")
        for step in ("--manual", "--phase=update_clients", "--phase=update_servers", "--phase=standby"):
            # Refused until all members have followed the step before.
            until(lambda: pair.root.tctl("auth", "rotate", step).returncode == 0, f"rotated {step}", pair.root)  # noqa: B023 - called here
        pair.until_refused()
        done = pair.ann.log_in_again()
        assert done.returncode == 0, done.stderr
        pair.until_in()
        terminal.type("echo after-$((41+1))\n")
        terminal.expect("after-42")
        terminal.type("exit 7\n")
        assert terminal.wait() == 7
    pods = [each for place in (pair.root, pair.leaf) for component in ALL for each in place.pods(component)]
    assert {status["restartCount"] for each in pods for status in each["status"]["containerStatuses"]} == {0}


def test_trust_ends_and_begins_with_the_values(pair: Pair) -> None:
    """With the TrustedCluster deleted nobody gets in; declared by the values, with a new token, it counts again."""
    leaf, root = pair.leaf, pair.root
    leaf.kubectl("delete", "trustedcluster.teleport.internal", "main", "--timeout=60s")
    leaf.kubectl("delete", "secret", "join-main")
    pair.until_shown("offline")
    pair.until_refused()
    root.kubectl("delete", "secret", "leaf-token")
    root.secret("leaf-token", "token", "caPin")
    root.ready("token", "leaf")
    (carry,) = [each for each in commands() if "leaf-token" in each]
    root.kubernetes.done("sh", "-c", f"cd '{ROOT}' && {carry}")
    documents = {each["kind"]: each for each in yaml.safe_load_all((EXAMPLE / "leaf.yaml").read_text())}
    leaf.upgrade({"trustedClusters": [{"name": "main", "spec": documents["TrustedCluster"]["spec"]}]})
    # The kubelet brings a ConfigMap to a pod that runs within a minute; a new pod has it at once.
    leaf.kubectl("delete", "pod", *leaf.wait_pods("auth", 1), "--wait=false")
    until(lambda: leaf.get("trustedclusters.teleport.internal")["items"], "the values are declared", leaf)
    pair.wait("TunnelConnected", "Connected")
    pair.until_shown("online")
    pair.until_in()
