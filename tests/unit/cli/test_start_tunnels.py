"""What the proxy's tunnels take of teleport.yaml."""

from __future__ import annotations

import pytest

from runtime.cli.start_proxy import tunnel_options
from runtime.service.settings import Settings
from runtime.service.values import Address


@pytest.mark.parametrize(
    ("proxy", "host", "public"),
    [
        ({}, "10.0.0.5", None),
        ({"public_addr": "proxy.example:443"}, "proxy.example", None),
        (
            {"public_addr": "proxy.example:443", "tunnel_public_addr": "tunnels.example:8024"},
            "proxy.example",
            Address("tunnels.example", 8024),
        ),
    ],
)
def test_where_leaves_are_told_to_come(proxy: dict[str, str], host: str, public: Address | None) -> None:
    """The public host before the one that is advertised, and an address for tunnels alone before either."""
    settings = Settings.model_validate({"proxy_service": {"tunnel_listen_addr": "0.0.0.0:4024", **proxy}})
    options = tunnel_options(settings, "proxy1", Address("10.0.0.5", 3023))
    assert (options.host, options.public, options.listen) == (host, public, Address("0.0.0.0", 4024))  # noqa: S104 - nobody listens
    # What else this process listens on is nobody's root.
    assert settings.proxy_service.listen_addr in options.own
    assert settings.proxy_service.web_listen_addr in options.own
