"""The teleport.yaml that the chart writes is one that teleport takes, and means what the values say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from runtime.core.durations import parse_duration
from runtime.service.checks import warnings
from runtime.service.load import resolve
from runtime.service.sections.auth import SecondFactor
from runtime.service.sections.storage import DynamoDBStorage, EtcdStorage
from runtime.service.settings import Settings
from runtime.service.values import Address
from tests.e2e.chart.helm import FEATURES, containers, one, pod_of, rendered, rendered_with, workloads


def settings(feature: str, component: str) -> Settings:
    """Return the settings of a component, read as the daemon reads them. Raises InvalidSettings."""
    name = "access" if feature == "names" else "teleport"
    data = one(rendered(feature), "ConfigMap", f"{name}-{component}")["data"]
    return resolve(data["teleport.yaml"], source=f"{feature}/{component}")


def components(feature: str) -> list[str]:
    """Return what has a configuration of its own: the operator reads auth's."""
    return [name for name in workloads(rendered(feature)) if name != "operator"]


@pytest.mark.parametrize("feature", FEATURES)
def test_every_configuration_is_taken(feature: str) -> None:
    """Each is valid, runs the one role that the container starts, and warns of nothing but what the pod explains."""
    for component in components(feature):
        check(feature, component, settings(feature, component))


def check(feature: str, component: str, found: Settings) -> None:
    """Hold a component's settings to the container that they are for."""
    assert [str(role) for role in found.roles] == [component]
    assert containers(rendered(feature))[component]["command"][:3] == ["teleport", "start", f"--roles={component}"]
    assert {".".join(map(str, path)) for path, _ in warnings(found)} == {"teleport.diag_addr"}  # only the pod's network
    ports = {port["name"]: port["containerPort"] for port in containers(rendered(feature))[component]["ports"]}
    listen = {
        "auth": {"auth": found.auth_service.listen_addr},
        "node": {"ssh": found.ssh_service.listen_addr},
        "proxy": {
            "ssh": found.proxy_service.listen_addr,
            "tunnel": found.proxy_service.tunnel_listen_addr,
            "web": found.proxy_service.web_listen_addr,
        },
    }[component]
    assert found.teleport.diag_addr is not None
    assert ports == {**{name: address.port for name, address in listen.items()}, "diag": found.teleport.diag_addr.port}


@pytest.mark.parametrize("feature", FEATURES)
def test_files_of_the_configuration_are_mounted(feature: str) -> None:
    """Every path in it lies in a volume of the pod, and what is written is not in the image."""
    for component in components(feature):
        check_paths(feature, component, settings(feature, component))


def check_paths(feature: str, component: str, found: Settings) -> None:
    """Hold the paths in a component's settings to the mounts of its container."""
    mounts = [Path(mount["mountPath"]) for mount in containers(rendered(feature))[component]["volumeMounts"]]
    storage = found.teleport.storage
    token = found.teleport.auth_token
    paths = [
        found.teleport.data_dir,
        token.get_secret_value() if token else None,
        found.teleport.ca_pin,
        found.proxy_service.https_cert_file,
        found.proxy_service.https_key_file,
        *(
            [storage.tls_ca_file, storage.tls_cert_file, storage.tls_key_file]
            if isinstance(storage, EtcdStorage)
            else []
        ),
    ]
    assert [path for path in paths if path and not any(Path(path).is_relative_to(mount) for mount in mounts)] == []
    # The volume's own folder belongs to root, who alone may close it to others.
    assert Path(found.teleport.data_dir) not in mounts


def test_members_find_auth() -> None:
    """By the name of its Service, or where the values say; and they believe no other CA than the Secret's."""
    for component in ("proxy", "node"):
        teleport = settings("node", component).teleport
        assert teleport.auth_servers == (Address("teleport-auth.default.svc", 3025),)
        assert teleport.ca_pin == "/var/run/teleport/join/caPin"
    assert settings("elsewhere", "node").teleport.auth_servers == (Address("auth.main.example", 3025),)


