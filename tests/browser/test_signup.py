"""The sign-up page in a real browser: from the link to a login, with the keyboard, on a phone, without JavaScript."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
from playwright.async_api import Browser, Page

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.auth.server import AuthOptions
from runtime.pki.keys import generate_key
from tests.servers.programs import run
from tests.servers.webproxy import PASSWORD, WebCluster, web_cluster


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Yield an empty page as wide as a phone, without JavaScript; what the browser complains of fails the test."""
    context = await browser.new_context(
        ignore_https_errors=True,  # the certificate is the proxy's own
        java_script_enabled=False,
        viewport={"width": 360, "height": 740},
        service_workers="block",
    )
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
    yield page
    await context.close()
    assert [each for each in complaints if "status of 400" not in each and "status of 403" not in each] == []


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[WebCluster]:
    """Yield auth and proxy, running."""
    async with web_cluster(tmp_path) as cluster:
        yield cluster


async def totp_on(page: Page) -> pyotp.TOTP:
    """Return what an authenticator app would make of the secret that is written on the page."""
    secret = await page.locator("#secret").text_content()
    assert secret
    return pyotp.TOTP(secret.replace(" ", ""))


async def log_in(cluster: WebCluster, otp: str) -> int:
    """Log joe in over the API, and return the status."""
    body = {"user": "joe", "password": PASSWORD, "otp": otp, "public_key": generate_key().public.line}
    async with cluster.http() as http, http.post("/webapi/login", json=body) as response:
        return response.status


async def test_a_person_signs_up_with_a_phone_and_logs_in(cluster: WebCluster, page: Page, tmp_path: Path) -> None:
    """Scan the code, type, be told of a mistake, mend it, be told the command; the login works with the next code."""
    await page.goto(cluster.base + await cluster.invite())
    assert await page.title() == "Sign up to main · Teleport"
    totp = await totp_on(page)

    # What a phone's camera sees is the secret that is written below.
    picture = tmp_path / "code.png"
    await page.locator(".qr-code").screenshot(path=picture)
    status, seen = await run("zbarimg", "-q", "--raw", picture)
    assert status == 0
    scanned = pyotp.parse_uri(seen.splitlines()[-1])  # what comes before is talk about a missing D-Bus
    assert (scanned.secret, scanned.name, scanned.issuer) == (totp.secret, "joe", "Teleport main")

    now = cluster.clock.now()
    await page.fill("#password", PASSWORD)
    await page.fill("#again", PASSWORD)
    await page.fill("#otp", "000 000")
    await page.click("button")
    assert "The one-time password is not right." in (await page.locator("[role=alert]").text_content() or "")
    assert [await page.input_value(field) for field in ("#password", "#again", "#otp")] == ["", "", ""]
    assert (await totp_on(page)).secret == totp.secret

    await page.fill("#password", PASSWORD)
    await page.fill("#again", PASSWORD)
    await page.fill("#otp", totp.at(now))
    await page.click("button")
    assert await page.locator("h1").text_content() == "You are signed up"
    command = f"tsh --proxy=proxy.main.example:{cluster.port} --user=joe login"
    assert await page.locator("#command").text_content() == command
    assert await log_in(cluster, totp.at(now + timedelta(seconds=30))) == 200

    await page.goto(page.url)
    assert "used" in (await page.locator("main").text_content() or "")


async def test_the_browser_checks_before_it_sends(cluster: WebCluster, page: Page) -> None:
    """Empty fields, a short password and letters for digits do not leave the browser."""
    await page.goto(cluster.base + await cluster.invite())
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    for typed in (
        {},
        {"#password": "short", "#again": "short"},
        {"#password": PASSWORD, "#again": PASSWORD, "#otp": "abc"},
    ):
        for field, value in typed.items():
            await page.fill(field, value)
        await page.click("button")
    assert await page.locator("[role=alert]").count() == 0
    assert posts == []


