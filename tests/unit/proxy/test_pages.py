"""Pages are escaped, whole, and hold no more than they need."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser

import pytest
from aiohttp import web

from runtime.api.people_messages import SignupForm
from runtime.proxy.faults import Fault
from runtime.proxy.pages import STYLE, Pages, otp_secret

HOSTILE = """<script>alert(1)</script>"><img src=x onerror='alert(1)'>{{ 7 * 7 }} & $(reboot) `reboot`; reboot"""
EXPIRES = datetime(2026, 11, 22, 19, 9, 34, tzinfo=UTC)
URI = "otpauth://totp/Teleport%20main:joe?secret=LEPPUYVXGM54QIYHZUOPQP5HLWBI42SB&issuer=Teleport%20main"
FAULT = Fault(403, "AccessDenied", HOSTILE, HOSTILE)


def text(response: web.Response) -> str:
    """Return a page's text."""
    assert response.text is not None
    return response.text


def form(user: str = "joe", uri: str = URI) -> SignupForm:
    """Return what auth says of a sign-up link."""
    return SignupForm(user=user, second_factor="otp" if uri else "off", otp_uri=uri, expires=EXPIRES)


PAGES = Pages("proxy.example:3080")
ALL = {
    "index": lambda: PAGES.index(cluster=HOSTILE),
    "signup": lambda: PAGES.signup(form(HOSTILE, f"otpauth://totp/{HOSTILE}?secret={HOSTILE}"), cluster=HOSTILE),
    "signup again": lambda: PAGES.signup(form(HOSTILE), cluster=HOSTILE, fault=FAULT),
    "signed up": lambda: PAGES.signed_up(HOSTILE, cluster=HOSTILE),
    "refused": lambda: PAGES.signup_refused(FAULT),
    "fault": lambda: PAGES.fault(FAULT),
}


class Outline(HTMLParser):
    """The elements of a page, and the ids, labels and references in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element; void ones do not stay open."""
        self.attributes.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in {"meta", "link", "input", "path"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that elements end in the order in which they began."""
        if tag != "path":
            assert self.open.pop() == tag


@pytest.mark.parametrize("page", ALL)
def test_hostile_names_are_text(page: str) -> None:
    """Whatever a user, a cluster or an error is called, no page gets an element, attribute or template from it."""
    shown = text(ALL[page]())
    outline = Outline(shown)
    assert outline.open == []
    assert not {"script", "img", "style", "iframe", "object"} & {tag for tag, _ in outline.attributes}
    assert not [name for _, attributes in outline.attributes for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in unescape(shown)


def test_a_command_cannot_be_left() -> None:
    """The command that a person copies runs tsh with that name and nothing else."""
    shown = unescape(text(PAGES.signed_up(HOSTILE, cluster="main")))
    command = re.search(r'<code id="command">(.*?)</code></pre>', shown, re.DOTALL)
    assert command
    assert shlex.split(command[1]) == ["tsh", "--proxy=proxy.example", f"--user={HOSTILE}", "login"]


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("proxy.example:3080", "proxy.example"),
        ("proxy.example:443", "proxy.example:443"),
        ("[2001:db8::1]:3080", "'[2001:db8::1]'"),
    ],
)
def test_the_command_names_the_proxy(address: str, named: str) -> None:
    """The manual's port is left out, another is named."""
    shown = text(Pages(address).signed_up("joe", cluster="main"))
    assert f"tsh {shlex.quote('--proxy=' + shlex.split(named)[0])} --user=joe login" in unescape(shown)


@pytest.mark.parametrize("page", ALL)
def test_pages_can_be_used_by_everybody(page: str) -> None:
    """A language, a title, one heading, a label for each field, and every reference leads somewhere."""
    outline = Outline(text(ALL[page]()))
    tags = [tag for tag, _ in outline.attributes]
    assert ("html", {"lang": "en"}) in outline.attributes
    assert (tags.count("title"), tags.count("h1"), tags.count("main")) == (1, 1, 1)
    ids = [attributes["id"] for _, attributes in outline.attributes if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = {attributes["for"] for tag, attributes in outline.attributes if tag == "label"}
    assert labels == {attributes["id"] for tag, attributes in outline.attributes if tag == "input"}
    for _, attributes in outline.attributes:
        assert set(attributes.get("aria-describedby", "").split()) <= set(ids)


def test_the_form_helps_password_managers_and_phones() -> None:
    """The fields say what they are for (HTML §4.10.18.7.1), and none of the secret ones has a value."""
    fields = {
        attributes["name"]: attributes
        for tag, attributes in Outline(text(PAGES.signup(form(), cluster="main"))).attributes
        if tag == "input"
    }
    assert {name: field["autocomplete"] for name, field in fields.items()} == {
        "user": "username",
        "password": "new-password",
        "again": "new-password",
        "otp": "one-time-code",
    }
    assert fields["otp"]["inputmode"] == "numeric"
    assert [name for name, field in fields.items() if "value" in field] == ["user"]


def test_the_secret_is_shown_in_groups_and_as_a_drawing() -> None:
    """Four by four for typing; the drawing scales, has a quiet zone, and brings no style of its own."""
    secret = otp_secret(URI)
    assert secret.typed == "LEPP UYVX GM54 QIYH ZUOP QP5H LWBI 42SB"
    assert secret.uri == URI
    size = re.match(r'<svg xmlns="http://www\.w3\.org/2000/svg" viewBox="0 0 (\d+) (\d+)">', secret.qr_code)
    assert size
    assert size[1] == size[2]
    assert (int(size[1]) - 8) % 4 == 1, "4 quiet modules on each side (ISO/IEC 18004), a symbol of 4n + 1"
    assert "style" not in secret.qr_code


def test_without_a_second_factor_there_is_none() -> None:
    """Neither secret nor code."""
    shown = text(PAGES.signup(form(uri=""), cluster="main"))
    assert "svg" not in shown
    assert "otp" not in shown


def test_errors_are_sentences() -> None:
    """A message, which starts in lower case for a terminal, starts in upper case on a page and ends."""
    shown = text(PAGES.fault(Fault(404, "NotFound", "there is nothing here", "Go home.")))
    assert "<strong>There is nothing here.</strong>" in shown
    assert "Go home.</p>" in shown


def _luminance(colour: str) -> float:
    """Return the relative luminance of #rgb or #rrggbb (WCAG 2.2)."""
    digits = colour.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back", "ratio"),
    [
        ("ink", "paper", 7.0),
        ("ink", "shade", 7.0),
        ("ink", "fault-shade", 7.0),
        ("quiet", "paper", 7.0),
        ("fault", "fault-shade", 7.0),
        ("accent", "paper", 7.0),
        ("on-accent", "accent", 7.0),
        ("line", "paper", 3.0),
        ("line", "shade", 3.0),
    ],
)
def test_colours_have_contrast(scheme: int, front: str, back: str, ratio: float) -> None:
    """Text is 7:1 and what bounds a control 3:1, in both colour schemes (WCAG 2.2, 1.4.6 and 1.4.11)."""
    block = re.findall(r":root \{(.*?)\}", STYLE.decode(), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", block))
    brighter, darker = sorted((_luminance(colours[front]), _luminance(colours[back])), reverse=True)
    assert (brighter + 0.05) / (darker + 0.05) >= ratio
