"""What the chart renders, feature by feature."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.chart.helm import (
    CHART,
    FEATURES,
    HELM,
    HELM_3,
    RELEASE,
    ROOT,
    Helm,
    Manifest,
    containers,
    documents,
    names,
    one,
    pod_of,
    rendered,
    rendered_with,
    values_of,
    workloads,
)

UID = 65532


def in_order(manifests: Any) -> list[Manifest]:
    """Return manifests in one order."""
    return sorted(
        manifests, key=lambda each: (each["kind"], each["metadata"].get("namespace", ""), str(each["metadata"]["name"]))
    )


@pytest.mark.parametrize(("helm", "version"), [(HELM, "v4."), (HELM_3, "v3.")], ids=["4", "3"])
def test_the_versions(helm: Helm, version: str) -> None:
    """What is tested is what is promised."""
    assert helm.run("version", "--short").startswith(version)


@pytest.mark.parametrize("feature", FEATURES)
def test_both_versions_render_the_same(feature: str) -> None:
    """Helm 3 and Helm 4 agree on every manifest."""
    assert in_order(rendered(feature)) == in_order(rendered(feature, HELM_3))


@pytest.mark.parametrize(("helm", "features"), [(HELM, FEATURES), (HELM_3, ["default", "etcd"])], ids=["4", "3"])
def test_lint(helm: Helm, features: Sequence[str]) -> None:
    """Neither version finds anything amiss with the chart and its values."""
    for feature in features:
        said = helm.run("lint", "--strict", CHART, f"--values={values_of(feature)}")
        assert "[WARNING]" not in said
        assert "[ERROR]" not in said


@pytest.mark.parametrize("path", sorted((ROOT / "crds").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_definitions_are_rendered_whole(path: Path) -> None:
    """A definition of the chart is the one in crds/, and is kept when the release goes."""
    source = yaml.safe_load(path.read_text())
    manifest = one(rendered("default"), "CustomResourceDefinition", source["metadata"]["name"])
    assert manifest["spec"] == source["spec"]
    assert manifest["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_without_definitions() -> None:
    """Somebody else may care for them, and where no auth runs they are no business of the release."""
    assert names(rendered("no-operator"), "CustomResourceDefinition") == []
    assert names(rendered("elsewhere"), "CustomResourceDefinition") == []


@pytest.mark.parametrize("feature", FEATURES)
def test_no_hooks(feature: str) -> None:
    """Nothing is a hook: what applies manifests only, as Argo CD does, installs and upgrades the whole."""
    for manifest in rendered(feature):
        assert not [name for name in manifest["metadata"].get("annotations") or {} if name.startswith("helm.sh/hook")]


@pytest.mark.parametrize("feature", FEATURES)
def test_every_object_is_labelled(feature: str) -> None:
    """All objects tell whose they are, those of the cluster by a name that no other release has."""
    for manifest in rendered(feature):
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["app.kubernetes.io/part-of"] == "teleport"
        if manifest["kind"] in {"ClusterRole", "ClusterRoleBinding"}:
            assert manifest["metadata"]["name"].startswith(f"default-{'access' if feature == 'names' else RELEASE}-")
        elif manifest["kind"] != "CustomResourceDefinition":
            assert manifest["metadata"]["namespace"] in {"default", "team-a", "team-b"}


# --- Security of pods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feature", FEATURES)
def test_pods_are_confined(feature: str) -> None:
    """No root but on nodes, a read-only root, no capabilities, seccomp, no token of the API server."""
    manifests = rendered(feature)
    for component, workload in workloads(manifests).items():
        pod = pod_of(workload)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        if component != "node":
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (UID, UID)
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"]["drop"] == ["ALL"]
            assert ("add" in security["capabilities"]) == (component == "node")
            assert "requests" in container["resources"]
    accounts = [each for each in manifests if each["kind"] == "ServiceAccount"]
    assert all(each["automountServiceAccountToken"] is False for each in accounts)


def test_a_node_has_what_its_work_needs() -> None:
    """A node is root with six capabilities, each for a reason that the values name."""
    security = containers(rendered("node"))["node"]["securityContext"]
    assert security["runAsUser"] == 0
    wanted = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]
    assert security["capabilities"]["add"] == wanted
    comments = "".join(re.findall(r"# CHOWN.*", (CHART / "values.yaml").read_text()))
    assert [name for name in wanted if name not in comments] == []


@pytest.mark.parametrize(("feature", "owner"), [("default", "auth"), ("etcd", "operator")])
def test_only_the_operator_may_call_the_api_server(feature: str, owner: str) -> None:
    """Its container alone mounts a token, also where it shares a pod with auth."""
    manifests = rendered(feature)
    holders = [
        name
        for name, container in containers(manifests).items()
        if any("serviceaccount" in mount["mountPath"] for mount in container["volumeMounts"])
    ]
    assert holders == ["operator"]
    assert "operator" in [each["name"] for each in pod_of(workloads(manifests)[owner])["containers"]]


@pytest.mark.parametrize("feature", FEATURES)
def test_volumes_and_mounts_go_together(feature: str) -> None:
    """Every mount has its volume and every volume is mounted; no two mounts share a path."""
    for workload in workloads(rendered(feature)).values():
        pod = pod_of(workload)
        all_containers = (*pod["containers"], *pod.get("initContainers", []))
        mounted = {mount["name"] for container in all_containers for mount in container["volumeMounts"]}
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        assert mounted == {volume["name"] for volume in pod["volumes"]} | claims
        for container in all_containers:
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert len(paths) == len(set(paths))


# --- Auth and operator ------------------------------------------------------------------------------------------------


def test_the_embedded_database() -> None:
    """One pod with a volume that stays, auth and operator side by side on the same configuration and state."""
    manifests = rendered("default")
    workload = one(manifests, "StatefulSet", "teleport-auth")
    assert workload["spec"]["replicas"] == 1
    assert workload["spec"]["podManagementPolicy"] == "Parallel"
    assert workload["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    auth, operator = pod_of(workload)["containers"]
    assert auth["command"] == ["teleport", "start", "--roles=auth"]
    assert operator["command"] == ["python", "-m", "teleport_operator"]
    shared = [mount for mount in auth["volumeMounts"] if mount in operator["volumeMounts"]]
    assert [mount["name"] for mount in shared] == ["config", "data", "tmp"]
    # When the API server is away the operator is not ready, and auth has to stay in its Service.
    assert "readinessProbe" in auth
    assert "readinessProbe" not in operator
    assert "operator" not in workloads(manifests)
    assert one(manifests, "Service", "teleport-auth")["spec"]["ports"][0]["port"] == 3025


def test_a_storage_of_its_own() -> None:
    """Auth servers and operators scale apart, keep away from each other, and each has its own certificate for etcd."""
    manifests = rendered("etcd")
    auth, operator = (one(manifests, "Deployment", f"teleport-{name}") for name in ("auth", "operator"))
    assert (auth["spec"]["replicas"], operator["spec"]["replicas"]) == (2, 2)
    assert names(manifests, "StatefulSet") == []
    assert len(pod_of(auth)["containers"]) == 1
    apart = pod_of(auth)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart[0]["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "auth"
    secrets = [
        volume["secret"]["secretName"]
        for each in (auth, operator)
        for volume in pod_of(each)["volumes"]
        if volume["name"] == "etcd"
    ]
    assert secrets == ["etcd-client", "etcd-operator"]
    assert "readinessProbe" in pod_of(operator)["containers"][0]
    assert names(manifests, "PodDisruptionBudget") == ["teleport-auth", "teleport-operator", "teleport-proxy"]


def test_keys_for_dynamodb() -> None:
    """Keys come from Secrets as environment, the operator's from its own; a cloud's identity is an annotation."""
    mixed = containers(rendered("dynamodb"))
    assert "envFrom" not in mixed["auth"]
    assert mixed["operator"]["envFrom"] == [{"secretRef": {"name": "operator-aws"}}]
    account = one(rendered("dynamodb"), "ServiceAccount", "teleport-auth")
    assert "eks.amazonaws.com/role-arn" in account["metadata"]["annotations"]
    local = containers(rendered("dynamodb-local"))
    assert [local[name]["envFrom"][0]["secretRef"]["name"] for name in ("auth", "operator")] == ["aws", "aws"]


def test_the_rights_of_the_operator_are_those_of_the_documentation() -> None:
    """docs/operator.md has the list; the chart gives that, each rule with its reason, and nothing else."""
    table = re.findall(
        r"^\| (core|`[^|]*`) \| ([^|]+) \| ([a-z, ]+) \|$", (ROOT / "docs" / "operator.md").read_text(), re.MULTILINE
    )
    wanted = {
        ("" if group == "core" else group.strip("`"), resource, verb.strip())
        for group, resources, verbs in table
        for resource in re.findall(r"`([a-z*]+)`", resources)
        for verb in verbs.split(",")
    }
    assert len(wanted) > 10
    given = {
        (group, resource, verb)
        for role in rendered("default")
        if role["kind"] == "Role"
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert given == wanted
    source = (CHART / "templates" / "operator" / "rbac.yaml").read_text().splitlines()
    for place, line in enumerate(source):
        if "- apiGroups:" in line and "roleRef" not in line:
            before = source[place - 1] if "{{" not in source[place - 1] else source[place - 2]
            assert before.strip().startswith("#") or "apiGroups" in "".join(source[place - 3 : place]), line


def test_rights_where_they_are_needed() -> None:
    """Its own namespace; those that are named; or the cluster, with the right to learn of namespaces."""
    assert {each["metadata"]["namespace"] for each in rendered("default") if each["kind"] == "Role"} == {"default"}
    named = [each["metadata"]["namespace"] for each in rendered("namespaces") if each["kind"] == "RoleBinding"]
    assert sorted(named) == ["default", "default", "team-a", "team-b"]
    assert names(rendered("default"), "ClusterRoleBinding") == []
    wide = one(rendered("cluster-wide"), "ClusterRole", "default-teleport-operator")
    assert {resource for rule in wide["rules"] for resource in rule["resources"]} >= {"namespaces", "secrets"}
    environment = {each["name"]: each.get("value") for each in containers(rendered("namespaces"))["operator"]["env"]}
    assert environment["TELEPORT_OPERATOR_NAMESPACES"] == "default,team-a,team-b"
    wide_environment = {each["name"] for each in containers(rendered("cluster-wide"))["operator"]["env"]}
    assert "TELEPORT_OPERATOR_NAMESPACES" not in wide_environment


def test_rights_of_people() -> None:
    """See, do the daily work, and all: three ClusterRoles that join Kubernetes' own where that gives nothing new."""

    def joined(feature: str) -> dict[str, bool]:
        roles = {each["metadata"]["name"]: each for each in rendered(feature) if each["kind"] == "ClusterRole"}
        return {
            verb: f"rbac.authorization.k8s.io/aggregate-to-{verb}"
            in roles[f"default-teleport-{verb}"]["metadata"]["labels"]
            for verb in ("view", "edit", "admin")
        }

    assert joined("default") == {"view": True, "edit": True, "admin": True}
    assert joined("namespaces") == {"view": True, "edit": False, "admin": False}
    assert joined("cluster-wide") == {"view": True, "edit": True, "admin": True}  # the values ask for it
    view = one(rendered("default"), "ClusterRole", "default-teleport-view")
    assert [rule["verbs"] for rule in view["rules"]] == [["get", "list", "watch"]]
    edit = one(rendered("default"), "ClusterRole", "default-teleport-edit")
    assert [rule["resources"] for rule in edit["rules"]] == [["users", "tokens"]]


