"""What strangers, a hostile leaf and a hostile root must not achieve with tunnels (security.md), from outside."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncssh
import pytest

from runtime.core.errors import TeleportError, Unavailable
from runtime.pki.claims import MemberRole
from runtime.proxy.tunnels import dial_root
from runtime.transport.options import key_pairs
from runtime.tunnel import agent, keeper, protocol, registry
from runtime.tunnel.limits import TRANSPORT_LIMITS
from tests.servers.sshca import Authority
from tests.servers.strangers import silence, stranger, web
from tests.servers.tunnels import VISITOR, Hosts, LeafProxy, Member, RootProxy, running, until

HELLO_TIME = 60.0


# --- who comes to port 3024 -------------------------------------------------------------------------------------------


class _Session(asyncssh.SSHServerSession[bytes]):
    """A hostile leaf's answer to any request: `answer`, and then the end, if there is to be one."""

    def __init__(self, answer: bytes | None, asked: list[str]) -> None:
        self._answer = answer
        self._asked = asked

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        self._asked.append(subsystem)
        return True

    def session_started(self) -> None:
        if self._answer is not None:
            self._channel.write(self._answer)
            self._channel.exit(0)


@asynccontextmanager
async def hostile_leaf(
    root: RootProxy, keys: list[asyncssh.SSHKeyPair], answer: bytes | None = b"{}"
) -> AsyncIterator[tuple[asyncssh.SSHServerConnection, list[str]]]:
    """Dial the root with asyncssh's own server, which takes any client and answers anything with `answer`."""
    asked: list[str] = []

    class _Server(asyncssh.SSHServer):
        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return True

        def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return True

        def session_requested(self) -> _Session:
            return _Session(answer, asked)

    connection = await asyncssh.connect_reverse(
        "127.0.0.1", root.port, server_factory=_Server, server_host_keys=keys, encoding=None, config=None
    )
    try:
        yield connection, asked
    finally:
        connection.abort()
        await connection.wait_closed()


def shown(member: Member, *, certificate: bool = True) -> list[asyncssh.SSHKeyPair]:
    """Return what a member shows as a host; without its certificate the bare key."""
    pairs = key_pairs(member.key, member.host_certificate)
    return pairs[:1] if certificate else pairs[1:]


async def refused(root: RootProxy, keys: list[asyncssh.SSHKeyPair], why: str) -> None:
    """See that somebody with these keys gets no tunnel, for that reason, and that the reason is told."""
    try:
        async with hostile_leaf(root, keys) as (connection, _):
            async with asyncio.timeout(HELLO_TIME):
                await connection.wait_closed()
    except (asyncssh.Error, OSError):
        pass  # it hangs up while we dial
    await until(lambda: why in root.errors, f"{why!r} in {root.errors!r}")
    assert not list(root.registry.status())


async def test_whoever_is_not_a_proxy_of_a_leaf_is_refused() -> None:
    """A stranger's authority, a plain key, a node of the leaf, a proxy of our own: each is refused, with the reason."""
    main, far, other = Hosts("main"), Hosts("leaf"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf):
        await refused(root, shown(other.member()), "of no cluster that may open a tunnel here")
        await refused(root, shown(far.member(), certificate=False), "Unable to find compatible server host key")
        await refused(root, shown(far.member(MemberRole.NODE)), "not for 'proxy.teleport.internal'")
        root.trusted["main"] = main.key
        await refused(root, shown(main.member()), "a proxy of our own cluster main needs no tunnel to it")
        # None of it keeps an honest one out.
        leaf.keep((main, root.address))
        await root.online("leaf")


async def test_a_user_certificate_is_no_hosts() -> None:
    """A certificate of type user is not taken, though the leaf's own host authority has signed it."""
    main, far = Hosts("main"), Hosts("leaf")
    root = RootProxy(main, far)
    async with running(root):
        member = far.member()
        await refused(root, key_pairs(member.key, member.member_certificate)[:1], "")
        await until(lambda: root.errors, "it is told")