async def test_the_keyboard_is_enough(cluster: WebCluster, page: Page) -> None:
    """The first field to fill has the focus; tab leads through the form in order, and enter sends it."""
    await page.goto(cluster.base + await cluster.invite())
    totp = await totp_on(page)
    for text in (PASSWORD, PASSWORD):
        await page.keyboard.type(text)
        await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")  # the link that opens the app
    await page.keyboard.type(totp.at(cluster.clock.now()))
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#command")
    assert await page.locator("h1").text_content() == "You are signed up"


async def test_nothing_leaves_the_site(cluster: WebCluster, browser: Browser) -> None:
    """Opening and sending the page asks this proxy only, and no request carries the link as its referrer."""
    context = await browser.new_context(ignore_https_errors=True)
    page = await context.new_page()
    asked: list[tuple[str, str]] = []
    page.on("request", lambda request: asked.append((request.url, request.headers.get("referer", ""))))
    await page.goto(cluster.base + await cluster.invite())
    await page.fill("#password", PASSWORD)
    await page.fill("#again", PASSWORD)
    await page.fill("#otp", "000000")
    await page.click("button")
    await page.wait_for_selector("[role=alert]")
    await context.close()
    assert len(asked) >= 3
    assert all(url.startswith(cluster.base + "/") and referrer == "" for url, referrer in asked)


async def test_a_script_on_the_page_would_not_run(cluster: WebCluster, browser: Browser) -> None:
    """Should markup slip through one day, the policy still stops scripts, styles, frames and forms to elsewhere."""
    context = await browser.new_context(ignore_https_errors=True)
    page = await context.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    await page.goto(cluster.base + await cluster.invite())
    await page.evaluate(
        """() => {
            const add = (tag, fields) => document.body.appendChild(Object.assign(document.createElement(tag), fields));
            add("script", {textContent: "window.ran = true"});
            add("style", {textContent: "body {display: none}"});
            add("img", {src: "https://evil.example/x.png"});
            add("iframe", {src: "https://evil.example/"});
            add("form", {action: "https://evil.example/", method: "post"}).submit();
        }"""
    )
    async with page.expect_event("console", lambda message: "form-action" in message.text, timeout=10_000):
        await page.evaluate("() => document.forms[document.forms.length - 1].submit()")
    assert await page.evaluate("() => window.ran") is None
    assert await page.evaluate("() => getComputedStyle(document.body).display") == "block"
    for directive in ("script-src", "style-src", "default-src", "form-action"):
        assert any(directive in text for text in refused), directive
    await context.close()


async def test_the_page_fits_a_small_phone(cluster: WebCluster, page: Page) -> None:
    """Nothing is wider than the screen, whatever the names, and every control is large enough for a finger."""
    name = "a-name-of-a-user-that-is-much-longer-than-anybody-would-like-to-type-on-a-phone"
    await page.set_viewport_size({"width": 320, "height": 568})
    for path in (await cluster.invite(name, "root"), "/web/newuser/" + "0" * 32, "/"):
        await page.goto(cluster.base + path)
        for element in await page.locator("main, main *:not(svg *)").all():
            box = await element.bounding_box()
            assert box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 320
    await page.goto(cluster.base + await cluster.invite())
    for control in await page.locator("input, button").all():
        box = await control.bounding_box()
        assert box
        assert box["height"] >= 44  # WCAG 2.2, 2.5.5


async def test_without_a_second_factor_the_password_is_enough(page: Page, tmp_path: Path) -> None:
    """With second_factor off there is one secret less to keep."""
    options = AuthOptions(address="127.0.0.1", port=0, cluster_name="main", second_factor="off")
    async with web_cluster(tmp_path, auth=options) as cluster:
        await page.goto(cluster.base + await cluster.invite())
        assert await page.locator("#otp").count() == 0
        await page.fill("#password", PASSWORD)
        await page.fill("#again", PASSWORD)
        await page.click("button")
        await page.wait_for_selector("#command")
        assert await log_in(cluster, "") == 200
        users = (await cluster.admin.call(methods.USERS_LIST, Nothing())).users
        assert [user.status for user in users] == ["active"]
