"""Each piece of configuration that the manual shows is understood as the manual says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runtime.backend.options import DynamoDBOptions, EtcdOptions, SqliteOptions
from runtime.core.errors import InvalidSettings
from runtime.service.flags import parse_flags
from runtime.service.load import resolve
from runtime.service.sections.auth import AuthenticationType, SecondFactor
from runtime.service.sections.teleport import LogOutput, Severity
from runtime.service.values import Address, Role

CONFIGURATION_FILE = """
teleport:
    nodename: graviton
    data_dir: /var/lib/teleport
    auth_token: xxxx-token-xxxx
    advertise_ip: 10.1.0.5
    auth_servers:
        - 10.1.0.5:3025
        - 10.1.0.6
    connection_limits:
        max_connections: 1000
        max_users: 250
    log:
        output: stderr
        severity: ERROR
    storage:
        type: bolt
auth_service:
    enabled: yes
    dynamic_config: false
    authentication:
        type: local
        second_factor: otp
        u2f:
            app_id: https://localhost:3080
            facets:
            - https://localhost
            - https://localhost:3080
    listen_addr: 0.0.0.0:3025
    tokens:
        - "proxy,node:xxxxx"
        - "auth:yyyy"
    cluster_name: "main"
ssh_service:
    enabled: yes
    listen_addr: 0.0.0.0:3022
    labels:
        role: master
        type: postgres
    commands:
    - name: hostname
      command: [/usr/bin/hostname]
      period: 1m0s
    - name: arch
      command: [/usr/bin/uname, -p]
      period: 1h0m0s
proxy_service:
    enabled: yes
    listen_addr: 0.0.0.0:3023
    tunnel_listen_addr: 0.0.0.0:3024
    web_listen_addr: 0.0.0.0:3080
    https_key_file: /etc/teleport/teleport.key
    https_cert_file: /etc/teleport/teleport.crt
"""
"""Manual, "Configuration File", with the section lines that its text has lost."""


def test_defaults() -> None:
    """Ports, Configuration Flags, Configuration File: what holds without a file."""
    settings = resolve("")
    teleport, auth, proxy = settings.teleport, settings.auth_service, settings.proxy_service
    assert settings.roles == {Role.AUTH, Role.NODE, Role.PROXY}
    assert teleport.data_dir == "/var/lib/teleport"
    assert (teleport.connection_limits.max_connections, teleport.connection_limits.max_users) == (1000, 250)
    assert (teleport.log.output, teleport.log.severity) == (LogOutput.STDERR, Severity.ERROR)
    assert auth.authentication.second_factor is SecondFactor.OTP
    assert settings.dynamic_config is False
    assert [str(address) for address in (settings.ssh_service.listen_addr, auth.listen_addr)] == [
        "0.0.0.0:3022",
        "0.0.0.0:3025",
    ]
    assert [str(address) for address in (proxy.listen_addr, proxy.tunnel_listen_addr, proxy.web_listen_addr)] == [
        "0.0.0.0:3023",
        "0.0.0.0:3024",
        "0.0.0.0:3080",
    ]


def test_teleport_section() -> None:
    """Configuration File: what holds for all services."""
    teleport = resolve(CONFIGURATION_FILE).teleport
    assert teleport.nodename == "graviton"
    assert teleport.data_dir == "/var/lib/teleport"
    assert teleport.auth_token
    assert teleport.auth_token.get_secret_value() == "xxxx-token-xxxx"
    assert teleport.advertise_ip == "10.1.0.5"
    assert teleport.auth_servers == (Address("10.1.0.5", 3025), Address("10.1.0.6", 3025))
    assert (teleport.connection_limits.max_connections, teleport.connection_limits.max_users) == (1000, 250)
    assert (teleport.log.output, teleport.log.severity) == (LogOutput.STDERR, Severity.ERROR)


def test_auth_section() -> None:
    """Configuration File: the auth service."""
    settings = resolve(CONFIGURATION_FILE)
    auth = settings.auth_service
    assert auth.enabled
    assert settings.dynamic_config is False
    assert auth.authentication.type is AuthenticationType.LOCAL
    assert auth.authentication.second_factor is SecondFactor.OTP
    assert auth.authentication.u2f
    assert auth.authentication.u2f.app_id == "https://localhost:3080"
    assert auth.authentication.u2f.facets == ("https://localhost", "https://localhost:3080")
    assert auth.listen_addr.port == 3025
    assert [(token.roles, token.value.get_secret_value()) for token in auth.tokens] == [
        (frozenset({Role.PROXY, Role.NODE}), "xxxxx"),
        (frozenset({Role.AUTH}), "yyyy"),
    ]
    assert auth.cluster_name == "main"


def test_node_section() -> None:
    """Configuration File: the node service, with labels of both kinds."""
    ssh = resolve(CONFIGURATION_FILE).ssh_service
    assert ssh.listen_addr.port == 3022
    assert ssh.labels == {"role": "master", "type": "postgres"}
    assert [(label.name, label.command, label.period) for label in ssh.commands] == [
        ("hostname", ("/usr/bin/hostname",), timedelta(minutes=1)),
        ("arch", ("/usr/bin/uname", "-p"), timedelta(hours=1)),
    ]


def test_proxy_section() -> None:
    """Configuration File: the proxy service."""
    proxy = resolve(CONFIGURATION_FILE).proxy_service
    addresses = (proxy.listen_addr, proxy.tunnel_listen_addr, proxy.web_listen_addr)
    assert [address.port for address in addresses] == [3023, 3024, 3080]
    assert proxy.https_key_file == "/etc/teleport/teleport.key"
    assert proxy.https_cert_file == "/etc/teleport/teleport.crt"


def test_old_storage_names() -> None:
    """Configuration File: `type: bolt` is the embedded database."""
    assert resolve(CONFIGURATION_FILE).backend == SqliteOptions("/var/lib/teleport/backend.sqlite")


def test_enabling_u2f() -> None:
    """Enabling U2F."""
    text = """
    auth_service:
      authentication:
        type: local
        second_factor: u2f
        u2f:
          app_id: https://localhost:3080
          facets:
             - https://localhost
             - https://localhost:3080
    """
    assert resolve(text).auth_service.authentication.second_factor is SecondFactor.U2F


def test_second_factor_off() -> None:
    """`off` is a second factor, though a bare `off` is falsehood to YAML."""
    settings = resolve("auth_service: {authentication: {second_factor: off}}")
    assert settings.auth_service.authentication.second_factor is SecondFactor.OFF


def test_external_users_are_refused() -> None:
    """`type: oidc` belongs to the enterprise edition; the error says so instead of guessing at a typo."""
    with pytest.raises(InvalidSettings, match=r"authentication\.type: expected local; users of an external provider"):
        resolve("auth_service: {authentication: {type: oidc}}")


def test_static_tokens() -> None:
    """Static Tokens: the auth server's file and the command line of the node that joins."""
    auth = resolve('auth_service:\n    enabled: true\n    tokens:\n    - "proxy,node:xxxxxx"\n').auth_service
    assert auth.tokens[0].roles == {Role.PROXY, Role.NODE}
    flags = parse_flags(roles="node,proxy", token="xxxxxx", auth_server="10.0.10.5")
    joining = resolve("", flags)
    assert joining.roles == {Role.NODE, Role.PROXY}
    assert joining.teleport.auth_servers == (Address("10.0.10.5", 3025),)