async def test_a_leaf_that_claims_anothers_name() -> None:
    """The cluster is what the authority says that has signed; who says another name in its hello is dismissed."""
    main, far, victim = Hosts("main"), Hosts("leaf"), Hosts("bank")
    root = RootProxy(main, far, victim)
    async with running(root):
        mallory = far.member()
        for claimed, proxy in (("bank", mallory.id), ("leaf", victim.member().id)):
            welcome = protocol.Welcome(version=protocol.VERSION, cluster=claimed, proxy=proxy)
            before = len(root.events)
            async with hostile_leaf(root, shown(mallory), protocol.write_result(welcome)) as (connection, _):
                async with asyncio.timeout(HELLO_TIME):
                    await connection.wait_closed()
            await until(lambda: len(root.events) > before, "it is told")  # noqa: B023 - awaited within the loop
            assert f"proxy {mallory.id} of cluster leaf calls itself {proxy} of cluster {claimed}" in root.errors
            assert not root.registry.is_online("bank")
            assert not root.registry.is_online("leaf")
        # Signed by the leaf's authority with the victim's name in it: the name within does not count.
        await refused(root, shown(Hosts("leaf").member(says="bank")), "of no cluster that may open a tunnel here")
        forged = Hosts("leaf", far.signer.key).member(says="bank")
        welcome = protocol.Welcome(version=protocol.VERSION, cluster="bank", proxy=forged.id)
        async with hostile_leaf(root, shown(forged), protocol.write_result(welcome)) as (connection, _):
            async with asyncio.timeout(HELLO_TIME):
                await connection.wait_closed()
        assert f"proxy {forged.id} of cluster leaf calls itself" in root.errors
        assert not root.registry.is_online("bank")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "the answer is malformed"),
        (b"[]", "the answer is malformed"),
        (b'{"result": {"version": 1}}', "malformed at cluster, proxy"),
        (b'{"result": {"version": 99, "cluster": "leaf", "proxy": "x"}}', "speaks version 99 of the tunnel"),
        (b"x" * (protocol.MAX_REQUEST + 1), "an answer of more than"),
        (b'{"error": {"kind": "Unavailable", "message": "\\u001b[31mno"}}', "?[31mno"),
    ],
)
async def test_a_leaf_that_answers_nonsense(answer: bytes, why: str) -> None:
    """What is no answer ends the tunnel before anybody is carried; nothing of it reaches a log or terminal as it is."""
    main, far = Hosts("main"), Hosts("leaf")
    root = RootProxy(main, far)
    async with running(root), hostile_leaf(root, shown(far.member()), answer) as (connection, asked):
        async with asyncio.timeout(HELLO_TIME):
            await connection.wait_closed()
        await until(lambda: root.errors, "it is told")
        assert why in root.errors
        assert "\x1b" not in root.errors
        assert len(asked) == 1
        assert not root.registry.is_online("leaf")


