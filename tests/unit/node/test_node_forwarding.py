"""What a node forwards, and for whom: decisions, and what is audited of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from runtime.audit.events import EventType
from runtime.core.access import Grant
from runtime.core.errors import AccessDenied, AlreadyExists, InvalidInput, TeleportError, Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.node import forwarding as node_forwarding
from runtime.node.forwarding import MAX_LOGGED_DESTINATION, Forwarding, Listening, loopback
from runtime.pki.identity import Proof, UserIdentity
from runtime.pki.keys import generate_key
from runtime.pki.trust import AuthorityKey

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ALL = Grant(
    login="joe",
    roles=("dev",),
    forward_agent=True,
    port_forwarding=True,
    file_copy=True,
    max_sessions=10,
    idle_timeout=None,
)
NO_PORTS = "port forwarding is not allowed by the roles of user joe"
NO_AGENT = "agent forwarding is not allowed by the roles of user joe"


def identity() -> UserIdentity:
    """Return a person whose certificate permits everything."""
    key = generate_key().public
    authority = AuthorityKey(AuthorityType.USER, "main", key)
    return UserIdentity(
        user="joe",
        cluster="main",
        logins=("joe",),
        roles=("dev",),
        permit_pty=True,
        permit_port_forwarding=True,
        permit_agent_forwarding=True,
        source_addresses=(),
        force_command=None,
        proof=Proof(key=key, serial=1, valid_after=NOW, valid_before=NOW, authority=authority),
    )


class World:
    """Roles that can be changed, an audit log that can be read, and sockets that are not opened as another user."""

    def __init__(self) -> None:
        self.grant: Grant | AccessDenied = ALL
        self.identity = identity()
        self.events: list[dict[str, Any]] = []
        self.asked: list[tuple[object, ...]] = []
        self.errors: dict[object, TeleportError] = {}
        self.sockets: list[socket.socket] = []
        self.removed = 0

    def forwarding(self) -> Forwarding:
        """Return what is tested."""
        return Forwarding(self.identity, "joe", access=self, sockets=self, audit=self, fields={"user": "joe"})

    def authorise(self, identity: UserIdentity, login: str) -> Grant:
        """Say what the roles say now."""
        assert (identity, login) == (self.identity, "joe")
        if isinstance(self.grant, AccessDenied):
            raise self.grant
        return self.grant

    def emit(self, event: EventType, **fields: Any) -> None:
        """Keep an event."""
        assert event is EventType.PORT_FORWARD
        self.events.append(fields)

    async def durable(self) -> None:
        """Nothing is kept."""

    async def listen_tcp(self, login: str, host: str, port: int) -> socket.socket:
        """Listen, unless this address is to fail."""
        self._ask(login, host, port)
        return self._kept(socket.create_server((host, port), family=_family(host)))

    async def listen_unix(self, login: str, path: str | None) -> UnixSocket:
        """Give a socket that is at no path at all."""
        self._ask(login, path)
        return UnixSocket(self, self._kept(socket.socket(socket.AF_UNIX)), path or "/tmp/ssh-x/agent.1")

    async def connect_unix(self, login: str, path: str) -> socket.socket:
        """Give a socket."""
        self._ask(login, path)
        return self._kept(socket.socket(socket.AF_UNIX))

    def _ask(self, *asked: object) -> None:
        self.asked.append(asked)
        if asked[1] in self.errors:
            raise self.errors[asked[1]]

    def _kept(self, sock: socket.socket) -> socket.socket:
        self.sockets.append(sock)
        return sock


@dataclass
class UnixSocket:
    """What a spawner gives for a Unix socket that listens."""

    world: World
    socket: socket.socket
    path: str = field()

    def close(self) -> None:
        """Count."""
        self.socket.close()
        self.world.removed += 1


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@pytest.fixture
def world() -> Iterator[World]:
    """Everything is allowed, until a test says otherwise."""
    made = World()
    yield made
    for sock in made.sockets:
        sock.close()


@pytest.fixture
def server() -> Iterator[int]:
    """Yield the port of something that listens on 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


async def every_kind(forwarding: Forwarding, port: int) -> list[str]:
    """Ask for each kind of port forward, and return why each was refused."""
    refusals = []
    for asked in (
        forwarding.connect_tcp("127.0.0.1", port),
        forwarding.connect_unix("/run/x"),
        forwarding.listen_tcp("localhost", 0),
        forwarding.listen_unix("/tmp/x"),
    ):
        with pytest.raises(AccessDenied) as caught:
            await asked
        refusals.append(str(caught.value))
    return refusals


