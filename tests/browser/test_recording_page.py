"""An exported page in a real browser, from a file and without a network: it plays, and nothing in it runs or leaves."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from runtime.audit.asciicast import asciicast
from runtime.audit.page import page, player
from runtime.audit.reading import entries
from tests.servers.recorded import SID, Recorded

Steps = Sequence[tuple[int, bytes | str]]

HOSTILE = (
    "</script><script>window.evil = 1</script>",
    "<!-- <script> ",
    "--></main></body>",
    "<img src=https://evil.example/x onerror=window.evil=1>",
    "<svg/onload=window.evil=1>",
    "]]>{{window.evil=1}}&lt;&#60;",
    "\x1b]8;;javascript:window.evil=1\x07link\x1b]8;;\x07",
    "\u202egpj.exe",
)
"""What somebody could print, or call a command, to get out of the place where a page shows it."""


ESCAPES = """async address => {
    const add = (tag, fields) => document.body.appendChild(Object.assign(document.createElement(tag), fields));
    add("script", {textContent: "window.ran = true"});
    add("style", {textContent: "body {display: none}"});
    add("img", {src: `http://${address}/x.png`});
    add("iframe", {src: `http://${address}/`});
    add("link", {rel: "stylesheet", href: `http://${address}/x.css`});
    add("base", {href: `http://${address}/`});
    add("form", {action: `http://${address}/`, method: "post"});
    const tries = [
        () => fetch(`http://${address}/`),
        () => new EventSource(`http://${address}/`).close(),
        () => new WebSocket(`ws://${address}/`),
        () => import(`http://${address}/x.mjs`),
        () => eval("1"),
        () => new Worker("data:text/javascript,1"),
        () => navigator.sendBeacon(`http://${address}/`, "x"),
    ];
    for (const attempt of tries) { try { await attempt(); } catch {} }
}"""
"""Ways out of a page."""


@dataclass(slots=True)
class Opened:
    """A page, what it asked for, and what the browser complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def play(self) -> None:
        """Play it to its end."""
        await self.page.wait_for_selector(".ap-overlay-start")
        await self.page.keyboard.press("Space")
        await self.page.wait_for_selector(".ap-overlay-start", state="detached")

    async def shows(self, *texts: str) -> None:
        """Wait until the terminal shows all of these."""
        for text in texts:
            await self.page.wait_for_function(
                "text => document.querySelector('.ap-term-text').textContent.replaceAll('\\u00a0', ' ').includes(text)",
                arg=text,
                timeout=20_000,
            )


@pytest.fixture
async def opened(browser: Browser) -> AsyncIterator[Opened]:
    """Yield an empty page of a browser without a network; it asks for one file, and nothing is complained of."""
    context = await browser.new_context(offline=True, service_workers="block")
    opened = Opened(await context.new_page())
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.on("websocket", lambda socket: opened.requests.append(socket.url))
    opened.page.on("console", lambda message: opened.complaints.append(message.text))
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    yield opened
    await context.close()


async def open_page(opened: Opened, folder: Path, recorded: Recorded, *, idle_limit: float | None = None) -> str:
    """Write a page and open it from its file; return what is in it."""
    file = folder / "session.html"
    text = "".join(page(entries(recorded), player(), idle_limit=idle_limit))
    file.write_text(text)
    await opened.page.goto(file.as_uri())
    return text


def undisturbed(opened: Opened, folder: Path) -> bool:
    """Tell whether the file was all that was asked for, and the browser content."""
    assert opened.complaints == []
    return opened.requests == [(folder / "session.html").as_uri()]


async def test_a_page_plays_from_a_file_without_a_network(opened: Opened, tmp_path: Path) -> None:
    """Who, where, when and what; all that was printed, also after a resize; nothing is asked for but the file."""
    steps: Steps = [
        (100, b"\x1b[1mhello\x1b[0m w\xc3"),
        (200, b"\xb6rld\r\n"),
        (300, "100:30"),
        (400, b"\xff and a line of ninety characters: " + b"x" * 55 + b"|"),
    ]
    await open_page(opened, tmp_path, Recorded(steps, command="make <all>", server_id="db1"))
    assert await opened.page.title() == "joe as root on 192.0.2.5:3022, 2026-11-22 20:15:00 UTC"
    about = await opened.page.locator("dl").inner_text()
    for text in ("2026-11-22 20:15:00 UTC", "joe", "root", "192.0.2.5:3022 db1", "make <all>", SID):
        assert text in about
    await opened.play()
    await opened.shows("hello wörld", "\ufffd and a line of ninety characters: " + "x" * 55 + "|")
    assert await opened.page.locator(".note").count() == 0
    assert undisturbed(opened, tmp_path)


