"""A tunnel is worth no more than the certificates that it rests on: it ends with them, and is renewed before."""

from __future__ import annotations

from datetime import datetime, timedelta

from runtime.core.clock import SystemClock
from tests.integration.test_tunnel import people_port
from tests.servers.tunnels import Hosts, LeafProxy, RootProxy, running, until

HOUR = timedelta(hours=1)
"""The time of the certificates here."""


class Moved:
    """A clock that is ahead."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        """Return the time, UTC."""
        return SystemClock().now() + self.ahead


async def test_it_ends_with_the_leafs_certificate() -> None:
    """The root ends it and says why; the leaf comes again, and is refused for as long as it has no new one."""
    main, far, clock = Hosts("main"), Hosts("leaf"), Moved()
    root, leaf = RootProxy(main, far, clock=clock), LeafProxy(far)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        root.registry.end_expired()
        clock.ahead = 2 * HOUR
        assert len(root.registry.tunnels("leaf")) == 1
        root.registry.end_expired()
        await until(lambda: not root.registry.tunnels("leaf"), "it has ended")
        assert [event.reason for event in root.events if event.reason] == ["the leaf's certificate has expired"]
        await until(lambda: "expired" in root.errors, "the same certificate is refused")
        await until(lambda: "does not believe us" in leaf.errors, "the leaf knows")
        clock.ahead = timedelta()
        await root.online("leaf")


async def test_it_ends_with_the_roots_certificate() -> None:
    """The leaf ends it and says why, and believes no root's proxy whose time is over."""
    main, far, clock = Hosts("main"), Hosts("leaf"), Moved()
    root, leaf = RootProxy(main, far), LeafProxy(far, clock=clock)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        clock.ahead = 2 * HOUR
        leaf.agent.end_expired()
        await until(lambda: not leaf.online, "it has ended")
        reasons = [event.reason for event in leaf.events if event.reason]
        assert reasons == ["the certificate of the root's proxy has expired"]
        await until(lambda: "expired" in leaf.errors, "the leaf says why there is none")


async def test_a_new_one_comes_before_and_cuts_nobody() -> None:
    """An eighth of its time before the end the leaf opens another; who is on the old one stays there until its end."""
    main, far, clock = Hosts("main"), Hosts("leaf"), Moved()
    root, leaf = RootProxy(main, far), LeafProxy(far, clock=clock)
    async with running(root, leaf), people_port(root) as joe:
        leaf.keep((main, root.address))
        await root.online("leaf")
        (first,) = root.registry.tunnels("leaf")
        async with joe.create_process(subsystem="echo", encoding=None) as process:
            process.stdin.write(b"hello\n")
            assert await process.stdout.readline() == b"hello\n"
            renewed = main.member(host_id=root.member.id, ttl=8 * HOUR)
            await root.registry.renew(login=renewed.login, key=renewed.key, certificate=renewed.member_certificate)
            leaf.agent.end_expired()
            assert root.registry.tunnels("leaf") == [first]
            clock.ahead = timedelta(minutes=54)
            leaf.agent.end_expired()
            await until(lambda: root.registry.tunnels("leaf") not in ([], [first]), "a new one is used")
            process.stdin.write(b"still here\n")
            assert await process.stdout.readline() == b"still here\n"
            clock.ahead = 2 * HOUR
            leaf.agent.end_expired()
            assert await process.stdout.read() == b""
        (second,) = root.registry.tunnels("leaf")
        assert second is not first
        assert leaf.online == [root.member.id]


async def test_who_has_no_new_certificate_is_not_asked_again_and_again() -> None:
    """A root whose auth is away shows the same certificate on the new tunnel: that one then stays until the end."""
    main, far, clock = Hosts("main"), Hosts("leaf"), Moved()
    root, leaf = RootProxy(main, far), LeafProxy(far, clock=clock)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        (first,) = root.registry.tunnels("leaf")
        clock.ahead = timedelta(minutes=54)
        leaf.agent.end_expired()
        await until(lambda: root.registry.tunnels("leaf") not in ([], [first]), "a new one is used")
        await until(lambda: leaf.online, "the leaf knows")
        dials = len(leaf.dials)
        for _ in range(5):
            leaf.agent.end_expired()
        (keeper,) = [keeper for keeper, _ in leaf.agent._keepers.values() if keeper.line is not None]
        assert not keeper.renewing.is_set()
        assert len(leaf.dials) == dials