async def test_a_leaf_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is silent after the login is not waited for."""
    monkeypatch.setattr(registry, "ANSWER_SECONDS", 0.2)
    main, far = Hosts("main"), Hosts("leaf")
    root = RootProxy(main, far)
    async with running(root), hostile_leaf(root, shown(far.member()), None) as (connection, _):
        async with asyncio.timeout(HELLO_TIME):
            await connection.wait_closed()
        assert "no answer within 0.2 s" in root.errors


async def test_strangers_at_the_port() -> None:
    """HTTP, noise and silence are refused and told of, within the time of a login; an honest leaf gets in meanwhile."""
    main, far = Hosts("main"), Hosts("leaf")
    root = RootProxy(main, far, limits=replace(TRANSPORT_LIMITS, login_grace=0.5))
    leaf = LeafProxy(far)
    async with running(root, leaf):
        for sent in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 200,
            bytes(range(256)) * 1024,
            b"SSH-2.0-x\r\n" + b"\0" * 4096,
            b"",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", root.port)
            writer.write(sent)
            async with asyncio.timeout(HELLO_TIME):
                with_end = asyncio.gather(reader.read(), return_exceptions=True)
                await with_end
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        await until(lambda: len([event for event in root.events if event.error]) >= 4, "each is told of")
        assert not list(root.registry.status())
        leaf.keep((main, root.address))
        await root.online("leaf")


async def test_one_leaf_cannot_take_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many tunnels of one cluster the next is refused; another cluster's is not."""
    monkeypatch.setattr(registry, "MAX_TUNNELS_PER_CLUSTER", 2)
    main, far, other = Hosts("main"), Hosts("leaf"), Hosts("other")
    root = RootProxy(main, far, other)
    leaves = [LeafProxy(far) for _ in range(3)]
    honest = LeafProxy(other)
    async with running(root, *leaves, honest):
        for leaf in leaves[:2]:
            leaf.keep((main, root.address))
        await root.online("leaf", 2)
        leaves[2].keep((main, root.address))
        await until(lambda: "cluster leaf has 2 tunnels open to this proxy" in root.errors, "the third is refused")
        honest.keep((main, root.address))
        await root.online("other")
        assert len(root.registry.tunnels("leaf")) == 2


async def test_a_leaf_opens_nothing_at_the_root() -> None:
    """The tunnel leads one way: channels that the leaf opens towards the root are refused, whatever they are."""
    main, far = Hosts("main"), Hosts("leaf")
    root = RootProxy(main, far)
    async with running(root):
        member = far.member()
        welcome = protocol.Welcome(version=protocol.VERSION, cluster="leaf", proxy=member.id)
        async with hostile_leaf(root, shown(member), protocol.write_result(welcome)) as (connection, _):
            await root.online("leaf")
            for opening in (
                connection.create_connection(asyncssh.SSHTCPSession, "127.0.0.1", 22),
                connection.create_unix_connection(asyncssh.SSHUNIXSession, "/run/x.sock"),
                connection.open_agent_connection(),
            ):
                with pytest.raises((asyncssh.ChannelOpenError, OSError)):
                    await opening
            assert root.registry.is_online("leaf")


# --- who answers where a leaf dials -----------------------------------------------------------------------------------