async def test_nothing_that_was_printed_is_markup(opened: Opened, tmp_path: Path) -> None:
    """Neither what a session prints nor what its user calls a command gets out of where it is shown."""
    evil = "".join(HOSTILE)
    fields: dict[str, Any] = dict.fromkeys(("user", "login", "command", "addr.local", "addr.remote", "server_id"), evil)
    recorded = Recorded([(number, f"{text}\r\n".encode()) for number, text in enumerate(HOSTILE)], **fields)
    text = await open_page(opened, tmp_path, recorded)
    assert len(re.findall("(?i)<script", text)) == 2  # the recording, and the player
    assert len(re.findall("(?i)</script", text)) == 2
    assert "<!-- " not in text
    assert "\u202e" not in text
    await opened.play()
    await opened.shows(HOSTILE[0], HOSTILE[1], HOSTILE[3], "link")
    assert await opened.page.evaluate("() => window.evil") is None
    assert await opened.page.locator("img, iframe, a[href], main script[src], svg[onload]").count() == 0
    assert "<img src=https://evil.example/x onerror=window.evil=1>" in await opened.page.locator("h1").inner_text()
    assert undisturbed(opened, tmp_path)


async def test_the_page_lets_nothing_else_run_and_nothing_out(browser: Browser, tmp_path: Path) -> None:
    """Should markup slip through one day: no script or style runs, and a server that is there hears of nothing."""
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Chromium connects for a frame or a form before it looks at the policy, and then says nothing.
        if data := await reader.read(4096):
            heard.append(data)
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, await browser.new_context() as context:
        opened = Opened(await context.new_page())
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        text = await open_page(opened, tmp_path, Recorded([(1, b"x")]))
        await opened.page.wait_for_selector(".ap-overlay-start")
        await opened.page.evaluate(ESCAPES, address)
        async with opened.page.expect_event("console", lambda message: "form-action" in message.text, timeout=10_000):
            await opened.page.evaluate("() => document.forms[0].submit()")
        assert await opened.page.evaluate("() => window.ran") is None
        assert await opened.page.evaluate("() => getComputedStyle(document.body).display") == "block"
        for directive in ("script-src", "style-src", "img-src", "frame-src", "connect-src", "worker-src", "base-uri"):
            assert any(directive in text for text in opened.complaints), directive
        assert heard == []

        # Without the policy the same tries are heard of, so that the silence above means something.
        (tmp_path / "session.html").write_text(re.sub("<meta http-equiv[^>]*>", "", text))
        await opened.page.goto((tmp_path / "session.html").as_uri())
        await opened.page.evaluate(ESCAPES, address)
        assert heard


@pytest.mark.parametrize(
    ("recorded", "note"),
    [
        (Recorded([(1, b"so far")], over=False), "still running"),
        (Recorded([]), ""),
        (Recorded([(1, b"x" * 3_000_000)]), ""),
        (Recorded([(1, b"line\n" * 3)], size=None), ""),
    ],
    ids=["running", "empty", "a huge line", "no terminal"],
)
async def test_odd_recordings(recorded: Recorded, note: str, opened: Opened, tmp_path: Path) -> None:
    """They play as far as they go, and the page says what is missing."""
    await open_page(opened, tmp_path, recorded)
    await opened.page.wait_for_selector(".ap-overlay-start")
    assert note in " ".join(await opened.page.locator(".note").all_inner_texts())
    assert await opened.page.locator(".note").count() == bool(note)
    if recorded.printed:
        await opened.play()
        await opened.shows(recorded.printed[-4:].decode().strip())
    assert undisturbed(opened, tmp_path)


async def test_a_page_that_was_cut_off_says_so(opened: Opened, tmp_path: Path) -> None:
    """Half a file, or one that was changed, is no silent nothing."""
    text = "".join(page(entries(Recorded([(1, b"x")])), player()))
    data = re.search(r'id="recording">([^<]+)<', text)
    assert data
    broken = base64.b64encode(base64.b64decode(data[1])[:-12]).decode()
    (tmp_path / "session.html").write_text(text.replace(data[1], broken))
    await opened.page.goto((tmp_path / "session.html").as_uri())
    await opened.page.get_by_text("cannot be unpacked").wait_for()
    assert undisturbed(opened, tmp_path)


async def test_the_page_fits_a_phone_and_both_colours(browser: Browser, tmp_path: Path) -> None:
    """Nothing is wider than the screen, and text keeps its contrast in the dark."""
    file = tmp_path / "session.html"
    recorded = Recorded([(1, b"x")], command="a" * 300)
    file.write_text("".join(page(entries(recorded), player())))
    for scheme in ("light", "dark"):
        context = await browser.new_context(viewport={"width": 320, "height": 568}, color_scheme=scheme, offline=True)
        opened = await context.new_page()
        await opened.goto(file.as_uri())
        await opened.wait_for_selector(".ap-overlay-start")
        assert await opened.evaluate("() => document.documentElement.scrollWidth") <= 320
        colours: Iterable[str] = await opened.evaluate(
            "() => [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        ink, paper = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
        assert abs(ink - paper) > 500
        await context.close()


async def test_the_same_asciicast_plays(opened: Opened, tmp_path: Path) -> None:
    """What is in the page is what `--format=asciicast` writes."""
    recorded = Recorded([(1, b"x\xff"), (9000, b"y")])
    text = await open_page(opened, tmp_path, recorded, idle_limit=0.5)
    found = re.search(r'id="recording">([^<]+)<', text)
    assert found
    unpacked = await opened.page.evaluate(
        """async packed => {
            const bytes = Uint8Array.from(atob(packed), character => character.charCodeAt(0));
            return await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
        }""",
        found[1],
    )
    assert unpacked.splitlines() == list(asciicast(entries(recorded), idle_limit=0.5))
    await opened.play()
    await opened.shows("x\ufffdy")