# --- Tokens and trusted clusters --------------------------------------------------------------------------------------


def test_members_join_with_tokens_of_the_release() -> None:
    """A Token each for proxies and nodes, renewed as long as the release lasts; pods mount its Secret."""
    manifests = rendered("node")
    found = documents(manifests)
    assert {name: each["spec"]["roles"] for name, each in found.items()} == {
        "teleport-proxy": ["proxy"],
        "teleport-node": ["node"],
    }
    assert all(each["kind"] == "Token" and each["spec"]["renew"] is True for each in found.values())
    assert found["teleport-node"]["spec"]["labels"] == {"team": "web"}
    for component in ("proxy", "node"):
        volumes = {volume["name"]: volume for volume in pod_of(workloads(manifests)[component])["volumes"]}
        assert volumes["join"]["secret"]["secretName"] == f"teleport-{component}-token"
        assert [item["key"] for item in volumes["join"]["secret"]["items"]] == ["token", "caPin"]


def test_members_join_with_secrets_of_others() -> None:
    """Where no operator of the release makes tokens, a Secret is named."""
    manifests = rendered("elsewhere")
    assert names(manifests, "ConfigMap") == ["teleport-node"]
    volumes = {volume["name"]: volume for volume in pod_of(workloads(manifests)["node"])["volumes"]}
    assert volumes["join"]["secret"]["secretName"] == "join-main"


