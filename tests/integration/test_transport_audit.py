"""ssh-audit's opinion of our SSH ports."""

from __future__ import annotations

from tests.servers.sshaudit import CLASSICAL, audit
from tests.servers.sshca import Authority
from tests.servers.sshport import port, stock_port


async def test_nothing_fails_and_only_the_classical_fallback_warns() -> None:
    """No `fail`, and no `warn` but that X25519 alone is not safe from a quantum computer."""
    async with port() as server:
        findings = await audit(server.number)
    assert {(kind, name, level) for kind, name, level, _ in findings} == {("kex", name, "warn") for name in CLASSICAL}
    assert all("post-quantum" in why for *_, why in findings)


async def test_control_asyncssh_alone_fails() -> None:
    """Control: asyncssh's defaults do not pass, so the audit looks."""
    async with stock_port(Authority()) as (number, _):
        findings = await audit(number)
    assert "fail" in {level for _, _, level, _ in findings}
