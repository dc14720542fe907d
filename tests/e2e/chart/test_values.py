"""Values: a wrong one is refused in words, and the notes say what to type next."""

from __future__ import annotations

import pytest

from tests.e2e.chart.helm import CHART, HELM, HELM_3, Helm, Refused


@pytest.mark.parametrize("helm", [HELM, HELM_3], ids=["4", "3"])
@pytest.mark.parametrize(
    ("setting", "place", "said"),
    [
        ("proxy.replica=2", "proxy", "replica"),
        ("image.tag=1", "tag", "string"),
        ("storage.type=bolt", "storage", "type"),
        ("node.kind=StatefulSet", "node", "kind"),
        ("proxy.publicAddr=https://proxy.main.example", "proxy", "publicAddr"),
        ("clusterName=Main", "clusterName", "pattern"),
        ("log.severity=LOUD", "log", "severity"),
        ("node.users[0].name=root,node.users[0].uid=1000", "node", "users"),
        ("node.users[0].name=joe,node.users[0].uid=0", "uid", "1000"),
        ("trustedClusters[0].name=main", "trustedClusters", "spec"),
        ("proxy.service.nodePorts.web=70000", "nodePorts", "65535"),
        ("auth.terminationGracePeriodSeconds=5", "terminationGracePeriodSeconds", "20"),
    ],
    ids=lambda value: "",
)
def test_what_the_schema_refuses(helm: Helm, setting: str, place: str, said: str) -> None:
    """Both versions say where, and what was expected."""
    with pytest.raises(Refused) as refused:
        helm.run("template", "x", CHART, f"--set={setting}")
    message = (
        str(refused.value).replace("does not match", "pattern").replace("Does not match", "pattern").replace(",", "")
    )
    assert place in message
    assert said.lower() in message.lower()
    assert "/tmp" not in message


CONTRADICTIONS = [
    ("auth.replicas=2", "auth.replicas: on sqlite there is one auth; for more set storage.type"),
    ("operator.replicas=2", "operator.replicas: on sqlite the operator is in auth's pod"),
    ("storage.type=etcd", "storage.etcd.peers: name the members of etcd, as in https://etcd-0:2379"),
    ("storage.type=dynamodb,storage.dynamodb.region=eu", "storage.dynamodb: region and tableName are needed"),
    ("authentication.secondFactor=u2f", "authentication.u2f: with secondFactor u2f, appId and facets are needed"),
    ("auth.enabled=false", "authServers: auth does not run here (auth.enabled is false)"),
    ("operator.enabled=false", "proxy.joinSecretName: no operator of this release makes a token for it"),
    (
        "operator.enabled=false,proxy.joinSecretName=j,trustedClusters[0].name=a,trustedClusters[0].spec.enabled=true",
        "trustedClusters: the operator makes them true",
    ),
    ("proxy.replicas=2", "proxy.tls: several proxies need one certificate"),
    ("proxy.autoscaling.enabled=true", "proxy.tls: several proxies need one certificate"),
    ("proxy.tls.certManager.enabled=true,proxy.publicAddr=a.example", "proxy.tls.certManager.issuerRef.name: name the"),
    ("proxy.tls.certManager.enabled=true,proxy.tls.certManager.issuerRef.name=x", "certManager.dnsNames: set it, or"),
    ("proxy.ingress.enabled=true", "proxy.ingress.host: set it, or proxy.publicAddr"),
]


@pytest.mark.parametrize(("setting", "said"), CONTRADICTIONS, ids=[said.split(":")[0] for _, said in CONTRADICTIONS])
def test_what_goes_together(setting: str, said: str) -> None:
    """Values that exclude each other are refused; the message names the value and says what to do."""
    with pytest.raises(Refused) as refused:
        HELM.run("template", "x", CHART, f"--set={setting}")
    assert said in str(refused.value)


NOTES = [
    (
        "",
        ["kubectl -n default get secret joe-invite", "port-forward svc/teleport-proxy", "proxy.publicAddr is not set"],
    ),
    ("proxy.publicAddr=proxy.main.example:443", ["tsh --proxy=proxy.main.example:443 --user=joe login"]),
    (
        "operator.enabled=false,proxy.joinSecretName=j",
        [
            "exec -c auth teleport-auth-0 -- tctl nodes add --roles=proxy",
            "exec -c auth teleport-auth-0 -- tctl users add joe root",
        ],
    ),
    (
        "auth.enabled=false,authServers[0]=auth.main.example:3025,proxy.joinSecretName=j",
        ["Pods join the cluster at auth.main.example:3025 with the keys token and caPin of the Secret"],
    ),
    ("storage.type=etcd,storage.etcd.peers[0]=http://etcd:2379", ["audit.recordingsUri is not set"]),
    ("proxy.publicAddr=a.example:443,proxy.tunnelService.enabled=true", ["leaves are told to come to a.example:3024"]),
    (
        "trustedClusters[0].name=main,trustedClusters[0].spec.tokenSecretRef.name=join-main",
        [
            "the Secret join-main has to hold token and caPin",
            "kubectl -n default wait --for=condition=TunnelConnected tcluster/main",
        ],
    ),
    ("crds.enabled=false", ["the operator waits until somebody has applied the custom resource definitions"]),
]


@pytest.mark.parametrize(("setting", "said"), NOTES, ids=[setting.partition("=")[0] for setting, _ in NOTES])
def test_the_notes_say_what_to_type_next(setting: str, said: list[str]) -> None:
    """Commands that fit the release, and what is missing for production."""
    shown = HELM.run("install", "teleport", CHART, "--dry-run=client", f"--set={setting}", "--namespace=default")
    notes = shown.partition("NOTES:")[2]
    assert [text for text in said if text not in notes] == []
    assert "<no value>" not in notes