@asynccontextmanager
async def hostile_root(
    key: bytes, certificate: bytes, login: str, then: Callable[[asyncssh.SSHClientConnection], Awaitable[None]]
) -> AsyncIterator[tuple[str, list[object]]]:
    """Listen with asyncssh's own client, which believes any server, logs in with these and then does as it likes."""
    outcomes: list[object] = []
    tasks: set[asyncio.Task[None]] = set()

    async def act(connection: asyncssh.SSHClientConnection) -> None:
        try:
            await then(connection)
            outcomes.append("done")
        except (asyncssh.Error, OSError, AssertionError) as error:
            outcomes.append(error)

    class _Client(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            self._connection = conn

        def auth_completed(self) -> None:
            task = asyncio.get_running_loop().create_task(act(self._connection))
            tasks.add(task)

        def connection_lost(self, exc: Exception | None) -> None:
            outcomes.append(exc)

    acceptor = await asyncssh.listen_reverse(
        "127.0.0.1",
        0,
        client_factory=_Client,
        known_hosts=None,
        username=login,
        client_keys=key_pairs(key, certificate)[:1],
        agent_path=None,
        config=None,
    )
    try:
        yield f"127.0.0.1:{acceptor.get_port()}", outcomes
    finally:
        acceptor.close()
        await acceptor.wait_closed()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def nothing(_: asyncssh.SSHClientConnection) -> None:
    """Do nothing."""


async def test_whoever_is_not_a_proxy_of_the_root_is_refused() -> None:
    """A stranger, a node of the root, a person of the root, another cluster's proxy: no login, no tunnel, and why."""
    main, far, stranger, bank = Hosts("main"), Hosts("leaf"), Hosts("main"), Hosts("bank")
    node, proxy, impostor = main.member(MemberRole.NODE), bank.member(), stranger.member()
    joe = Authority().issue(["joe"])
    cases = [
        (impostor.key, impostor.member_certificate, impostor.login, "is signed by a CA that is not trusted here"),
        (proxy.key, proxy.member_certificate, proxy.login, "is signed by a CA that is not trusted here"),
        (node.key, node.member_certificate, node.login, "it is a member of role node; only a proxy takes tunnels"),
        (joe.key, joe.certificate, "joe", "is signed by a CA that is not trusted here"),
    ]
    for key, certificate, login, why in cases:
        leaf = LeafProxy(far)
        async with running(leaf), hostile_root(key, certificate, login, nothing) as (address, outcomes):
            leaf.keep((main, address))
            await until(lambda: why in leaf.errors, f"{why} in the error")  # noqa: B023 - awaited within the loop
            assert not leaf.online
            assert "done" not in outcomes
            assert not leaf.visitors
            assert [event.up for event in leaf.events] == [False]


async def ask(connection: asyncssh.SSHClientConnection, subsystem: str) -> bytes:
    """Return the answer to a request, whatever it is."""
    process = await connection.create_process(subsystem=subsystem, encoding=None)
    out, _ = await process.communicate()
    assert isinstance(out, bytes)
    return out


def hello(main: Hosts, proxy: str, **changes: Any) -> str:
    """Return the hello of a proxy."""
    said = protocol.Hello(version=protocol.VERSION, cluster=main.cluster, proxy=proxy)
    return protocol.write_request(said.model_copy(update=changes))


async def misbehaving(
    then: Callable[[asyncssh.SSHClientConnection, Hosts, Member], Awaitable[None]], **limits: Any
) -> tuple[LeafProxy, list[object]]:
    """Have a leaf dial a root with good certificates that does as it likes; return how it ended."""
    main, far = Hosts("main"), Hosts("leaf")
    leaf, proxy = LeafProxy(far, limits=replace(TRANSPORT_LIMITS, **limits)), main.member()

    async def act(connection: asyncssh.SSHClientConnection) -> None:
        await then(connection, main, proxy)

    async with (
        running(leaf),
        hostile_root(proxy.key, proxy.member_certificate, proxy.login, act) as (address, outcomes),
    ):
        leaf.keep((main, address))
        await until(lambda: any(outcome is not None for outcome in outcomes), "it is over")
    return leaf, outcomes


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (lambda main, proxy: hello(main, proxy.id, cluster="bank"), "calls itself"),
        (lambda main, proxy: hello(main, "another"), "calls itself another of cluster main"),
        (lambda main, proxy: hello(main, proxy.id, version=99), "speaks version 99 of the tunnel"),
        (lambda main, proxy: "nodes {}", "the request nodes is malformed"),
        (
            lambda main, proxy: protocol.write_request(protocol.Connect(host="echo", port=22, visitor=VISITOR)),
            "connect came before hello",
        ),
        (lambda main, proxy: "hello {not json", "the request hello is malformed"),
        (lambda main, proxy: "sftp", "a tunnel has no subsystem sftp"),
        (lambda main, proxy: "hello " + "x" * protocol.MAX_REQUEST, f"{protocol.MAX_REQUEST} is the most"),
    ],
)
async def test_a_root_that_says_what_no_honest_one_says(first: Callable[[Hosts, Member], str], why: str) -> None:
    """The tunnel ends, nobody was carried, and the leaf's administrators read why."""

    async def act(connection: asyncssh.SSHClientConnection, main: Hosts, proxy: Member) -> None:
        answer = await ask(connection, first(main, proxy))
        with pytest.raises(TeleportError):
            protocol.read_answer(answer, protocol.Welcome)
        await connection.wait_closed()

    leaf, outcomes = await misbehaving(act)
    assert "done" in outcomes, outcomes
    assert not leaf.visitors
    assert any(why in event.error for event in leaf.events), leaf.events


