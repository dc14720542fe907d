"""Where the proxy connects nobody to, whatever a node says of itself."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest

from runtime.core.errors import AccessDenied, Unavailable
from runtime.proxy.dialling import Dialler
from runtime.service.values import Address

ANY = "0.0.0.0"  # noqa: S104 - looked at, not bound
PUBLIC = Dialler([Address(ANY, 3023), Address("10.0.0.1", 3080)], loopback=False)
LOCAL = Dialler([Address("127.0.0.1", 3023)], loopback=True)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16",
        "224.0.0.1", "ff02::1", "255.255.255.255", ANY, "::", "::ffff:0.0.0.0",
    ],
)  # fmt: skip
def test_never(address: str) -> None:
    """Link-local, metadata, multicast and unspecified addresses, also in disguise, are for no proxy to dial."""
    for dialler in (PUBLIC, LOCAL):
        with pytest.raises(AccessDenied, match="the proxy does not connect there"):
            dialler.check(ip_address(address), 22)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_loopback_is_for_a_proxy_on_loopback(address: str) -> None:
    """What only this machine reaches may dial this machine; what others reach may not."""
    LOCAL.check(ip_address(address), 22)
    with pytest.raises(AccessDenied, match="a loopback address"):
        PUBLIC.check(ip_address(address), 22)


@pytest.mark.parametrize("address", ["10.0.0.5", "192.168.1.1", "203.0.113.7", "2001:db8::1", "fd12:3456::1"])
def test_nodes_live_in_private_and_public_networks(address: str) -> None:
    """All else is fine, on any port but its own."""
    PUBLIC.check(ip_address(address), 22)
    PUBLIC.check(ip_address(address), 3023)  # another machine's


def test_its_own_ports() -> None:
    """A listener's own address and port are refused; one that listens everywhere is found at any address of here."""
    with pytest.raises(AccessDenied, match="an address of this proxy itself"):
        PUBLIC.check(ip_address("10.0.0.1"), 3080)
    PUBLIC.check(ip_address("10.0.0.2"), 3080)
    anywhere = Dialler([Address(ANY, 3023), Address("localhost", 3025)], loopback=True)
    for port in (3023, 3025):
        with pytest.raises(AccessDenied, match="an address of this proxy itself"):
            anywhere.check(ip_address("127.0.0.1"), port)
    anywhere.check(ip_address("127.0.0.1"), 3022)
    LOCAL.check(ip_address("127.0.0.2"), 3023)


async def test_a_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is checked is what is dialled: a name that would be another address the next time gains nothing."""
    loop = asyncio.get_running_loop()
    answers = [["127.0.0.1"], ["169.254.169.254"]]

    async def resolve(host: str, port: int, *, type: int = 0) -> list[object]:  # noqa: A002 - asyncio's name
        return [(socket.AF_INET, type, 6, "", (ip, port)) for ip in answers.pop(0)]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        sock = await LOCAL.dial(Address("rebinding.example", port))
        assert sock.getpeername() == ("127.0.0.1", port)
        sock.close()
    with pytest.raises(AccessDenied):
        await LOCAL.dial(Address("rebinding.example", port))
    assert not answers


async def test_of_several_addresses_the_allowed_ones_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is refused, or does not answer, leaves the others."""

    async def resolve(host: str, port: int, *, type: int = 0) -> list[object]:  # noqa: A002 - asyncio's name
        ips = ["169.254.169.254", "127.0.0.9", "127.0.0.1"]
        return [(socket.AF_INET, type, 6, "", (ip, port)) for ip in ips]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        sock = await LOCAL.dial(Address("several.example", port))
        assert sock.getpeername() == ("127.0.0.1", port)
        sock.close()


async def test_ipv6() -> None:
    """A node may be reached by IPv6."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        sock = await LOCAL.dial(Address("::1", server.getsockname()[1]))
        assert sock.family == socket.AF_INET6
        sock.close()


async def test_what_does_not_answer_says_how() -> None:
    """Refused, silent and unknown are told apart."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    with pytest.raises(Unavailable, match="refuses the connection"):
        await LOCAL.dial(Address("127.0.0.1", free))
    with pytest.raises(Unavailable, match="its name cannot be resolved"):
        await LOCAL.dial(Address("nowhere.invalid", 22))
    impatient = Dialler([], loopback=True, seconds=0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = Address("127.0.0.1", full.getsockname()[1])
        # The queue of a listener that accepts nobody is full soon.
        results = await asyncio.gather(*(impatient.dial(address) for _ in range(8)), return_exceptions=True)
    for sock in results:
        if isinstance(sock, socket.socket):
            sock.close()
    errors = [str(error) for error in results if isinstance(error, Unavailable)]
    assert errors
    assert set(errors) == {"it does not answer within 0.2 s"}
