"""What becomes of NetworkPolicies on our own node: tests/e2e/scenarios/test_two_clusters.py shows that it counts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.kubernetes.policies import Pod, World, ruleset

WORLD = World(
    (
        Pod("leaf", {"app": "auth"}, "10.0.0.1", {"auth": 3025}),
        Pod("leaf", {"app": "proxy"}, "10.0.0.2", {"web": 3080}),
        Pod("main", {"app": "proxy"}, "10.0.0.3", {"web": 443}),
    ),
    {"leaf": {"name": "leaf"}, "main": {"name": "main"}},
)


def policy(kind: str, **spec: Any) -> dict[str, Any]:
    """Return a policy of the namespace leaf, as the API server has it."""
    return {"metadata": {"namespace": "leaf"}, "spec": {"podSelector": {}, "policyTypes": [kind], **spec}}


def rules(*policies: dict[str, Any]) -> dict[str, list[str]]:
    """Return the rules of each chain."""
    found: dict[str, list[str]] = {}
    for line in ruleset(policies, WORLD).splitlines():
        match line.split():
            case ["chain", name, "{"]:
                chain = found.setdefault(name, [])
            case [*words] if line.startswith("    "):
                chain.append(" ".join(words))
    return found


def test_who_is_selected_is_closed_but_for_what_is_allowed() -> None:
    """Peers by labels, near and in other namespaces, by addresses, and ports by the names that the pod has for them."""
    peers = [
        {"podSelector": {"matchLabels": {"app": "proxy"}}},
        {"namespaceSelector": {"matchLabels": {"name": "main"}}},
        {"ipBlock": {"cidr": "192.0.2.0/24"}},
    ]
    auth = {"matchLabels": {"app": "auth"}}
    found = rules(policy("Ingress", podSelector=auth, ingress=[{"from": peers, "ports": [{"port": "auth"}]}]))
    assert found.keys() == {"forward", "ingress-10-0-0-1"}
    assert found["ingress-10-0-0-1"] == [
        "ip saddr { 10.0.0.2 } tcp dport 3025 return",
        "ip saddr { 10.0.0.3 } tcp dport 3025 return",
        "ip saddr 192.0.2.0/24 tcp dport 3025 return",
        "reject with icmpx admin-prohibited",
    ]
    assert found["forward"][1:] == ["ct state established,related accept", "ip daddr 10.0.0.1 jump ingress-10-0-0-1"]


def test_what_goes_out_has_the_ports_of_those_it_goes_to() -> None:
    """A name of a port means the other pod's; without a peer it is anywhere, without a rule nowhere."""
    there = {"namespaceSelector": {"matchLabels": {"name": "main"}}}
    proxy = {"matchLabels": {"app": "proxy"}}
    out = [{"to": [there], "ports": [{"port": "web"}]}, {"ports": [{"port": 53, "protocol": "UDP"}]}]
    found = rules(policy("Egress", podSelector=proxy, egress=out))
    assert found["egress-10-0-0-2"][:-1] == ["ip daddr { 10.0.0.3 } tcp dport 443 return", "udp dport 53 return"]
    assert rules(policy("Egress"))["egress-10-0-0-2"] == ["reject with icmpx admin-prohibited"]


def test_what_is_not_understood_is_refused() -> None:
    """No word of a policy is passed over: it might be the one that closes."""
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}
    with pytest.raises(ValueError, match="except of a NetworkPolicy is not known here"):
        rules(policy("Ingress", ingress=[{"from": [block]}]))
    with pytest.raises(ValueError, match="matchExpressions"):
        rules(policy("Ingress", podSelector={"matchExpressions": []}))
