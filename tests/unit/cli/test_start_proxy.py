"""What the proxy takes of teleport.yaml: where people reach it, if not where it listens."""

from __future__ import annotations

import pytest

from runtime.cli.start_proxy import proxy_options
from runtime.service.settings import Settings
from runtime.service.values import Address

ADVERTISED = Address("10.0.0.5", 3023)


def settings(**proxy: str) -> Settings:
    """Return settings with these keys of proxy_service."""
    return Settings.model_validate({"proxy_service": proxy})


def test_without_a_public_address_it_is_the_advertised_one() -> None:
    """HTTPS and SSH are on the host that is advertised, SSH on the port that was bound."""
    options = proxy_options(settings(), "proxy1", ADVERTISED)
    assert options.names == ("10.0.0.5", "proxy1")
    assert options.public_address is None
    assert (options.ssh_host, options.ssh_port) == ("", 3023)


def test_a_public_address_comes_first() -> None:
    """It is the first name of a certificate that is made here, and where people are sent; SSH stays on its port."""
    options = proxy_options(settings(public_addr="proxy.main.example:443"), "proxy1", ADVERTISED)
    assert options.names == ("proxy.main.example", "10.0.0.5", "proxy1")
    assert options.public_address == Address("proxy.main.example", 443)
    assert (options.ssh_host, options.ssh_port) == ("", 3023)


def test_a_name_is_there_once() -> None:
    """Also where the public host is the advertised one."""
    options = proxy_options(settings(public_addr="10.0.0.5:443"), "10.0.0.5", ADVERTISED)
    assert options.names == ("10.0.0.5",)


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("ssh.main.example:30023", "ssh.main.example", 30023),
        ("ssh.main.example", "ssh.main.example", 3023),
        ("[2001:db8::1]:22", "[2001:db8::1]", 22),
    ],
)
def test_ssh_elsewhere(written: str, host: str, port: int) -> None:
    """SSH may be on another host and port than HTTPS; an IPv6 address keeps its brackets."""
    options = proxy_options(settings(ssh_public_addr=written), "proxy1", ADVERTISED)
    assert (options.ssh_host, options.ssh_port) == (host, port)
