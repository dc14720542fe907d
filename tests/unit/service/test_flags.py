"""The flags of the start command win over the file."""

from __future__ import annotations

import pytest

from runtime.core.errors import InvalidSettings
from runtime.service.flags import Flags, parse_flags, with_flags
from runtime.service.load import resolve
from runtime.service.sections.teleport import LogOutput, Severity
from runtime.service.settings import Settings
from runtime.service.values import Address, Role

FILE = """
teleport:
  nodename: from-file
  auth_token: token-from-file
  advertise_ip: 10.0.0.1
  auth_servers: [10.0.0.2]
  log: {output: syslog, severity: WARN}
ssh_service:
  listen_addr: 10.0.0.3:4022
  labels: {from: file}
  commands: [{name: arch, command: [uname], period: 1h}]
"""


def test_no_flags_change_nothing() -> None:
    """Without flags the file holds."""
    settings = resolve(FILE)
    assert with_flags(settings, Flags()) == settings
    assert settings.teleport.nodename == "from-file"


def test_each_flag_wins() -> None:
    """Every flag takes the place of its key."""
    pin = "SHA256:" + "A" * 43
    settings = resolve(
        FILE,
        parse_flags(
            debug=True,
            roles="node",
            advertise_ip="10.9.0.1",
            listen_ip="127.0.0.1",
            auth_server="10.9.0.2:4025",
            token="token-from-flag",
            ca_pin=pin,
            nodename="from-flag",
            labels='uptime=[1m:"uptime -p"],env=prod',
            diag_addr="127.0.0.1",
        ),
    )
    teleport, ssh = settings.teleport, settings.ssh_service
    assert (teleport.log.severity, teleport.log.output) == (Severity.DEBUG, LogOutput.STDERR)
    assert settings.roles == {Role.NODE}
    assert teleport.advertise_ip == "10.9.0.1"
    assert teleport.auth_servers == (Address("10.9.0.2", 4025),)
    assert teleport.auth_token
    assert teleport.auth_token.get_secret_value() == "token-from-flag"
    assert teleport.ca_pin == pin
    assert teleport.diag_addr == Address("127.0.0.1", 3000)
    assert teleport.nodename == "from-flag"
    assert ssh.listen_addr == Address("127.0.0.1", 4022)
    assert ssh.labels == {"env": "prod"}
    assert [label.name for label in ssh.commands] == ["uptime"]


def test_listen_ip_moves_every_listener() -> None:
    """--listen-ip changes all five addresses and no port."""
    settings = resolve("", parse_flags(listen_ip="::1"))
    assert settings.auth_service.listen_addr == Address("::1", 3025)
    assert settings.ssh_service.listen_addr == Address("::1", 3022)
    proxy = settings.proxy_service
    assert (proxy.listen_addr, proxy.tunnel_listen_addr, proxy.web_listen_addr) == (
        Address("::1", 3023),
        Address("::1", 3024),
        Address("::1", 3080),
    )


def test_roles_enable_what_the_file_disables() -> None:
    """--roles is the whole truth about what runs."""
    settings = resolve("auth_service: {enabled: no}\nproxy_service: {enabled: no}", parse_flags(roles="auth"))
    assert settings.roles == {Role.AUTH}


def test_all_flag_mistakes_at_once() -> None:
    """Each flag that cannot be understood is named; a token is not shown."""
    with pytest.raises(InvalidSettings) as caught:
        parse_flags(roles="nod", token="hunter2 hunter2", labels="x", listen_ip="all")
    head, *lines = str(caught.value).split("\n")
    assert head == "the command line has 4 mistakes:"
    assert [line.split(":")[0] for line in lines] == ["--roles", "--listen-ip", "--token", "--labels"]
    assert "hunter2" not in str(caught.value)


def test_one_flag_mistake() -> None:
    """One mistake is told without a heading."""
    with pytest.raises(InvalidSettings, match=r"^--auth-server: expected a port from 1 to 65535, found '0'$"):
        parse_flags(auth_server="a:0")


def test_auth_server_beside_auth() -> None:
    """--auth-server while auth runs here would make two clusters by accident; --roles says that it is meant."""
    with pytest.raises(InvalidSettings, match=r"add --roles, as in --roles=node,proxy"):
        resolve("", parse_flags(auth_server="10.0.0.2"))
    assert Role.AUTH in resolve("", parse_flags(auth_server="10.0.0.2", roles="auth,node")).roles


def test_a_node_needs_an_auth_server() -> None:
    """Where auth does not run, the file or the flag says where it does."""
    with pytest.raises(InvalidSettings, match=r"^teleport\.auth_servers: auth does not run here"):
        resolve("", parse_flags(roles="node"))
    assert resolve("", parse_flags(roles="node", auth_server="a")).roles == {Role.NODE}
    assert resolve("teleport: {auth_servers: [a]}", parse_flags(roles="node")).roles == {Role.NODE}


def test_mistakes_of_the_file_are_told_though_a_flag_wins() -> None:
    """A flag does not hide what is wrong with the file."""
    with pytest.raises(InvalidSettings, match=r"nodename"):
        resolve("teleport: {nodename: a b}", parse_flags(nodename="good"))


def test_secrets_show_in_no_repr() -> None:
    """Neither flags nor settings show a token."""
    flags = parse_flags(token="hunter2")
    assert "hunter2" not in repr(flags)
    assert "hunter2" not in repr(with_flags(Settings(), flags))