async def test_a_port_is_connected_to_and_audited(world: World, server: int) -> None:
    """Who may forward gets a connected socket, and the event says to where."""
    with await world.forwarding().connect_tcp("127.0.0.1", server) as sock:
        assert sock.getpeername() == ("127.0.0.1", server)
        assert not sock.getblocking()
    assert world.events == [
        {"user": "joe", "direction": "local", "destination": f"127.0.0.1:{server}", "success": "true"}
    ]


async def test_a_port_where_nobody_listens_is_audited_as_a_failure(world: World) -> None:
    """An error that is no refusal is told and audited too."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        with pytest.raises(Unavailable, match=f"^127.0.0.1 port {port}: Connection refused$"):
            await world.forwarding().connect_tcp("127.0.0.1", port)
    assert [event["success"] for event in world.events] == ["false"]
    assert world.events[0]["error"] == f"127.0.0.1 port {port}: Connection refused"


async def test_who_leaves_before_it_answers_is_audited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tries ports unseen by going away while they are tried."""
    dialled = asyncio.Event()

    async def never(host: str, port: int) -> socket.socket:
        dialled.set()
        future: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        return await future

    monkeypatch.setattr(node_forwarding, "dial", never)
    task = asyncio.create_task(world.forwarding().connect_tcp("10.0.0.1", 22))
    await dialled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(event["destination"], event["success"], event["error"]) for event in world.events] == [
        ("10.0.0.1:22", "false", "the client left before it was done")
    ]


async def test_roles_that_forbid_ports_forbid_all_four_kinds(world: World, server: int) -> None:
    """Each kind is refused with the same words, audited with its destination, and no socket is opened for it."""
    world.grant = replace(ALL, port_forwarding=False)
    assert await every_kind(world.forwarding(), server) == [NO_PORTS] * 4
    assert [(event["destination"], event["success"], event["error"]) for event in world.events] == [
        (f"127.0.0.1:{server}", "false", NO_PORTS),
        ("/run/x", "false", NO_PORTS),
        ("127.0.0.1:0", "false", NO_PORTS),
        ("/tmp/x", "false", NO_PORTS),
    ]
    assert world.asked == []


async def test_a_certificate_that_does_not_permit_ports_forbids_all_four_kinds(world: World, server: int) -> None:
    """What the roles allow counts only with permit-port-forwarding."""
    world.identity = replace(world.identity, permit_port_forwarding=False)
    text = "port forwarding is not permitted by the certificate of user joe"
    assert await every_kind(world.forwarding(), server) == [text] * 4
    assert world.asked == []


async def test_who_is_no_longer_let_in_forwards_nothing(world: World, server: int) -> None:
    """What `authorise` says is said on: a user who was deleted while connected, an expired certificate."""
    forwarding = world.forwarding()
    world.grant = AccessDenied("user joe does not exist any more")
    assert await every_kind(forwarding, server) == ["user joe does not exist any more"] * 4
    with pytest.raises(AccessDenied, match="does not exist any more"):
        await forwarding.listen_agent()
    assert world.asked == []


async def test_ports_and_the_agent_are_rights_of_their_own(world: World) -> None:
    """A role without port forwarding still forwards the agent, and the other way round."""
    world.grant = replace(ALL, port_forwarding=False)
    (await world.forwarding().listen_agent()).close()
    world.grant = replace(ALL, forward_agent=False)
    (await world.forwarding().connect_unix("/run/x")).close()
    with pytest.raises(AccessDenied, match=f"^{NO_AGENT}$"):
        await world.forwarding().listen_agent()


async def test_an_agent_needs_the_certificate_too(world: World) -> None:
    """Without permit-agent-forwarding there is no socket, and the refusal is audited."""
    world.identity = replace(world.identity, permit_agent_forwarding=False)
    with pytest.raises(AccessDenied, match="agent forwarding is not permitted by the certificate of user joe"):
        await world.forwarding().listen_agent()
    assert [(event["direction"], event["success"]) for event in world.events] == [("agent", "false")]
    assert world.asked == []


async def test_the_agent_socket_is_in_a_new_folder_of_the_user(world: World) -> None:
    """No path is given, so that the user's process makes a folder; closing removes it."""
    listening = await world.forwarding().listen_agent()
    assert world.asked == [("joe", None)]
    assert listening.path == "/tmp/ssh-x/agent.1"
    assert world.events[0]["destination"] == listening.path
    listening.close()
    assert world.removed == 1


