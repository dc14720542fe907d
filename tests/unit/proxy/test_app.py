"""What the application does when something breaks that nobody expected to."""

from __future__ import annotations

import logging

import pytest
from aiohttp.test_utils import TestClient, TestServer

from runtime.api.client import AuthClient
from runtime.api.session import Stream
from tests.unit.proxy.world import World


async def breaks(server: str) -> Stream:
    """Fail as no code of ours does on purpose."""
    raise ValueError(f"s3cret at {server}")


async def test_what_nobody_expected_is_told_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """The answer is 500 in the form of its place; the log says what broke and where, not with which words."""
    caplog.set_level(logging.DEBUG)
    world = World()
    app = world.app(AuthClient(breaks, lambda: ["auth:3025"]))
    async with TestClient(TestServer(app)) as client:
        for path, kind in (("/webapi/ping", "application/json"), ("/", "text/html")):
            response = await client.get(path)
            assert (response.status, response.content_type) == (500, kind)
            assert "s3cret" not in await response.text()
            assert "internal error" in (await response.text()).lower()
            assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "s3cret" not in caplog.text
    assert "GET /webapi/ping failed: ValueError at " in caplog.text
    assert "> breaks:" in caplog.text