def test_trusted_clusters() -> None:
    """Trusted Clusters: main trusts cluster-b, and cluster-b lets john in and opens a tunnel."""
    main = resolve("auth_service: {enabled: yes, cluster_name: main, trusted_clusters: [{key_file: /path/to/b.ca}]}")
    (trusted,) = main.auth_service.trusted_clusters
    assert (trusted.key_file, trusted.allow_logins, trusted.tunnel_addr) == ("/path/to/b.ca", (), None)
    leaf = resolve("""
    auth_service:
      enabled: yes
      cluster_name: cluster-b
      trusted_clusters:
      - key_file: /path/to/main.ca
        # This line contains comma-separated list of OS logins
        allow_logins: john
        tunnel_addr: 62.28.10.1
    """)
    (trusted,) = leaf.auth_service.trusted_clusters
    assert (trusted.allow_logins, trusted.tunnel_addr) == (("john",), Address("62.28.10.1", 3024))


def test_permissions_with_trusted_clusters() -> None:
    """Permissions with Trusted Clusters: two logins, and the file is the truth though a storage is given."""
    settings = resolve("""
    teleport:
      storage: {type: dir}
    auth_service:
      dynamic_config: false
      trusted_clusters:
      - key_file: /path/to/main.ca
        allow_logins: root, jsmith
        tunnel_addr: one
    """)
    (trusted,) = settings.auth_service.trusted_clusters
    assert settings.dynamic_config is False
    assert trusted.allow_logins == ("root", "jsmith")
    assert trusted.tunnel_addr == Address("one", 3024)


def test_using_etcd() -> None:
    """Using etcd."""
    settings = resolve("""
    teleport:
      storage:
         type: etcd
         peers: ["https://172.17.0.1:4001", "https://172.17.0.2:4001"]
         tls_cert_file: /var/lib/teleport/etcd-cert.pem
         tls_key_file: /var/lib/teleport/etcd-key.pem
         tls_ca_file: /var/lib/teleport/etcd-ca.pem
         prefix: teleport
         insecure: false
    """)
    assert settings.dynamic_config is True
    assert settings.backend == EtcdOptions(
        peers=("https://172.17.0.1:4001", "https://172.17.0.2:4001"),
        prefix="teleport",
        tls_cert_file="/var/lib/teleport/etcd-cert.pem",
        tls_key_file="/var/lib/teleport/etcd-key.pem",
        tls_ca_file="/var/lib/teleport/etcd-ca.pem",
        insecure=False,
    )


def test_using_dynamodb() -> None:
    """Using DynamoDB."""
    settings = resolve("""
    teleport:
      storage:
        type: dynamodb
        region: eu-west-1
        table_name: teleport.state
        access_key: BKZA3H2LOKJ1QJ3YF21A
        secret_key: Oc20333k293SKwzraT3ah3Rv1G3/97POQb3eGziSZ
    """)
    assert settings.dynamic_config is True
    assert settings.backend == DynamoDBOptions(
        region="eu-west-1",
        table_name="teleport.state",
        access_key="BKZA3H2LOKJ1QJ3YF21A",
        secret_key="Oc20333k293SKwzraT3ah3Rv1G3/97POQb3eGziSZ",
    )