@pytest.mark.parametrize("host", ["", "*", "0.0.0.0", "::", "localhost", "10.1.2.3", "node.example"])  # noqa: S104 - asked for, never bound
def test_any_address_means_this_machine(host: str) -> None:
    """As with sshd's GatewayPorts no: whatever is asked for, both loopback addresses."""
    assert loopback(host) == ("127.0.0.1", "::1")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_loopback_address_is_kept(host: str) -> None:
    """Who asks for one of the two gets that one."""
    assert loopback(host) == (host,)


async def test_a_free_port_is_the_same_on_both_addresses(world: World) -> None:
    """Port 0 picks one; it is listened on as the user at both, and audited."""
    listening = await world.forwarding().listen_tcp("*", 0)
    port = listening.sockets[0].getsockname()[1]
    assert port > 0
    assert world.asked == [("joe", "127.0.0.1", 0), ("joe", "::1", port)]
    assert {sock.getsockname()[1] for sock in listening.sockets} == {port}
    assert world.events == [
        {"user": "joe", "direction": "remote", "destination": f"127.0.0.1:{port}", "success": "true"}
    ]
    listening.close()
    assert [sock.fileno() for sock in listening.sockets] == [-1, -1]


async def test_a_machine_without_ipv6_listens_on_the_other(world: World) -> None:
    """One address is enough."""
    world.errors["::1"] = Unavailable("cannot listen at ::1:80: Cannot assign requested address")
    listening = await world.forwarding().listen_tcp("", 0)
    assert len(listening.sockets) == 1
    assert world.events[0]["success"] == "true"


async def test_a_port_that_the_user_may_not_have(world: World) -> None:
    """What the user's process was told is told on."""
    world.errors["127.0.0.1"] = AccessDenied("cannot listen at 127.0.0.1:80: Permission denied")
    with pytest.raises(AccessDenied, match="Permission denied"):
        await world.forwarding().listen_tcp("", 80)
    assert world.asked == [("joe", "127.0.0.1", 80)]
    assert world.events[0]["error"] == "cannot listen at 127.0.0.1:80: Permission denied"


@pytest.mark.parametrize("port", [65536, 2**32 - 1])
async def test_a_port_that_is_none(world: World, port: int) -> None:
    """The number on the wire has 32 bits."""
    with pytest.raises(InvalidInput, match=f"{port} is not a TCP port"):
        await world.forwarding().listen_tcp("", port)
    with pytest.raises(InvalidInput, match=f"{port} is not a TCP port"):
        await world.forwarding().connect_tcp("127.0.0.1", port)
    assert world.asked == []


async def test_unix_sockets_are_the_users(world: World) -> None:
    """Both ways go through a process of the user's, whose refusal is passed on."""
    forwarding = world.forwarding()
    (await forwarding.connect_unix("/run/db")).close()
    (await forwarding.listen_unix("/tmp/mine")).close()
    assert world.asked == [("joe", "/run/db"), ("joe", "/tmp/mine")]
    world.errors = {"/tmp/mine": AlreadyExists("cannot listen at /tmp/mine: File exists")}
    with pytest.raises(AlreadyExists, match="File exists"):
        await forwarding.listen_unix("/tmp/mine")
    assert [event["success"] for event in world.events] == ["true", "true", "false"]


async def listeners(forwarding: Forwarding) -> list[Listening]:
    """Return one listener of each kind."""
    return [
        await forwarding.listen_tcp("", 0),
        await forwarding.listen_unix("/tmp/x"),
        await forwarding.listen_agent(),
    ]


async def test_a_listener_admits_only_while_the_right_lasts(world: World) -> None:
    """Roles that change while somebody listens count from the next connection on, for each right by itself."""
    port, unix, agent = await listeners(world.forwarding())
    world.events.clear()
    for listening in (port, unix, agent):
        listening.admit()
    assert world.events == []
    world.grant = replace(ALL, port_forwarding=False)
    for listening in (port, unix):
        with pytest.raises(AccessDenied, match=NO_PORTS):
            listening.admit()
    agent.admit()
    world.grant = replace(ALL, forward_agent=False)
    with pytest.raises(AccessDenied, match=NO_AGENT):
        agent.admit()
    port.admit()
    assert [(event["destination"], event["success"]) for event in world.events] == [
        (f"127.0.0.1:{port.sockets[0].getsockname()[1]}", "false"),
        ("/tmp/x", "false"),
        ("/tmp/ssh-x/agent.1", "false"),
    ]


async def test_what_a_client_sends_fills_no_log(world: World) -> None:
    """A destination of a packet's length is cut."""
    world.grant = replace(ALL, port_forwarding=False)
    with pytest.raises(AccessDenied):
        await world.forwarding().connect_unix("/" + "x" * 100_000)
    assert len(world.events[0]["destination"]) == MAX_LOGGED_DESTINATION