async def test_a_root_gets_no_shell_port_or_agent() -> None:
    """On a tunnel there are the requests of the protocol: no shell, command, terminal, forwarding of any kind."""

    async def act(connection: asyncssh.SSHClientConnection, main: Hosts, proxy: Member) -> None:
        protocol.read_answer(await ask(connection, hello(main, proxy.id)), protocol.Welcome)
        for opening in (
            connection.open_connection("127.0.0.1", 22),
            connection.open_unix_connection("/run/x.sock"),
            connection.create_process(term_type="xterm", encoding=None),
        ):
            with pytest.raises((asyncssh.ChannelOpenError, asyncssh.Error, OSError)):
                await opening
        for listening in (
            connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 22),
            connection.forward_remote_path("/tmp/x.sock", "/tmp/y.sock"),
        ):
            with pytest.raises((asyncssh.ChannelListenError, asyncssh.Error, OSError)):
                await listening

    leaf, outcomes = await misbehaving(act)
    assert "done" in outcomes, outcomes
    assert not leaf.visitors


async def test_a_root_that_runs_a_command_loses_the_tunnel() -> None:
    """A command is no request: nothing is run, and the tunnel ends."""

    async def act(connection: asyncssh.SSHClientConnection, main: Hosts, proxy: Member) -> None:
        protocol.read_answer(await ask(connection, hello(main, proxy.id)), protocol.Welcome)
        done = await connection.run("id", encoding=None)
        assert b"uid=" not in (done.stdout or b"")
        await connection.wait_closed()

    leaf, outcomes = await misbehaving(act)
    assert "done" in outcomes, outcomes
    assert any("a tunnel has no shell and runs no commands" in event.error for event in leaf.events)


async def test_too_many_channels() -> None:
    """Beyond the limit a channel is refused; those that are open go on, and so does the tunnel."""

    async def act(connection: asyncssh.SSHClientConnection, main: Hosts, proxy: Member) -> None:
        protocol.read_answer(await ask(connection, hello(main, proxy.id)), protocol.Welcome)
        wish = protocol.write_request(protocol.Connect(host="echo", port=22, visitor=VISITOR))
        opened = [await connection.open_session(subsystem=wish, encoding=None) for _ in range(3)]
        with pytest.raises(asyncssh.ChannelOpenError, match="3 sessions are open"):
            await connection.open_session(subsystem=wish, encoding=None)
        for writer, reader, _ in opened:
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            writer.write_eof()
            assert await reader.read() == b""
            await writer.channel.wait_closed()
        protocol.read_result(await ask(connection, hello(main, proxy.id)))

    _, outcomes = await misbehaving(act, sessions=3)
    assert "done" in outcomes, outcomes


