"""By which name and address others reach this machine."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from runtime.core.errors import InvalidSettings
from runtime.service.addresses import advertised, node_name
from runtime.service.flags import parse_flags
from runtime.service.load import resolve
from runtime.service.values import Address


def test_the_nodename_wins_over_the_host_name() -> None:
    """--nodename, else nodename of the file, else the host name."""
    assert node_name(resolve("teleport: {nodename: luna}"), "host") == "luna"
    assert node_name(resolve("teleport: {nodename: luna}", parse_flags(nodename="sol")), "host") == "sol"
    assert node_name(resolve(""), "host") == "host"


def test_a_host_name_that_cannot_be_one() -> None:
    """A host name that no certificate can carry is refused, and the flag is named."""
    with pytest.raises(InvalidSettings, match="cannot be the name of a node") as refused:
        node_name(resolve(""), "bad name\n")
    assert "--nodename" in refused.value.hint


def test_advertise_ip_wins() -> None:
    """--advertise-ip takes the place of the address, never of the port."""
    assert advertised(Address("10.0.0.1", 3022), "192.0.2.7") == Address("192.0.2.7", 3022)


def test_a_specific_address_is_told_as_it_is() -> None:
    """What listens on one address is reached there."""
    assert advertised(Address("10.0.0.1", 3022), None) == Address("10.0.0.1", 3022)
    assert advertised(Address("luna.example", 3022), None) == Address("luna.example", 3022)


@pytest.mark.parametrize("listen", ["0.0.0.0", "::"])  # noqa: S104 - nothing is bound
def test_any_address_becomes_the_one_towards_auth(listen: str) -> None:
    """What listens everywhere is told as the address from which auth is reached; that is never 0.0.0.0."""
    assert advertised(Address(listen, 3022), None, "127.0.0.1") == Address("127.0.0.1", 3022)
    somewhere = advertised(Address(listen, 3022), None).host
    assert not ip_address(somewhere).is_unspecified
