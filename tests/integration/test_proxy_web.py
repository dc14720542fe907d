"""The proxy's pages in front of a real auth service: what every response says, signing up, and bad input to both.

Its API is in test_proxy_login.py, its limits are in test_proxy_limits.py.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pyotp
import pytest
from yarl import URL

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.token_messages import TokenValue
from runtime.auth.server import AuthOptions
from runtime.proxy.headers import CONTENT_SECURITY_POLICY
from runtime.proxy.pages import STYLE_PATH
from tests.servers.webproxy import PASSWORD, WebCluster, code, login, web_cluster

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SECRET = re.compile(r'<code class="secret" id="secret">([A-Z2-7 ]+)</code>')


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[WebCluster]:
    """Yield auth and proxy, running."""
    async with web_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def http(cluster: WebCluster) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a client that trusts the proxy's own certificate."""
    async with cluster.http() as session:
        yield session


# --- what every response says ----------------------------------------------------------------------------------------


async def test_every_answer_has_the_headers(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """Pages, JSON, errors and the style sheet: each forbids scripts, frames, sniffing, referrers; only CSS is kept."""
    path = await cluster.invite()
    requests = [
        ("GET", "/", 200),
        ("GET", path, 200),
        ("POST", path, 415),
        ("GET", "/web/newuser/" + "0" * 32, 403),
        ("GET", "/webapi/ping", 200),
        ("POST", "/webapi/login", 415),
        ("GET", "/nothing", 404),
        ("PUT", "/", 405),
        ("HEAD", "/", 200),
        ("GET", STYLE_PATH, 200),
    ]
    for method, target, status in requests:
        async with http.request(method, target) as response:
            assert response.status == status, target
            headers = dict(response.headers)
        assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Server"] == "teleport"
        assert "Strict-Transport-Security" not in headers, "self-signed: a person must be able to go on"
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["Cache-Control"] == (
            "no-store" if target != STYLE_PATH else "public, max-age=31536000, immutable"
        )
    assert "script" not in CONTENT_SECURITY_POLICY.replace("default-src 'none'", "")
    assert "unsafe" not in CONTENT_SECURITY_POLICY


async def test_pages_bring_nothing_from_elsewhere(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """A page names one address, its style sheet here; it has no script and no style of its own."""
    for path in ("/", await cluster.invite(), "/nothing"):
        async with http.get(path) as response:
            page = await response.text()
        assert re.findall(r'(?:src|href|action)="([^"#]+)"', page.replace('href="otpauth:', 'otp="')) in (
            [STYLE_PATH],
            [STYLE_PATH, "/"],
        )
        assert "<script" not in page
        assert " style=" not in page
        assert "<style" not in page
    async with http.get(STYLE_PATH) as response:
        tag = response.headers["ETag"]
        assert "url(" not in await response.text()
    async with http.get(STYLE_PATH, headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")


async def test_the_host_header_goes_nowhere(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """What a request says that we are called is not repeated: links and commands name the address of the settings."""
    for path in ("/", await cluster.invite(), "/nothing"):
        async with http.get(path, headers={"Host": "evil.example"}, allow_redirects=False) as response:
            assert "evil" not in await response.text() + str(response.headers)
    async with http.get("/") as response:
        assert f"tsh --proxy=proxy.main.example:{cluster.port} --user=NAME login" in await response.text()


async def test_nothing_redirects(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """No path leads off this site, or anywhere."""
    for path in ("//evil.example/", "/%2f%2fevil.example", "/?next=https://evil.example", "/web", "/web/newuser"):
        async with http.get(URL(cluster.base + path, encoded=True), allow_redirects=False) as response:
            assert response.status in (200, 404)
            assert "Location" not in response.headers


async def test_a_request_that_is_not_http_is_told_so_and_cut(cluster: WebCluster) -> None:
    """Garbage is answered with 400 and the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port, ssl=cluster.trust())
    writer.write(b"GET / HTTP/nine\r\n\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b"text/plain" in answer
    writer.close()
    await writer.wait_closed()


# --- signing up ------------------------------------------------------------------------------------------------------


async def test_a_person_signs_up_and_logs_in(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """The page shows the secret; password and code make the account; the next page tells the command; login works."""
    path = await cluster.invite("joe", "joe", "root")
    async with http.get(path) as response:
        assert response.status == 200
        page = await response.text()
    assert "Welcome, " in page
    assert ">joe</span>" in page
    assert re.search(r'<time datetime="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ">\d\d:\d\d UTC on \d\d \w+ \d{4}</time>', page)
    assert "<svg" in page
    shown = SECRET.search(page)
    assert shown
    totp = pyotp.TOTP(shown[1].replace(" ", ""))
    now = cluster.clock.now()
    fields = {"user": "root", "password": PASSWORD, "again": PASSWORD, "otp": totp.at(now)}
    async with http.post(path, data=fields) as response:
        assert response.status == 200
        page = await response.text()
    assert "You are signed up" in page
    assert f"tsh --proxy=proxy.main.example:{cluster.port} --user=joe login" in page
    async with http.post("/webapi/login", json=login(totp.at(now + timedelta(seconds=30)))) as response:
        assert response.status == 200
    events = [json.loads(line) for line in cluster.events().splitlines()]
    (event,) = [event for event in events if event["event"] == "user.signup"]
    assert (event["user"], event["addr.remote"]) == ("joe", "127.0.0.1")


async def test_a_link_works_once_and_says_so(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """Of two submissions one makes the account; the other, and the page opened again, tell what to do."""
    path = await cluster.invite()
    async with http.get(path) as response:
        shown = SECRET.search(await response.text())
    assert shown
    otp = code(cluster, pyotp.TOTP(shown[1].replace(" ", "")))
    fields = {"password": PASSWORD, "again": PASSWORD, "otp": otp}
    answers = await asyncio.gather(http.post(path, data=fields), http.post(path, data=fields))
    assert sorted(answer.status for answer in answers) == [200, 403]
    for answer in (*answers, await http.get(path)):
        if answer.status == 403:
            page = await answer.text()
            assert "used" in page
            assert "Did you sign up with this link a moment ago?" in page
            assert "--user=NAME login" in page
        answer.release()
    users = (await cluster.admin.call(methods.USERS_LIST, Nothing())).users
    assert [(user.name, user.status) for user in users] == [("joe", "active")]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"again": "something else"}, "The two passwords are not the same."),
        ({"password": "short", "again": "short"}, "The password has fewer than 8 characters."),
        ({"password": "p" * 513, "again": "p" * 513}, "The password has more than 512 characters."),
        ({"password": "p" * 5000, "again": "p" * 5000}, "longer than 1024 characters"),
        ({"otp": "000000"}, "The one-time password is not right."),
        ({"otp": ""}, "The one-time password is not right."),
    ],
)
async def test_a_mistake_is_told_on_the_page_and_can_be_mended(
    cluster: WebCluster, http: aiohttp.ClientSession, changes: dict[str, str], says: str
) -> None:
    """The form comes back with what to do, the same secret and nothing that was typed; the next try succeeds."""
    path = await cluster.invite()
    async with http.get(path) as response:
        shown = SECRET.search(await response.text())
    assert shown
    right = {
        "password": PASSWORD,
        "again": PASSWORD,
        "otp": code(cluster, pyotp.TOTP(shown[1].replace(" ", ""))),
    }
    typed = {**right, **changes}
    async with http.post(path, data=typed) as response:
        assert response.status == 400
        page = await response.text()
    assert says in page
    assert 'role="alert"' in page
    assert shown[0] in page
    assert typed["password"] not in page.replace('name="password"', "")
    assert re.findall(r'value="([^"]*)"', page) == ["joe"]
    async with http.post(path, data=right) as response:
        assert response.status == 200


async def test_a_link_that_is_not_good_says_what_to_do(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """Unknown and revoked links are 403 and send to the administrator; a mangled one is 404, and told to be copied."""
    path = await cluster.invite()
    await cluster.admin.call(methods.TOKENS_DELETE, TokenValue.model_validate({"token": path.rsplit("/", 1)[1]}))
    for bad in (path, "/web/newuser/" + "f" * 32):
        async with http.get(bad) as response:
            assert response.status == 403
            page = await response.text()
        assert "expired, was used, or never was" in page
        assert "Ask an administrator for a new one" in page
    for mangled in (path + "/", path + ".", "/web/newuser/", "/web/newuser/" + "x" * 500, "/web/newuser/%00<b>"):
        async with http.get(mangled) as response:
            assert response.status == 404
            page = await response.text()
        assert "Copy the whole link" in page
        assert "<b>" not in page


async def test_guessing_links_locks_the_address_out(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """After five unknown links even a good one is refused to that address, and says until when."""
    path = await cluster.invite()
    for guess in range(5):
        async with http.get(f"/web/newuser/{guess:032x}") as response:
            assert response.status == 403
    async with http.get(path) as response:
        assert response.status == 403
        assert "Locked after 5 failed attempts until" in await response.text()


async def test_without_a_second_factor_the_page_asks_for_none(tmp_path: Path) -> None:
    """With second_factor off there is no secret and no code, and the password alone makes the account."""
    options = AuthOptions(address="127.0.0.1", port=0, cluster_name="main", second_factor="off")
    async with web_cluster(tmp_path, auth=options) as cluster, cluster.http() as http:
        path = await cluster.invite()
        async with http.get(path) as response:
            page = await response.text()
        assert "One-time" not in page
        assert "otp" not in page
        async with http.post(path, data={"password": PASSWORD, "again": PASSWORD}) as response:
            assert response.status == 200
        async with http.post("/webapi/login", json=login("")) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_another_site_cannot_send_the_form(
    cluster: WebCluster, http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    """What a browser sends from a page of another site is refused and changes nothing; the login API's posts too."""
    path = await cluster.invite()
    async with http.post(path, data={"password": PASSWORD}, headers=headers) as response:
        assert response.status == 403
        assert "another site" in await response.text()
    async with http.post("/webapi/login", json=login("123456"), headers=headers) as response:
        assert response.status == 403
    assert "user.signup" not in cluster.events()


@pytest.mark.parametrize("own", [{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, {"Origin": "BASE"}], ids=str)
async def test_the_own_page_can_send_the_form(
    cluster: WebCluster, http: aiohttp.ClientSession, own: dict[str, str]
) -> None:
    """Browsers of today send `Origin: null` for a page without referrers and say same-origin; older ones the origin."""
    path = await cluster.invite()
    headers = {name: cluster.base if value == "BASE" else value for name, value in own.items()}
    async with http.post(path, data={"password": "short", "again": "short"}, headers=headers) as response:
        assert response.status == 400
        assert "fewer than 8" in await response.text()


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"password", "application/x-www-form-urlencoded", 400),
        (b"", "application/x-www-form-urlencoded", 400),
        (b"password=%ff&again=%ff", "application/x-www-form-urlencoded", 400),
        (b"password=\xff", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"f%d=1" % n for n in range(99)), "application/x-www-form-urlencoded", 400),
        (b"password=" + b"p" * 1024**2, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"--x\r\n", "multipart/form-data; boundary=x", 415),
    ],
    ids=["no value", "empty", "no UTF-8", "no ASCII", "many fields", "too large", "JSON", "multipart"],
)
async def test_a_form_that_no_browser_sends_is_refused(
    cluster: WebCluster, http: aiohttp.ClientSession, body: bytes, content_type: str, status: int
) -> None:
    """Whatever arrives in place of the form gets a page, and the link stays good."""
    path = await cluster.invite()
    async with http.post(path, data=io.BytesIO(body), headers={"Content-Type": content_type}) as response:
        assert (response.status, response.content_type) == (status, "text/html")
    async with http.get(path) as response:
        assert response.status == 200


async def test_an_interrupted_sign_up_leaves_nothing_half_done(
    cluster: WebCluster, http: aiohttp.ClientSession
) -> None:
    """Cut in the middle of the form, nothing has happened; cut after it, the account is whole and the link used up."""
    path = await cluster.invite()
    async with http.get(path) as response:
        shown = SECRET.search(await response.text())
    assert shown
    totp = pyotp.TOTP(shown[1].replace(" ", ""))
    body = f"password=correct+horse+battery&again=correct+horse+battery&otp={code(cluster, totp)}".encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['Content-Type']}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    for sent in range(0, len(body), 16):
        await cut_after(cluster, head + body[:sent])
    async with http.get(path) as response:
        assert response.status == 200
    users = (await cluster.admin.call(methods.USERS_LIST, Nothing())).users
    assert [user.status for user in users] == ["invited"]
    await cut_after(cluster, head + body)
    async with asyncio.timeout(10):
        while [user.status for user in users] != ["active"]:
            users = (await cluster.admin.call(methods.USERS_LIST, Nothing())).users
    async with http.get(path) as response:
        assert response.status == 403
    async with http.post("/webapi/login", json=login(code(cluster, totp, steps=1))) as response:
        assert response.status == 200


async def cut_after(cluster: WebCluster, data: bytes) -> None:
    """Send some bytes over TLS, and cut the connection without a farewell."""
    _, writer = await asyncio.open_connection("127.0.0.1", cluster.port, ssl=cluster.trust())
    writer.write(data)
    await writer.drain()
    writer.transport.abort()


# --- what is written down --------------------------------------------------------------------------------------------


async def test_no_log_holds_a_secret(
    cluster: WebCluster, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Tokens, passwords and codes are in no log at any level, however oddly they arrive; who did what is."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "asyncssh")
    path = await cluster.invite()
    token = path.rsplit("/", 1)[1]
    for odd in (path, path + "/x", f"/web/%6eewuser/{token}", f"//web/newuser/{token}", f"/webapi/{token}"):
        async with http.get(URL(cluster.base + odd, encoded=True)) as response:
            await response.read()
    async with http.get(path, params={"token": token}, headers={"Referer": f"https://x/{token}"}) as response:
        assert response.status == 200
    fields = {"password": "s3cret-password", "again": "s3cret-password", "otp": "987654"}
    async with http.post(path, data=fields) as response:
        assert response.status == 400
    async with http.post("/webapi/login", json=login("987654", password="s3cret-password")) as response:
        assert response.status == 403
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port, ssl=cluster.trust())
    writer.write(f"GET {path} HTTP/nine\r\nX-\0: {token}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()
    await writer.wait_closed()
    for secret in (token, "s3cret-password", "987654"):
        assert secret not in caplog.text
        assert secret not in cluster.events()
    lines = [record.getMessage() for record in caplog.records if record.name == "runtime.proxy.access"]
    assert any(re.fullmatch(r'127\.0\.0\.1 "GET /web/newuser/\{token\}" 200 \d+ \d\.\d{3}', line) for line in lines)
    assert any(line.startswith('127.0.0.1 "POST /webapi/login" 403 ') for line in lines)
    assert any(line.startswith('127.0.0.1 "GET -" 404 ') for line in lines)


async def test_the_address_is_the_peers(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """Nobody chooses the address under which failures are counted: headers of proxies mean nothing."""
    headers = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9"}
    async with http.post("/webapi/login", json=login("123456"), headers=headers) as response:
        assert response.status == 403
    unknown = "/web/newuser/" + "0" * 32
    async with http.get(unknown, headers=headers) as response:
        assert response.status == 403
    fields = {"password": PASSWORD, "again": PASSWORD, "otp": "123456"}
    async with http.post(unknown, data=fields, headers=headers) as response:
        assert response.status == 403
    events = [json.loads(line) for line in cluster.events().splitlines()]
    assert [event["addr.remote"] for event in events if event["event"] == "auth"] == ["127.0.0.1"] * 3
