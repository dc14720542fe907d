"""The pages that the proxy renders itself. They work without JavaScript, and everything in them is escaped."""

from __future__ import annotations

import hashlib
import io
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import parse_qs, urlsplit

import segno
from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from runtime.api.people_messages import SignupForm
from runtime.core.defaults import PROXY_WEB_PORT
from runtime.proxy.faults import Fault

STYLE = (files("runtime.proxy") / "templates" / "style.css").read_bytes()
STYLE_TAG = hashlib.sha256(STYLE).hexdigest()[:16]
STYLE_PATH = f"/web/style-{STYLE_TAG}.css"
"""The address changes with the content, so that browsers may keep it for ever."""


@dataclass(frozen=True, slots=True)
class OtpSecret:
    """The secret of an authenticator app: as a QR code (SVG), the link behind it, and in groups for typing."""

    qr_code: Markup
    uri: str
    typed: str


class Pages:
    """Renders pages. `address` is host:port under which people know this proxy."""

    def __init__(self, address: str) -> None:
        self._address = address.removesuffix(f":{PROXY_WEB_PORT}")
        self._environment = Environment(
            loader=PackageLoader("runtime.proxy", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["style"] = STYLE_PATH
        self._environment.filters["sentence"] = _sentence

    def index(self, *, cluster: str) -> web.Response:
        """Return what stands at `/`."""
        return self._page("index.html", cluster=cluster, command=self._login_command("NAME"))

    def signup(self, form: SignupForm, *, cluster: str, fault: Fault | None = None) -> web.Response:
        """Return the form of a sign-up link, with what was wrong in the last try. It keeps nothing that was typed."""
        secret = otp_secret(form.otp_uri) if form.otp_uri else None
        status = fault.status if fault else 200
        return self._page("signup.html", status=status, cluster=cluster, form=form, secret=secret, fault=fault)

    def signed_up(self, user: str, *, cluster: str) -> web.Response:
        """Return what a person sees who has signed up, with the command that comes next."""
        return self._page("signed_up.html", cluster=cluster, user=user, command=self._login_command(user))

    def signup_refused(self, fault: Fault) -> web.Response:
        """Return what a link that is not (or no longer) good shows."""
        command = self._login_command("NAME")
        return self._page(
            "signup_refused.html", status=fault.status, headers=fault.headers, fault=fault, command=command
        )

    def fault(self, fault: Fault) -> web.Response:
        """Return the page of an error."""
        return self._page("fault.html", status=fault.status, headers=fault.headers, fault=fault)

    def _login_command(self, user: str) -> str:
        """Return the manual's command ("Adding and Deleting Users"). Nothing in it can leave its quotes."""
        return shlex.join(["tsh", f"--proxy={self._address}", f"--user={user}", "login"])

    def _page(
        self, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: object
    ) -> web.Response:
        text = self._environment.get_template(template).render(values)
        return web.Response(text=text, status=status, headers=headers, content_type="text/html")


def _sentence(text: str) -> str:
    """Return an error's message, which starts in lower case and has no full stop, as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def otp_secret(uri: str) -> OtpSecret:
    """Return an otpauth:// URI as a page shows it."""
    svg = io.BytesIO()
    segno.make(uri, error="m").save(
        svg, kind="svg", border=4, light="#fff", omitsize=True, xmldecl=False, svgclass=None, lineclass=None
    )
    secret = parse_qs(urlsplit(uri).query).get("secret", [""])[0]
    groups = " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))
    return OtpSecret(Markup(svg.getvalue().decode()), uri, groups)  # noqa: S704 - segno's, made of numbers