@pytest.mark.parametrize("component", ["proxy", "node"])
def test_a_stop_ends_before_kubernetes_ends_it(component: str) -> None:
    """Sessions go on for as long as the pod has, less what good-byes take."""
    manifests = rendered("node")
    has = pod_of(workloads(manifests)[component])["terminationGracePeriodSeconds"]
    takes = settings("node", component).teleport.drain_timeout.total_seconds()
    hook = 3 if component == "proxy" else 0
    assert takes + hook < has
    assert takes >= has - 10


def test_what_the_values_say() -> None:
    """Storage, addresses, factors, audit and additions arrive."""
    etcd = settings("etcd", "auth")
    assert isinstance(etcd.teleport.storage, EtcdStorage)
    assert len(etcd.teleport.storage.peers) == 2
    assert etcd.dynamic_config
    assert etcd.auth_service.cluster_name == "main"
    dynamodb = settings("dynamodb-local", "auth").teleport.storage
    assert isinstance(dynamodb, DynamoDBStorage)
    assert (dynamodb.table_name, dynamodb.endpoint) == ("teleport", "http://dynamodb:8000")
    proxy = settings("node-port", "proxy").proxy_service
    assert proxy.public_addr == Address("10.0.0.5", 30080)
    assert proxy.ssh_public_addr == Address("10.0.0.5", 30023)
    assert settings("u2f", "auth").auth_service.authentication.second_factor is SecondFactor.U2F
    audit = settings("audit", "auth").audit
    assert audit.retention == parse_duration("720h")
    assert len(audit.sinks) == 2
    assert settings("config", "auth").teleport.connection_limits.max_connections == 5000
    assert settings("config", "proxy").proxy_service.openssh_servers[0].name == "db1"
    assert settings("node", "node").ssh_service.labels == {"env": "staging"}


TUNNELS = [
    ("", None),
    ("proxy.publicAddr=a.example:443", None),  # the proxy says a.example:3024 by itself
    ("proxy.publicAddr=a.example:443,proxy.service.ports.tunnel=8024", "a.example:8024"),
    ("proxy.publicAddr=a.example:443,proxy.service.type=NodePort", None),
    (
        "proxy.publicAddr=a.example:30080,proxy.service.type=NodePort,proxy.service.nodePorts.tunnel=30024",
        "a.example:30024",
    ),
    ("proxy.publicAddr=a.example:443,proxy.tunnelService.enabled=true,proxy.tunnelService.port=443", None),
    ("proxy.tunnelPublicAddr=tunnel.example:443", "tunnel.example:443"),
]


@pytest.mark.parametrize(("setting", "address"), TUNNELS, ids=[setting for setting, _ in TUNNELS])
def test_where_leaves_are_told_to_come(setting: str, address: str | None) -> None:
    """What the values say, else where the Service has the port of tunnels, as far as that is known."""
    text = one(rendered_with(setting), "ConfigMap", "teleport-proxy")["data"]["teleport.yaml"]
    told = resolve(text, source=setting).proxy_service.tunnel_public_addr
    assert (str(told) if told else None) == address


def test_auth_and_operator_read_the_same() -> None:
    """The operator opens the storage that auth opens: both have one configuration."""
    for feature in ("default", "etcd"):
        for name in ("auth", "operator"):
            mounts = {each["mountPath"]: each for each in containers(rendered(feature))[name]["volumeMounts"]}
            assert mounts["/etc/teleport.yaml"]["subPath"] == "teleport.yaml"
        pods = [
            pod_of(workloads(rendered(feature))[name])
            for name in {"auth", *({"operator"} if feature == "etcd" else ())}
        ]
        sources = {
            volume["configMap"]["name"] for pod in pods for volume in pod["volumes"] if volume["name"] == "config"
        }
        assert sources == {"teleport-auth"}


def test_what_is_written_is_yaml_of_the_reader() -> None:
    """No value becomes another on its way: `off` stays a word, a number in quotes stays text."""
    text = one(rendered("u2f"), "ConfigMap", "teleport-auth")["data"]["teleport.yaml"]
    assert yaml.safe_load(text)["auth_service"]["authentication"]["second_factor"] == "u2f"