def test_trusted_clusters() -> None:
    """Those of the values become documents, as they are written."""
    written = yaml.safe_load(values_of("leaf").read_text())["trustedClusters"][0]
    document = documents(rendered("leaf"))["main"]
    assert (document["kind"], document["spec"]) == ("TrustedCluster", written["spec"])


# --- Proxy ------------------------------------------------------------------------------------------------------------


def test_ways_to_the_proxy() -> None:
    """A Service of any type with the ports and addresses of the values, and an Ingress for HTTPS."""
    inside = one(rendered("default"), "Service", "teleport-proxy")["spec"]
    assert inside["type"] == "ClusterIP"
    assert {port["name"]: port["port"] for port in inside["ports"]} == {"web": 3080, "ssh": 3023, "tunnel": 3024}
    ports = one(rendered("node-port"), "Service", "teleport-proxy")["spec"]["ports"]
    assert {port["name"]: port["nodePort"] for port in ports} == {"web": 30080, "ssh": 30023, "tunnel": 30024}
    balanced = one(rendered("load-balancer"), "Service", "teleport-proxy")["spec"]
    assert balanced["externalTrafficPolicy"] == "Local"
    assert balanced["loadBalancerSourceRanges"] == ["203.0.113.0/24"]
    assert {port["name"]: (port["port"], port["targetPort"]) for port in balanced["ports"]}["web"] == (443, "web")
    ingress = one(rendered("ingress"), "Ingress")["spec"]
    assert ingress["rules"][0]["host"] == "teleport.main.example"
    assert ingress["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] == {"name": "web"}


def test_ways_of_leaves_to_the_proxy() -> None:
    """The port of tunnels is one of the proxy's Service, or has one of its own, with its own type and port."""
    assert names(rendered("load-balancer"), "Service") == ["teleport-auth", "teleport-proxy"]
    people = one(rendered("root"), "Service", "teleport-proxy")["spec"]
    leaves = one(rendered("root"), "Service", "teleport-proxy-tunnel")["spec"]
    assert [port["name"] for port in people["ports"]] == ["web", "ssh"]
    assert leaves["ports"] == [{"name": "tunnel", "port": 443, "targetPort": "tunnel"}]
    assert leaves["loadBalancerSourceRanges"] == ["198.51.100.0/24"]
    assert leaves["selector"] == people["selector"]
    fixed = "proxy.tunnelService.enabled=true,proxy.tunnelService.type=NodePort,proxy.tunnelService.nodePort=31024"
    (port,) = one(rendered_with(fixed), "Service", "teleport-proxy-tunnel")["spec"]["ports"]
    assert port["nodePort"] == 31024


def test_certificates_for_https() -> None:
    """From a Secret, from cert-manager, or the proxy's own; the Secret is a whole folder, so that a new one is seen."""
    assert "tls" not in {volume["name"] for volume in pod_of(workloads(rendered("default"))["proxy"])["volumes"]}
    issued = one(rendered("cert-manager"), "Certificate")["spec"]
    assert issued["dnsNames"] == ["proxy.main.example", "teleport.main.example"]
    assert issued["issuerRef"]["kind"] == "ClusterIssuer"
    for feature, secret in (("cert-manager", issued["secretName"]), ("load-balancer", "proxy-tls")):
        volumes = {volume["name"]: volume for volume in pod_of(workloads(rendered(feature))["proxy"])["volumes"]}
        assert volumes["tls"]["secret"]["secretName"] == secret
        mounts = {mount["name"]: mount for mount in containers(rendered(feature))["proxy"]["volumeMounts"]}
        assert "subPath" not in mounts["tls"]


def test_proxies_scale() -> None:
    """By an autoscaler, which alone says how many; fewer only slowly, and never all at once."""
    manifests = rendered("autoscaling")
    assert "replicas" not in workloads(manifests)["proxy"]["spec"]
    scale = one(manifests, "HorizontalPodAutoscaler")["spec"]
    assert (scale["minReplicas"], scale["maxReplicas"]) == (3, 6)
    assert scale["scaleTargetRef"]["name"] == "teleport-proxy"
    assert names(manifests, "PodDisruptionBudget") == ["teleport-proxy"]


# --- Nodes ------------------------------------------------------------------------------------------------------------


def test_nodes_with_people() -> None:
    """Whoever is named can log in: an account and a home folder; the image's own accounts are replaced."""
    manifests = rendered("node")
    accounts = one(manifests, "ConfigMap", "teleport-node")["data"]["passwd"].splitlines()
    assert [line.split(":")[0] for line in accounts] == ["root", "nobody", "joe", "ann"]
    assert accounts[-1] == "ann:x:1001:1001::/home/ann:/bin/sh"
    assert "install -d -m 0700 -o 1000 -g 1000 /home/joe" in containers(manifests)["homes"]["command"][-1]
    assert "homes" not in containers(rendered("config"))


def test_nodes_as_deployment_or_everywhere() -> None:
    """A Deployment's are called as their pods, a DaemonSet's as the machines."""
    assert workloads(rendered("node"))["node"]["kind"] == "Deployment"
    assert containers(rendered("node"))["node"]["command"] == ["teleport", "start", "--roles=node"]
    everywhere = rendered("daemonset")
    assert workloads(everywhere)["node"]["kind"] == "DaemonSet"
    assert "affinity" not in pod_of(workloads(everywhere)["node"])
    assert containers(everywhere)["node"]["command"][-1] == "--nodename=$(HOST_NAME)"


# --- Around it --------------------------------------------------------------------------------------------------------


def test_who_may_reach_whom() -> None:
    """Members and those that are named reach auth, proxies reach nodes, everybody the proxy, Prometheus the metrics."""
    policies = {
        each["metadata"]["name"]: each["spec"] for each in rendered("network-policy") if each["kind"] == "NetworkPolicy"
    }
    assert sorted(policies) == ["teleport-auth", "teleport-node", "teleport-operator", "teleport-proxy"]

    def who(component: str, port: str) -> Any:
        (rule,) = [rule for rule in policies[f"teleport-{component}"]["ingress"] if {"port": port} in rule["ports"]]
        return rule.get("from")

    to_auth = who("auth", "auth")
    members = [
        each["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for each in to_auth if "podSelector" in each
    ]
    assert members == ["proxy", "node", "auth"]
    assert {"ipBlock": {"cidr": "10.20.0.0/16"}} in to_auth
    assert [each["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for each in who("node", "ssh")] == [
        "proxy"
    ]
    assert who("proxy", "ssh") is None
    assert "namespaceSelector" in who("operator", "operator-diag")[0]
    embedded = {
        each["metadata"]["name"]: each["spec"]
        for each in rendered("network-policy-embedded")
        if each["kind"] == "NetworkPolicy"
    }
    assert sorted(embedded) == ["teleport-auth", "teleport-proxy"]
    assert [len(policy["ingress"]) for policy in embedded.values()] == [1, 1]


def test_network_policies_of_tunnels() -> None:
    """Leaves reach HTTPS and tunnels of a root, and no SSH; a leaf's own proxies take nobody from outside."""
    people, leaves = one(rendered("root"), "NetworkPolicy", "teleport-proxy")["spec"]["ingress"]
    assert people["from"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}]
    assert leaves == {
        "ports": [{"port": "web"}, {"port": "tunnel"}],
        "from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}],
    }
    (own,) = one(rendered("leaf"), "NetworkPolicy", "teleport-proxy")["spec"]["ingress"]
    assert own["from"] == [{"podSelector": {}}]
    # What goes out is not limited: a leaf dials its root.
    policies = [each for each in rendered("leaf") if each["kind"] == "NetworkPolicy"]
    assert {tuple(each["spec"]["policyTypes"]) for each in policies} == {("Ingress",)}


def test_metrics() -> None:
    """A PodMonitor finds every pod that has a port for metrics."""
    monitor = one(rendered("pod-monitor"), "PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    scraped = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    offered = {
        port["name"]
        for container in containers(rendered("pod-monitor")).values()
        for port in container["ports"]
        if "diag" in port["name"]
    }
    assert scraped == offered == {"diag", "operator-diag"}


def test_what_the_values_add_to_pods() -> None:
    """Scheduling, resources, environment, accounts and images are where they are asked for."""
    manifests = rendered("scheduling")
    pod = pod_of(workloads(manifests)["auth"])
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert pod["serviceAccountName"] == "access"
    assert pod["topologySpreadConstraints"][0]["maxSkew"] == 1
    assert "affinity" not in pod
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    auth = containers(manifests)["auth"]
    assert auth["env"] == [{"name": "TZ", "value": "UTC"}]
    assert auth["image"].startswith("registry.main.example/teleport@sha256:")
    assert auth["resources"]["limits"] == {"memory": "2Gi"}
    assert names(manifests, "ServiceAccount") == ["teleport-node"]
    assert containers(manifests)["node"]["image"] == "registry.main.example/tools:1"
    assert "nodeAffinity" in pod_of(workloads(manifests)["node"])["affinity"]
    named = rendered("names")
    assert names(named, "StatefulSet") == ["access-auth"]
    assert one(named, "StatefulSet")["metadata"]["annotations"]["owner"] == "platform@main.example"
    assert "volumeClaimTemplates" not in one(named, "StatefulSet")["spec"]


# --- What starts pods anew --------------------------------------------------------------------------------------------


RESTARTS = [
    ("log.severity=DEBUG", {"auth", "proxy", "node"}),
    ("authentication.secondFactor=off", {"auth"}),
    ("node.labels.env=prod", {"node"}),
    ("node.users[0].name=joe,node.users[0].uid=1000,node.users[0].shell=/bin/dash", {"node"}),
    ("proxy.publicAddr=proxy.main.example:443", {"proxy"}),
    ("node.replicas=5", set()),
    ("proxy.tls.certManager.dnsNames[0]=b.example", set()),
    ("networkPolicy.enabled=true", set()),
    ("node.tokenLabels.team=db", set()),
    ("trustedClusters[0].name=main,trustedClusters[0].spec.enabled=true", set()),
    ("commonAnnotations.a=b", {"auth", "proxy", "node"}),
    ("image.tag=v9", {"auth", "proxy", "node"}),
]


@pytest.mark.parametrize(("setting", "anew"), RESTARTS, ids=[setting for setting, _ in RESTARTS])
def test_what_starts_pods_anew(setting: str, anew: set[str]) -> None:
    """A change starts those pods anew whose configuration it is, and no other."""
    before, after = (workloads(each) for each in (rendered("node"), rendered_with(setting, feature="node")))
    changed = {name for name in before if before[name]["spec"]["template"] != after[name]["spec"]["template"]}
    assert changed == anew


def test_the_version_of_the_chart_starts_nothing_anew() -> None:
    """Pods carry neither the chart's version nor that of the release: only what they run counts."""
    versions = {"helm.sh/chart", "app.kubernetes.io/version"}
    for feature in FEATURES:
        for workload in workloads(rendered(feature)).values():
            assert versions <= workload["metadata"]["labels"].keys()
            assert not versions & workload["spec"]["template"]["metadata"]["labels"].keys()


def test_a_selector_never_changes() -> None:
    """What Kubernetes refuses to change is the same whatever is set, so that every release can be upgraded."""
    for feature in FEATURES:
        for name, workload in workloads(rendered(feature)).items():
            wanted = {"app.kubernetes.io/name": "teleport", "app.kubernetes.io/instance": RELEASE}
            assert workload["spec"]["selector"]["matchLabels"] == {**wanted, "app.kubernetes.io/component": name}
            assert (
                workload["spec"]["selector"]["matchLabels"].items()
                <= workload["spec"]["template"]["metadata"]["labels"].items()
            )
