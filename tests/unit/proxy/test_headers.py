"""What responses say of themselves, and where a form may come from."""

from __future__ import annotations

import pytest

from runtime.core.errors import AccessDenied
from runtime.proxy.headers import check_origin, security_headers

HOST = {"Host": "proxy.example:3080"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
        {"Origin": "https://proxy.example:3080"},
        {"Origin": "https://Proxy.Example:3080"},
    ],
    ids=str,
)
def test_the_own_pages_and_programs_may_send(headers: dict[str, str]) -> None:
    """The own page, and what is no browser."""
    check_origin({**HOST, **headers})


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://proxy.example:3080"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://proxy.example:3080"},
        {"Origin": "https://proxy.example"},
        {"Origin": "https://proxy.example:3081"},
        {"Origin": "https://proxy.example:3080.evil.example"},
        {"Origin": "https://evil.example", "Host": "proxy.example:3080"},
        {"Origin": "https://", "Host": ""},
        {"Origin": "https://[", "Host": "["},
    ],
    ids=str,
)
def test_other_sites_may_not(headers: dict[str, str]) -> None:
    """Whatever a browser says that is not our own page is refused, with what to do."""
    with pytest.raises(AccessDenied, match="another site") as caught:
        check_origin({**HOST, **headers})
    assert caught.value.hint


def test_hsts_goes_with_certificates_that_can_be_trusted() -> None:
    """With a self-signed one a browser would shut its user out."""
    assert "Strict-Transport-Security" not in security_headers(hsts=False)
    assert security_headers(hsts=True)["Strict-Transport-Security"] == "max-age=31536000"