@asynccontextmanager
async def no_port_for_tunnels(kind: str) -> AsyncIterator[str]:
    """Yield the address of something else: of a web server, of an sshd, of one that says nothing, of nobody."""
    if kind == "nobody":
        with socket.socket() as bound:  # which keeps others from the port, and does not listen
            bound.bind(("127.0.0.1", 0))
            yield f"127.0.0.1:{bound.getsockname()[1]}"
        return
    if kind != "sshd":
        async with stranger(web if kind == "web" else silence) as address:
            yield address
        return
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], config=None)
    try:
        yield f"127.0.0.1:{server.get_port()}"
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("web", "it is no port for tunnels"),
        ("sshd", "does not log in within 1 s: is it a proxy's port for tunnels?"),
        ("silence", "does not log in within 1 s: is it a proxy's port for tunnels?"),
        ("nobody", "it refuses the connection: nothing listens there"),
    ],
)
async def test_what_is_dialled_and_is_no_port_for_tunnels(
    kind: str, why: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leaf says so once, in words that name the address, counts each failure, and goes on trying."""
    monkeypatch.setattr(keeper, "LOGIN_SECONDS", 1.0)
    main, far = Hosts("main"), Hosts("leaf")
    leaf = LeafProxy(far)

    async def dial(address: str, told_of: bool) -> socket.socket:
        leaf.dials.append(address)
        return await dial_root(address, own=(), loopback=not told_of)

    leaf.agent.dial = dial
    caplog.set_level(logging.WARNING, "runtime.tunnel")
    async with no_port_for_tunnels(kind) as address, running(leaf):
        leaf.keep((main, address))
        await until(lambda: len(leaf.dials) >= 3, "it is tried again")
        assert address in leaf.errors
        assert why in leaf.errors
        said = [record for record in caplog.records if "no tunnel to cluster main" in record.message]
        assert 1 <= len(said) < len(leaf.dials)
        assert leaf.agent.failures["main"] >= 2


async def test_a_root_that_names_ever_new_proxies() -> None:
    """However often it tells of others, what the leaf dials changes now and then only: it scans nobody's network."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        began = asyncio.get_running_loop().time()
        for port in range(1, 101):
            root.proxies = [root.place(), protocol.Place(proxy=f"proxy{port}", address=f"127.0.0.1:{port}")]
            root.registry.refresh()
            await asyncio.sleep(0.01)
        await until(lambda: "127.0.0.1:100" in leaf.dials, "the last that it told of counts")
        took = asyncio.get_running_loop().time() - began
        others = {address for address in leaf.dials if address != root.address}
        assert len(others) <= 3 + took / agent.LEARNING_SECONDS
        await until(lambda: leaf.online == [root.member.id], "its own tunnel stands")


async def test_a_root_that_drops_each_tunnel_is_not_chased(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses grow while no tunnel stands for long, and are short again after one that did."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        (kept,) = [keeper for keeper, _ in leaf.agent._keepers.values()]
        for _ in range(3):
            await root.online("leaf")
            for tunnel in root.registry.tunnels("leaf"):
                tunnel.close("as it likes")
            await until(lambda: not root.registry.tunnels("leaf"), "it is gone")
        await root.online("leaf")
        assert kept._backoff._bound > 1
        monkeypatch.setattr(keeper, "STEADY_SECONDS", 0.0)
        for tunnel in root.registry.tunnels("leaf"):
            tunnel.close("as it likes")
        await until(lambda: not root.registry.tunnels("leaf"), "it is gone")
        await root.online("leaf")
        assert kept._backoff._bound <= 0.5


async def test_a_proxy_that_is_told_of_must_prove_itself_too() -> None:
    """The root's word opens no tunnel: whoever is at an address that it tells is proved like the first."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    stranger = Hosts("main").member()
    async with (
        running(root, leaf),
        hostile_root(stranger.key, stranger.member_certificate, stranger.login, nothing) as (address, outcomes),
    ):
        root.proxies = [root.place(), protocol.Place(proxy=stranger.id, address=address)]
        leaf.keep((main, root.address))
        await root.online("leaf")
        await until(lambda: outcomes, "it was dialled, and refused")
        assert "done" not in outcomes
        assert leaf.online == [root.member.id]


async def test_nobody_is_carried_before_the_hello() -> None:
    """A leaf that has logged us in and not answered yet is offline: nobody is sent there."""
    main, far = Hosts("main"), Hosts("leaf")
    root = RootProxy(main, far)
    async with running(root), hostile_leaf(root, shown(far.member()), None) as (_, asked):
        await until(lambda: asked, "it is asked")
        assert not root.registry.is_online("leaf")
        with pytest.raises(Unavailable, match="cluster leaf is offline"):
            await root.registry.ask(
                "leaf",
                protocol.Nodes(method="GET", target="/", certificate=b"", signature=b"", time="", address=""),
            )
